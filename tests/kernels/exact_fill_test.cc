// Whole numbers small enough for every format and sum: floating products must be right to the bit, on any backend and in any
// order of summation. E4M3 holds every whole number up to 16, E5M2 up to 8; ranges fixed at the format's largest number make
// the scales 1; sums stay below 2^13, inside the accumulators of tensor cores as well.
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "kernels/oracle/oracle.h"
#include "tests/kernels/attention_cases.h"
#include "tests/kernels/linear_cases.h"
#include "tests/support/grid.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

struct Fill {
  std::string scheme;
  int largest;
};
const std::vector<Fill> fills{{"e4m3/tensor/fixed(448)", 16}, {"e5m2/tensor/fixed(57344)", 8}, {"bf16", 16}, {"f32", 16}};
constexpr double inside_every_accumulator = 0x1p13;

}  // namespace

TEST_CASE("whole numbers: floating linears are exact", "[isa]") {
  for (const NamedBackend& backend : backends())
    for (const Fill& weights : fills)
      for (const Fill& activations : fills)
        for (const LinearCase& c :
             {LinearCase{16, 8, 5}, LinearCase{131, 65, 130, 1, false}, LinearCase{257, 33, 3}, LinearCase{520, 9, 5}}) {
          LinearInputs in{integers(Shape{c.batch, c.tokens, c.in}, 1, activations.largest),
                          integers(Shape{c.out, c.in}, 2, weights.largest),
                          {}};
          if (c.bias) in.bias = integers(Shape{c.out}, 3, 100);
          const LinearProblem p = linear_problem(c, weights.scheme, activations.scheme);
          if (!backend->supports(p)) continue;
          const LinearRun r = run(*backend, p, in);
          const std::vector<double> expected =
              oracle::linear(numbers(in.x), numbers(in.w), c.bias ? numbers(in.bias) : std::vector<double>(),
                             c.batch * c.tokens, c.in, c.out);
          std::int64_t wrong = 0;
          for (std::int64_t i = 0; i < r.y.shape().elements(); ++i) {
            REQUIRE(std::fabs(expected[static_cast<std::size_t>(i)]) < inside_every_accumulator);
            wrong += !(static_cast<double>(r.y.view<float>()[i]) == expected[static_cast<std::size_t>(i)]);
          }
          CAPTURE(backend.name, p.to_string(), r.implementation);
          CHECK(wrong == 0);
          CHECK(share_nonzero(r.y) > 0.9);
          CHECK(r.counts.saturated + r.counts.flushed + r.counts.nan == 0);
        }
}

TEST_CASE("whole numbers: floating scores are exact", "[isa]") {
  for (const NamedBackend& backend : backends())
    for (const Fill& q : fills)
      for (const Fill& k : fills)
        for (Case c : {Case{}, Case{.batch = 1, .q_len = 129, .kv_len = 129, .d = 64},
                       Case{.q_len = 3, .kv_len = 70, .q_heads = 4}}) {
          Inputs in = inputs_of(c, 3);
          in.q = integers(in.q.shape(), 4, q.largest);
          in.k = integers(in.k.shape(), 5, k.largest);
          AttentionProblem p = problem_of(c, schemes(q.scheme, k.scheme, "f32", "f32"));
          p.scale = 0.125F;  // a power of two: exact as well
          if (!backend->supports(p)) continue;
          const Run r = run(*backend, p, in);
          std::int64_t wrong = 0, zero = 0, n = 0;
          for (std::int64_t b = 0; b < c.batch; ++b)
            for (std::int64_t h = 0; h < c.q_heads; ++h)
              for (std::int64_t i = 0; i < c.q_len; ++i)
                for (std::int64_t j = 0; j < c.kv_len; ++j) {
                  if (!visible(c, in, b, h, i, j)) continue;
                  double dot = 0;
                  for (std::int64_t d = 0; d < c.d; ++d)
                    dot += number(in.q, ((b * c.q_len + i) * c.q_heads + h) * c.d + d) *
                           number(in.k, ((b * c.kv_len + j) * c.kv_heads + h / (c.q_heads / c.kv_heads)) * c.d + d);
                  REQUIRE(std::fabs(dot) < inside_every_accumulator);
                  const double got = number(r.taps.at(TapPoint::scores), ((b * c.q_heads + h) * c.q_len + i) * c.kv_len + j);
                  wrong += !(got == dot * 0.125);
                  zero += dot == 0;
                  ++n;
                }
          CAPTURE(backend.name, p.to_string(), r.implementation);
          CHECK(wrong == 0);
          CHECK(zero * 10 < n);
        }
}

TEST_CASE("uniform attention over whole numbers: the context is the mean, to one rounding of each step", "[isa]") {
  for (const NamedBackend& backend : backends())
    for (const auto& [prob, v, largest] :
         {std::tuple{"e4m3", "e4m3/tensor/fixed(448)", 16}, std::tuple{"e5m2/scale=1", "e5m2/tensor/fixed(57344)", 8},
          std::tuple{"bf16", "bf16", 16}, std::tuple{"f32", "e4m3/tensor/fixed(448)", 16},
          std::tuple{"uint8", "int8/tensor/fixed(127)", 127}, std::tuple{"int8", "int8/tensor/fixed(127)", 127}}) {
      Case c;
      c.q_len = c.kv_len = 130;
      Inputs in = inputs_of(c, 6);
      in.q = Tensor::zeros(DType::f32, in.q.shape());  // every E is 1, every visible code the largest
      in.v = integers(in.v.shape(), 7, largest);
      const AttentionProblem p = problem_of(c, schemes("f32", "f32", prob, v));
      if (!backend->supports(p)) continue;
      const Run r = run(*backend, p, in, false);
      const float scale = p.schemes.p.effective_scale();
      std::int64_t wrong = 0;
      for (std::int64_t i = 0; i < r.output.shape().elements(); ++i) {
        const std::int64_t x = i % (c.q_heads * c.dv), t = i / (c.q_heads * c.dv) % c.q_len,
                           b = i / (c.q_heads * c.dv * c.q_len);
        double sum = 0;
        for (std::int64_t j = 0; j <= t; ++j) sum += number(in.v, (b * c.kv_len + j) * c.q_heads * c.dv + x);
        const float expected = static_cast<float>(sum * static_cast<double>(scale)) / (scale * static_cast<float>(t + 1));
        wrong += !(r.output.view<float>()[i] == expected);
      }
      CAPTURE(backend.name, p.to_string(), r.implementation);
      CHECK(wrong == 0);
      CHECK(share_nonzero(r.output) > 0.9);
    }
}
