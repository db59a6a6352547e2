// Linears: each backend against the oracle (full precision) and the reference (bits of INT8, tolerance of FP8).
#include "kernels/linear.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>

#include "kernels/oracle/oracle.h"
#include "kernels/registry/registry.h"
#include "quant/core/random.h"
#include "tests/kernels/backends.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::kernels;
using quant::Tensor;

namespace {

Tensor filled(const Shape& shape, std::uint64_t seed) {
  quant::Random random(seed);
  Tensor tensor(DType::f32, shape);
  for (float& x : tensor.view<float>().span()) x = static_cast<float>(random.normal());
  return tensor;
}

Tensor run(Backend& backend, const LinearProblem& p, const Tensor& x, const Tensor& w, const Tensor& bias,
           std::string* implementation = nullptr) {
  const auto prepared = backend.prepare(p, {w.view<float>(), bias.view<float>(), {}});
  const Tensor y = backend.download(backend.linear(*prepared, backend.upload(x), nullptr));
  if (implementation != nullptr) *implementation = prepared->implementation();
  return y.clone();
}

LinearProblem problem(std::int64_t in, std::int64_t out, const char* weights, const char* activations,
                      ExecutionMode mode = ExecutionMode::real) {
  return {in, out, quant::parse_scheme(weights), quant::parse_scheme(activations), mode};
}

}  // namespace

TEST_CASE("f32 linears agree with the oracle; a planted 1 % fault fails") {
  for (const std::string& name : tests::backends())
    for (const auto& [in, out, tokens] :
         {std::tuple{16, 8, 5}, std::tuple{129, 65, 130}, std::tuple{512, 128, 257}, std::tuple{7, 1, 1}}) {
      const auto backend = make_backend(name);
      const Tensor x = filled(Shape{2, tokens, in}, 1), w = filled(Shape{out, in}, 2), bias = filled(Shape{out}, 3);
      const Tensor y = run(*backend, problem(in, out, "f32", "f32"), x, w, bias);
      const auto numbers = [](const Tensor& t) {
        return std::vector<double>(t.view<float>().data(), t.view<float>().data() + t.shape().elements());
      };
      const auto expected = oracle::linear(numbers(x), numbers(w), numbers(bias), 2 * tokens, in, out);
      double worst = 0, faulty = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double got = static_cast<double>(y.view<float>()[static_cast<std::int64_t>(i)]);
        const double tolerance = tests::linear_f32(static_cast<double>(in), static_cast<double>(in)) +
                                 4 * tests::f32_epsilon * std::fabs(expected[i]);
        const double excess = std::fabs(got - expected[i]) / tolerance;
        if (!(excess <= worst)) worst = excess;
        faulty = std::max(faulty, std::fabs(got * 1.01 - expected[i]) / tolerance);
      }
      CAPTURE(name, in, out);
      CHECK(worst <= 1.0);
      CHECK(faulty > 1.0);
    }
}

TEST_CASE("INT8 linears are the reference's bits on every backend; FP8 and bf16 within accumulation") {
  const auto reference = make_backend("reference");
  for (const std::string& name : tests::backends()) {
    if (name == "reference") continue;
    const auto backend = make_backend(name);
    for (const char* weights : {"int8/tensor", "int8/channel", "int8/channel/mse", "e4m3/channel", "e5m2/tensor", "bf16"})
      for (const char* granularity : {"tensor", "token"}) {
        const std::string format = std::string(weights).substr(0, std::string(weights).find('/'));
        for (const std::string& activations : {format == "bf16" ? std::string("bf16") : format + "/" + granularity,
                                               format == "int8"   ? std::string("uint8/") + granularity + "/affine"
                                               : format == "bf16" ? std::string("bf16")
                                                                  : std::string("bf16")})
          for (const auto& [in, out, tokens] : {std::tuple{64, 32, 5}, std::tuple{130, 67, 129}, std::tuple{1536, 96, 33}}) {
            const Tensor x = filled(Shape{2, tokens, in}, 4), w = filled(Shape{out, in}, 5), bias = filled(Shape{out}, 6);
            const LinearProblem p = problem(in, out, weights, activations.c_str());
            REQUIRE(backend->supports(p).ok);
            std::string implementation;
            const Tensor expected = run(*reference, p, x, w, bias), got = run(*backend, p, x, w, bias, &implementation);
            CAPTURE(name, p.to_string(), implementation);
            if (name == "cpu") CHECK(implementation.find("ref") == std::string::npos);
            if (format == "int8") {
              CHECK(std::memcmp(expected.raw(), got.raw(), got.bytes()) == 0);
            } else {
              quant::DistortionStats stats;
              stats.add(expected.view<float>().span(), got.view<float>().span());
              CHECK(stats.nan_count() == 0);
              const double epsilon = tests::accumulator_epsilon(name, format);
              CHECK(std::fabs(*stats.gain() - 1) <= tests::accumulation_gain(epsilon, static_cast<double>(in)));
              CHECK(*stats.nmse() <= tests::accumulation_nmse(epsilon, static_cast<double>(in)));
            }
          }
      }
  }
}

TEST_CASE("FP8 through the library's own matmul agrees with ours on small shapes") {
  const auto backend = make_backend("cpu");
  if (!backend->available()) SKIP("the cpu backend isn't here: " << backend->available().reason);
  const Support library_products = backend->supports(problem(32, 16, "e4m3/channel", "e4m3/token", ExecutionMode::library));
  if (!library_products) SKIP(library_products.reason);
  const Tensor x = filled(Shape{1, 9, 32}, 7), w = filled(Shape{16, 32}, 8), bias = filled(Shape{16}, 9);
  for (const char* format : {"e4m3/token", "e5m2/token"}) {
    const std::string weights = std::string(format).substr(0, 4) + "/channel";
    std::string library;
    const Tensor ours = run(*backend, problem(32, 16, weights.c_str(), format), x, w, bias);
    const Tensor theirs =
        run(*backend, problem(32, 16, weights.c_str(), format, ExecutionMode::library), x, w, bias, &library);
    quant::DistortionStats stats;
    stats.add(ours.view<float>().span(), theirs.view<float>().span());
    CAPTURE(format, library);
    CHECK(library.find("ref") != std::string::npos);
    CHECK(*stats.nmse() <= 1e-12);
  }
}

TEST_CASE("group and block schemes: the reference against dequantized operands; fast backends refuse with a reason") {
  const auto reference = make_backend("reference");
  const Tensor x = filled(Shape{1, 7, 96}, 10), w = filled(Shape{20, 96}, 11), bias = filled(Shape{20}, 12);
  for (const char* weights : {"int8/group(32)", "int8/block(8x32)"})
    for (const char* activations : {"int8/token", "int8/group(32)"}) {
      const Tensor real = run(*reference, problem(96, 20, weights, activations), x, w, bias);
      const Tensor emulated = run(*reference, problem(96, 20, weights, activations, ExecutionMode::emulated), x, w, bias);
      quant::DistortionStats stats;
      stats.add(emulated.view<float>().span(), real.view<float>().span());
      CAPTURE(weights, activations);
      CHECK(std::fabs(*stats.gain() - 1) <= 1e-6);
      CHECK(*stats.nmse() <= 1e-12);
      for (const std::string& name : tests::backends())
        if (name != "reference")
          CHECK(make_backend(name)->supports(problem(96, 20, weights, activations)).reason.find("group and block") !=
                std::string::npos);
    }
}
