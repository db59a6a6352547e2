// Linears: INT8 to the bit of the exact sums, every other format within its accumulation of the oracle fed with the same
// codes; the library's FP8 products; refusals.
#include "kernels/linear.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>

#include "kernels/registry/registry.h"
#include "tests/kernels/linear_cases.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

const std::vector<LinearCase> shapes{
    {16, 8, 5},  {64, 32, 60, 2, false}, {129, 65, 130}, {7, 1, 1, 1}, {1536, 33, 9, 1, false},
    {384, 8, 3}, {2048, 4, 3},           {520, 65, 70}};

}  // namespace

TEST_CASE("INT8 linears are the exact sums' bits: weights x activations x bias x zero points x static ranges x rules",
          "[isa]") {
  for (const NamedBackend& backend : backends())
    for (const char* weights : {"int8/tensor", "int8/channel", "int8/channel/mse", "int8/tensor/percentile(99)",
                                "int8/channel/compressed-tensors", "int8/channel/onnx", "int8/channel/smoothquant"})
      for (const char* activations :
           {"int8/tensor", "int8/token", "int8/tensor/absmax/static", "int8/tensor/fixed(3)", "int8/token/percentile(99)",
            "int8/token/compressed-tensors", "int8/tensor/onnx", "int8/token/smoothquant", "uint8/tensor", "uint8/token",
            "uint8/tensor/affine", "uint8/token/affine", "uint8/tensor/absmax/static/affine", "uint8/tensor/affine/onnx"})
        for (const LinearCase& c : shapes) {
          const LinearInputs in = inputs_of(c, 4);
          const LinearProblem p = linear_problem(c, weights, activations);
          REQUIRE(backend->supports(p).ok);
          const LinearRun r = run(*backend, p, in);
          const Tensor expected = exact_integer_linear(p, in);
          CAPTURE(backend.name, p.to_string(), c.tokens, c.bias, r.implementation);
          CHECK(same_bits(expected, r.y));
          CHECK(r.counts.elements == in.x.shape().elements());
        }
}

TEST_CASE("FP8, bf16 and f32 linears against the oracle given the same codes; a 1 % fault of any scale is seen", "[isa]") {
  for (const NamedBackend& backend : backends())
    for (const auto& [weights, activations] :
         {std::pair{"f32", "f32"}, std::pair{"bf16", "bf16"}, std::pair{"f32", "bf16"},
          std::pair{"e4m3/channel", "e4m3/token"}, std::pair{"e4m3/tensor", "e4m3/tensor"},
          std::pair{"e5m2/tensor", "e5m2/token"}, std::pair{"e5m2/channel", "e4m3/tensor/absmax/static"},
          std::pair{"e4m3/channel", "bf16"}, std::pair{"bf16", "e5m2/token"}, std::pair{"e4m3/channel/mse", "f32"}})
      for (const LinearCase& c : shapes) {
        const LinearInputs in = inputs_of(c, 5);
        const LinearProblem p = linear_problem(c, weights, activations);
        if (!backend->supports(p)) continue;
        const LinearRun r = run(*backend, p, in);
        CAPTURE(backend.name, p.to_string(), c.tokens, c.bias, r.implementation);
        CHECK(worst_excess(backend.name, p, in, r.y) <= 1.0);
        CHECK(gains(backend.name, p, in, r.y).worst() <= 1.0);
        // What single elements can't show, the gain over all that the scale makes does.
        const auto seen = [&](std::int64_t o, std::int64_t row) {
          if (!(worst_excess(backend.name, p, in, r.y, o, row) <= 1.0)) return true;
          const LinearGains all = gains(backend.name, p, in, r.y, o, row);
          return !((o >= 0 ? all.outputs[static_cast<std::size_t>(o)] : all.rows[static_cast<std::size_t>(row)]).excess() <=
                   1.0);
        };
        for (std::int64_t o = 0; o < p.out; o += 7) CHECK(seen(o, -1));
        for (std::int64_t row = 0; row < c.batch * c.tokens; row += 31) CHECK(seen(-1, row));
      }
}

