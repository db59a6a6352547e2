// E and its codes, to the last place and to the bit. One channel, softmax scale 1, q = 1: a score is the key itself,
// exactly, and E, taken as f32 P, is exp of it, nothing else.
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>

#include "tests/kernels/attention_cases.h"
#include "tests/kernels/attention_expectation.h"
#include "tests/support/grid.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

/// P codes of one row whose scores are `scores` (the largest must be 0).
Tensor codes_of(const NamedBackend& backend, const std::vector<float>& scores, const std::string& p, const std::string& v) {
  const Case c{.batch = 1,
               .q_len = 1,
               .kv_len = static_cast<std::int64_t>(scores.size()),
               .q_heads = 1,
               .kv_heads = 1,
               .d = 1,
               .dv = 1};
  Inputs in = inputs_of(c, 40);
  in.q.view<float>()[0] = 1.0F;
  std::copy(scores.begin(), scores.end(), in.k.view<float>().data());
  AttentionProblem problem = problem_of(c, schemes("f32", "f32", p, v));
  problem.scale = 1.0F;
  Run r = run(*backend, problem, in);
  return std::move(r.taps.at(TapPoint::p_codes));
}

/// Scores whose E lies at, just below and just above each boundary between two codes (ties among them).
std::vector<float> around_boundaries(const Grid& grid, double p_scale) {
  std::vector<float> scores{0.0F};
  for (std::size_t code = 0; code + 1 < grid.size() && grid.interval(code).second < p_scale; ++code) {
    const double e = grid.interval(code).second / p_scale;
    if (e < 0x1p-20) continue;
    const auto centre = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(static_cast<float>(std::log(e))));
    for (std::int32_t ulp = -6; ulp <= 6; ++ulp) scores.push_back(std::bit_cast<float>(centre + ulp));
  }
  return scores;
}

/// [1, T, 1, D] whose rows (or columns) are: a largest number, then numbers next to the boundaries between two codes.
Tensor near_boundaries(const Shape& shape, const Grid& grid, bool columns, std::uint64_t seed) {
  quant::Random random(seed);
  Tensor x(DType::f32, shape);
  const std::int64_t granules = columns ? shape[3] : shape[1], length = columns ? shape[1] : shape[3];
  for (std::int64_t g = 0; g < granules; ++g) {
    const auto largest = static_cast<float>(0.5 + random.uniform());
    const float scale = largest / static_cast<float>(grid.value(grid.size() - 1));
    for (std::int64_t n = 0; n < length; ++n) {
      const double boundary = grid.interval(random.below(grid.size() - 1)).second;
      float value = static_cast<float>(boundary * static_cast<double>(scale));
      value = std::bit_cast<float>(std::bit_cast<std::int32_t>(value) + static_cast<std::int32_t>(random.below(3)) - 1);
      x.view<float>()[columns ? n * granules + g : g * length + n] = n == 0 ? largest : value;
    }
  }
  return x;
}

}  // namespace

TEST_CASE("operand codes come from a division: next to every rounding boundary, to the bit", "[isa]") {
  for (const NamedBackend& backend : backends())
    for (const std::string format : {"int8", "e4m3", "e5m2"}) {
      const Case c{.batch = 1, .q_len = 40, .kv_len = 300, .q_heads = 1, .kv_heads = 1, .d = 200, .dv = 40, .causal = false};
      const AttentionProblem p = problem_of(
          c, schemes(format + "/token", format + "/token", format == "int8" ? "uint8" : format, format + "/channel"));
      const Grid& grid = Grid::of(p.schemes.q.format);
      Inputs in;
      in.q = near_boundaries(Shape{1, c.q_len, 1, c.d}, grid, false, 41);
      in.k = near_boundaries(Shape{1, c.kv_len, 1, c.d}, grid, false, 42);
      in.v = near_boundaries(Shape{1, c.kv_len, 1, c.dv}, grid, true, 43);
      const Run r = run(*backend, p, in);
      const AttentionRanges none;
      CAPTURE(backend.name, format);
      CHECK(Expectation(backend.name, c, p, in, none, r).wrong_operand_codes() == 0);
    }
}

TEST_CASE("E = exp(S - m) within two units in the last place", "[isa]") {
  std::vector<float> scores;
  for (int j = 0; j < 20000; ++j) scores.push_back(-0.0043F * static_cast<float>(j));
  for (const NamedBackend& backend : backends()) {
    const Tensor e = codes_of(backend, scores, "f32", "f32");
    double worst = 0;
    for (std::size_t j = 0; j < scores.size(); ++j) {
      const double exact = std::exp(static_cast<double>(scores[j]));
      if (exact < 2 * f32_smallest) continue;
      int exponent = 0;
      std::frexp(exact, &exponent);
      raise(worst, std::fabs(number(e, static_cast<std::int64_t>(j)) - exact) / std::ldexp(1.0, exponent - 24));
    }
    CAPTURE(backend.name, worst);
    CHECK(worst <= exp_ulps);
    CHECK(worst > 0);
  }
}

TEST_CASE("P codes are E times p_scale, rounded half to even: to the bit, ties included", "[isa]") {
  for (const NamedBackend& backend : backends())
    for (const auto& [p, v] : {std::pair{"uint8", "int8"}, std::pair{"int8", "int8"}, std::pair{"e4m3", "e4m3"},
                               std::pair{"e4m3/scale=448", "e4m3"}, std::pair{"e5m2", "e5m2"},
                               std::pair{"e5m2/scale=1", "e5m2"}, std::pair{"bf16", "bf16"}}) {
      const ProbScheme scheme = parse_prob_scheme(p);
      const Grid& grid = Grid::of(scheme.format);
      const std::vector<float> scores = around_boundaries(grid, static_cast<double>(scheme.effective_scale()));
      const Tensor e = codes_of(backend, scores, "f32", "f32"), codes = codes_of(backend, scores, p, v);
      std::int64_t wrong = 0, ties = 0;
      for (std::int64_t j = 0; j < e.shape().elements(); ++j) {
        const auto scaled = static_cast<double>(e.view<float>()[j] * scheme.effective_scale());  // one f32 rounding
        const std::size_t code = grid.nearest(scaled);
        wrong += !(number(codes, j) == grid.value(code));
        ties += scaled == grid.interval(code).first || scaled == grid.interval(code).second;
      }
      CAPTURE(backend.name, p, scores.size(), ties);
      CHECK(wrong == 0);
      CHECK(ties > 0);
    }
}
