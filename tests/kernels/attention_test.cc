// Attention: each backend against the oracle (full precision) and against the reference (codes, bits, gain), over variants,
// schemes and shapes.
#include "kernels/attention.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/registry/registry.h"
#include "tests/kernels/attention_cases.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::kernels;
using namespace qfid::tests;

TEST_CASE("full precision agrees with the oracle, and a 1 % fault would not") {
  for (const std::string& name : backends()) {
    const auto backend = make_backend(name);
    for (const Case& c : variants()) {
      const Inputs in = inputs_of(c, 11);
      const Run r = run(*backend, problem_of(c, {}), in);
      CAPTURE(name, c.q_len, c.kv_len, c.fill, c.sink, c.gate.has_value());
      CHECK(worst_excess(c, in, r) <= 1.0);
      const bool all_zero = c.padded && c.fill == "masked" && c.batch == 1;
      if (!all_zero) CHECK(worst_excess(c, in, r, 1.01) > 1.0);
    }
  }
}

TEST_CASE("given the same inputs, codes, INT8 scores and P codes follow the reference; outputs within the gain rule") {
  const auto reference = make_backend("reference");
  for (const std::string& name : backends()) {
    if (name == "reference") continue;
    const auto backend = make_backend(name);
    for (const Named& scheme : quantized_schemes())
      for (const Case& c : variants()) {
        const Inputs in = inputs_of(c, 13);
        const AttentionProblem p = problem_of(c, scheme.schemes);
        REQUIRE(backend->supports(p).ok);
        const Run expected = run(*reference, p, in), got = run(*backend, p, in);
        CAPTURE(name, scheme.name, c.q_len, c.kv_len, c.fill, c.sink, c.gate.has_value());
        for (TapPoint point : {TapPoint::q_codes, TapPoint::k_codes, TapPoint::v_codes})
          CHECK(same_bits(expected.taps.at(point), got.taps.at(point)));
        if (quant::is_integer(p.schemes.q.format))
          CHECK(same_bits(expected.taps.at(TapPoint::scores_i32), got.taps.at(TapPoint::scores_i32)));
        // P codes differ by at most one step, and only near rounding boundaries.
        std::int64_t different = 0;
        const Tensor &a = expected.taps.at(TapPoint::p_codes), &b = got.taps.at(TapPoint::p_codes);
        if (quant::is_scaled(p.schemes.p.format))
          for (std::size_t i = 0; i < a.bytes(); ++i) {
            const int step = std::to_integer<int>(a.raw()[i]) - std::to_integer<int>(b.raw()[i]);
            REQUIRE(std::abs(step) <= 1);
            different += step != 0;
          }
        const double share = tests::prob_codes_share(tests::accumulator_epsilon(name, quant::to_string(p.schemes.q.format)));
        CHECK(static_cast<double>(different) <= 2.0 + share * static_cast<double>(a.shape().elements()));
        quant::DistortionStats stats;
        stats.add(expected.output.view<float>().span(), got.output.view<float>().span());
        if (stats.gain()) {
          CHECK(std::fabs(*stats.gain() - 1) <= tests::gain_real_emulated);
          CHECK(*stats.nmse() <= 1e-4);
        }
        CHECK(stats.nan_count() == 0);
      }
  }
}

TEST_CASE("real agrees with emulated: the products add nothing of their own") {
  const auto reference = make_backend("reference");
  for (const std::string& name : backends()) {
    const auto backend = make_backend(name);
    for (const Named& scheme : quantized_schemes()) {
      Case c;
      c.q_len = c.kv_len = 129;
      const Inputs in = inputs_of(c, 14);
      const Run emulated = run(*reference, problem_of(c, scheme.schemes, ExecutionMode::emulated), in);
      const Run real = run(*backend, problem_of(c, scheme.schemes), in);
      CAPTURE(name, scheme.name);
      quant::DistortionStats stats, faulty;
      stats.add(emulated.output.view<float>().span(), real.output.view<float>().span());
      CHECK(std::fabs(*stats.gain() - 1) <= tests::gain_real_emulated);
      Tensor wrong = real.output.clone();
      for (float& x : wrong.view<float>().span()) x *= 1.01F;
      faulty.add(emulated.output.view<float>().span(), std::as_const(wrong).view<float>().span());
      CHECK_FALSE(std::fabs(*faulty.gain() - 1) <= tests::gain_real_emulated);
    }
  }
}