TEST_CASE("emulated linears are products of dequantized numbers, one quantized operand alone too", "[isa]") {
  for (const NamedBackend& backend : backends())
    for (const auto& [weights, activations] :
         {std::pair{"int8/channel", "int8/token"}, std::pair{"int8/channel", "f32"}, std::pair{"f32", "int8/token"},
          std::pair{"bf16", "uint8/tensor/affine"}, std::pair{"int8/tensor", "int8/tensor/absmax/static"},
          std::pair{"e4m3/channel", "e5m2/tensor"}, std::pair{"e4m3/tensor", "int8/token"}})
      for (const LinearCase& c : shapes) {
        const LinearInputs in = inputs_of(c, 15);
        const LinearProblem p = linear_problem(c, weights, activations, ExecutionMode::emulated);
        if (!backend->supports(p)) continue;
        const LinearRun r = run(*backend, p, in);
        CAPTURE(backend.name, p.to_string(), c.tokens, c.bias, r.implementation);
        CHECK(worst_excess(backend.name, p, in, r.y) <= 1.0);
        for (std::int64_t o = 0; o < p.out; o += 7) CHECK_FALSE(worst_excess(backend.name, p, in, r.y, o) <= 1.0);
        if (quant::is_scaled(p.activations.format)) CHECK(r.counts.elements == in.x.shape().elements());
      }
}

TEST_CASE("one input through linears of different schemes, one after another, as q, k and v read it", "[threads]") {
  for (const NamedBackend& backend : backends()) {
    const LinearCase c{64, 32, 9};
    const LinearInputs in = inputs_of(c, 8);
    const DeviceTensor x = backend->upload(in.x);
    for (const auto& [weights, activations] :
         {std::pair{"int8/channel", "int8/token"}, std::pair{"int8/channel", "int8/tensor"},
          std::pair{"int8/channel", "uint8/token/affine"}, std::pair{"int8/channel", "int8/token"},
          std::pair{"e4m3/channel", "e4m3/token"}, std::pair{"e5m2/channel", "e5m2/token"}}) {
      const LinearProblem p = linear_problem(c, weights, activations);
      const auto prepared = backend->prepare(p, {in.w.view<float>(), in.bias.view<float>(), {}});
      const Tensor y = backend->download(backend->linear(*prepared, x, nullptr));
      CAPTURE(backend.name, p.to_string());
      CHECK(same_bits(y, run(*make_backend(backend.name), p, in).y));
    }
  }
}

TEST_CASE("a row's bits don't depend on the rows beside it", "[isa]") {
  for (const NamedBackend& backend : backends()) {
    if (backend.name == "gpu") continue;  // the library chooses by the number of rows
    for (const auto& [weights, activations] :
         {std::pair{"f32", "f32"}, std::pair{"bf16", "bf16"}, std::pair{"int8/channel", "int8/token"},
          std::pair{"e4m3/channel", "e4m3/token"}}) {
      const LinearCase all{520, 33, 135, 1};
      const LinearInputs in = inputs_of(all, 9);
      const Tensor whole = run(*backend, linear_problem(all, weights, activations), in).y;
      for (const std::int64_t rows : {1, 2, 3, 7, 64, 127, 128, 134}) {
        LinearInputs some{Tensor(DType::f32, Shape{1, rows, all.in}), in.w.clone(), in.bias.clone()};
        std::copy_n(in.x.view<float>().data(), rows * all.in, some.x.view<float>().data());
        const Tensor part = run(*backend, linear_problem(all, weights, activations), some).y;
        CAPTURE(backend.name, weights, rows);
        CHECK(std::memcmp(part.raw(), whole.raw(), part.bytes()) == 0);
      }
    }
  }
}

TEST_CASE("one non-finite input reaches every output of its row, and no other row") {
  for (const NamedBackend& backend : backends()) {
    const LinearCase c{33, 9, 6, 1};
    LinearInputs in = inputs_of(c, 6);
    in.x.view<float>()[2 * c.in + 4] = NAN;
    const LinearRun r = run(*backend, linear_problem(c, "f32", "f32"), in);
    for (std::int64_t i = 0; i < c.tokens * c.out; ++i) CHECK(std::isnan(r.y.view<float>()[i]) == (i / c.out == 2));
    // The judge itself must not let it pass.
    CHECK_FALSE(worst_excess(backend.name, linear_problem(c, "f32", "f32"), inputs_of(c, 6), r.y) <= 1.0);
  }
}

TEST_CASE("mode library is refused with its reason where a backend has none") {
  const LinearCase c{32, 16, 9, 1};
  const LinearProblem int8 = linear_problem(c, "int8/channel", "int8/token", ExecutionMode::library);
  AttentionProblem attention;
  attention.head_dim = attention.v_head_dim = 16;
  attention.schemes.q = attention.schemes.k = attention.schemes.v = quant::parse_scheme("int8");
  attention.schemes.p = parse_prob_scheme("uint8");
  attention.mode = ExecutionMode::library;
  const auto reference = make_backend("reference"), cpu = make_backend("cpu");
  CHECK(reference->supports(int8).reason == "mode library belongs to backends cpu and gpu");
  CHECK(reference->supports(attention).reason == "mode library belongs to backends cpu and gpu");
  if (!cpu->available()) SKIP("the cpu backend isn't here: " << cpu->available().reason);
  CHECK(cpu->supports(int8).reason.find("weights and activations must be e4m3 or e5m2") != std::string::npos);
  CHECK(cpu->supports(attention).reason.find("backend gpu alone") != std::string::npos);
  attention.mode = ExecutionMode::real;
  CHECK(cpu->supports(attention).ok);
}

TEST_CASE("FP8 through the library's own matmul agrees with the oracle on small shapes") {
  const auto backend = make_backend("cpu");
  if (!backend->available()) SKIP("the cpu backend isn't here: " << backend->available().reason);
  const LinearCase c{32, 16, 9, 1};
  const Support library = backend->supports(linear_problem(c, "e4m3/channel", "e4m3/token", ExecutionMode::library));
  if (!library) SKIP(library.reason);
  for (const char* format : {"e4m3", "e5m2"}) {
    const LinearInputs in = inputs_of(c, 7);
    const LinearProblem p =
        linear_problem(c, std::string(format) + "/channel", std::string(format) + "/token", ExecutionMode::library);
    const LinearRun r = run(*backend, p, in);
    CAPTURE(format, r.implementation);
    CHECK(r.implementation.find("ref") != std::string::npos);
    CHECK(worst_excess("cpu", p, in, r.y) <= 1.0);
    CHECK_FALSE(worst_excess("cpu", p, in, r.y, 3) <= 1.0);
  }
}

TEST_CASE("group and block schemes: the reference against dequantized operands; fast backends refuse with a reason") {
  const NamedBackend by_definition = reference();
  const LinearCase c{96, 20, 7, 1};
  const LinearInputs in = inputs_of(c, 10);
  for (const char* weights : {"int8/group(32)", "int8/block(8x32)"})
    for (const char* activations : {"int8/token", "int8/group(32)"}) {
      const LinearRun real = run(*by_definition, linear_problem(c, weights, activations), in),
                      emulated = run(*by_definition, linear_problem(c, weights, activations, ExecutionMode::emulated), in);
      quant::DistortionStats stats;
      stats.add(emulated.y.view<float>().span(), real.y.view<float>().span());
      CAPTURE(weights, activations);
      CHECK(stats.nan_count() == 0);
      CHECK(*stats.nmse() <= accumulation_nmse(static_cast<double>(c.in)));
      for (const NamedBackend& backend : backends()) {
        if (backend.name == "cpu") {
          const LinearProblem p = linear_problem(c, weights, activations, ExecutionMode::emulated);
          quant::DistortionStats same;
          const Tensor y = run(*backend, p, in).y;
          same.add(emulated.y.view<float>().span(), y.view<float>().span());
          CHECK(*same.nmse() <= accumulation_nmse(static_cast<double>(c.in)));
        }
        if (backend.name != "reference")
          CHECK(backend->supports(linear_problem(c, weights, activations)).reason.find("group and block") !=
                std::string::npos);
      }
    }
}
