// Real against emulated, head by head: what the kernel adds to the damage of the format. Both are judged against the oracle
// elsewhere; here they are judged against each other, by the numbers that reports show: gain, relative RMS, KL. A fault of 1
// % is what the gains see, of the output and of the logarithms of the probabilities; what an accumulator of 14 bits may
// leave in single elements is as large, so there RMS and KL must see a factor of four.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <utility>

#include "tests/kernels/attention_expectation.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

/// One head of both runs and what they may differ by. Rows whose codes (of P; of stored scores) are the same are compared to
/// the accumulation alone; a row with another code is one of those that the oracle test explains code by code: counted.
class HeadPair {
 public:
  HeadPair(const Case& c, const HeadExpectation& real, const HeadExpectation& emulated) {
    for (std::int64_t i = 0; i < c.q_len; ++i) {
      Row row{real.values(i), emulated.values(i), real.allowance(i), emulated.allowance(i), true};
      row.same = row.real.codes == row.emulated.codes;
      row.noise_real = real.score_noise(i);
      row.noise_emulated = emulated.score_noise(i);
      rows_with_other_codes += row.same ? 0 : 1;
      expected += row.of_real.other_codes + row.of_emulated.other_codes;
      rows_.push_back(std::move(row));
    }
  }
  double rows_with_other_codes = 0, expected = 0;

  double gain(double faulty) const {
    double dot = 0, square = 0;
    for (const Row& row : rows_)
      for (std::size_t x = 0; x < row.real.context.size(); ++x) {
        dot += faulty * row.real.context[x] * row.emulated.context[x];
        square += row.emulated.context[x] * row.emulated.context[x];
      }
    return square > 0 ? dot / square : 1;
  }
  /// Gain of the logarithms of the probabilities, each row's about its mean: what a fault of the scores' scale is. Over its
  /// tolerance; `sharper` multiplies the real ones.
  double log_gain_excess(double sharper) const {
    Gain gain;
    for (const Row& row : rows_) {
      std::vector<std::size_t> seen;
      double mean_real = 0, mean_emulated = 0;
      for (std::size_t j = 0; j < row.real.probs.size(); ++j)
        if (!(row.emulated.probs[j] < f32_smallest)) seen.push_back(j);
      for (const std::size_t j : seen) {
        mean_real += std::log(row.real.probs[j]) / static_cast<double>(seen.size());
        mean_emulated += std::log(row.emulated.probs[j]) / static_cast<double>(seen.size());
      }
      for (const std::size_t j : seen)
        gain.add(sharper * (std::log(row.real.probs[j]) - mean_real), std::log(row.emulated.probs[j]) - mean_emulated,
                 row.noise_real[j] + row.noise_emulated[j] + 4 * exp_relative);
    }
    return gain.excess();
  }
  /// Root mean square of the difference over that of what is allowed.
  double rms_excess(double faulty) const {
    double error2 = 0, allowed2 = 0;
    for (const Row& row : rows_)
      for (std::size_t x = 0; row.same && x < row.real.context.size(); ++x) {
        const double error = faulty * row.real.context[x] - row.emulated.context[x];
        const double allowed = row.of_real.output[x] + row.of_emulated.output[x];
        error2 += error * error;
        allowed2 += allowed * allowed;
      }
    return error2 == 0 ? 0 : std::sqrt(error2 / allowed2);
  }
  /// KL(emulated||real) of the probabilities, the real ones raised to the power `sharper`, over what is allowed.
  double kl_excess(double sharper) const {
    double kl = 0, allowed = 0;
    for (const Row& row : rows_) {
      if (!row.same) continue;
      double sum = 0;
      std::vector<double> q = row.real.probs;
      if (sharper != 1) {
        for (double& x : q) sum += x = std::pow(x, sharper);
        for (double& x : q) x /= sum;
      }
      for (std::size_t j = 0; j < q.size(); ++j)
        if (const double p = row.emulated.probs[j]; !(p < f32_smallest)) kl += q[j] - p - p * std::log(q[j] / p);
      allowed += kl_of_log_error(row.of_real.log_prob + row.of_emulated.log_prob);
    }
    return kl == 0 ? 0 : kl / allowed;
  }

 private:
  struct Row {
    HeadExpectation::Values real, emulated;
    HeadExpectation::Allowance of_real, of_emulated;
    bool same = true;
    std::vector<double> noise_real{}, noise_emulated{};
  };
  std::vector<Row> rows_;
};

/// What judges of single elements must see where accumulators keep 14 bits.
constexpr double coarse = 4;

bool few_bits(const std::string& backend, const auto& a, const auto& b) {
  return accumulator_epsilon(backend, a.format, b.format, false) > 0x1p-20;
}

}  // namespace

TEST_CASE("real agrees with emulated per head: gain, relative RMS, KL; a 1 % fault doesn't") {
  const NamedBackend judge_backend = reference();
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : quantized_schemes()) {
      double rows_with_other_codes = 0, expected_rows = 0;
      for (const Case& c : variants()) {
        const AttentionProblem p = problem_of(c, scheme.schemes), e = problem_of(c, scheme.schemes, ExecutionMode::emulated);
        if (!backend->supports(p)) continue;
        const Inputs in = inputs_of(c, 14);
        const AttentionRanges ranges = static_ranges(c, scheme.schemes);
        const Run real = run(*backend, p, in, true, ranges), emulated = run(*judge_backend, e, in, true, ranges);
        const Expectation of_real(backend.name, c, p, in, ranges, real),
            of_emulated("reference", c, e, in, ranges, emulated);
        for (std::int64_t b = 0; b < c.batch; ++b)
          for (std::int64_t h = 0; h < c.q_heads; ++h) {
            CAPTURE(backend.name, scheme.name, c.to_string(), b, h, real.implementation);
            const HeadPair head(c, of_real.head(b, h), of_emulated.head(b, h));
            CHECK(std::fabs(head.gain(1) - 1) <= gain_real_emulated);
            CHECK(head.log_gain_excess(1) <= 1.0);
            CHECK(head.rms_excess(1) <= 1.0);
            CHECK(head.kl_excess(1) <= 1.0);
            CHECK(head.rows_with_other_codes <= at_most(head.expected));
            rows_with_other_codes += head.rows_with_other_codes;
            expected_rows += head.expected;
            if (c.fill == "masked" && b == 0) continue;  // nothing is visible
            CHECK_FALSE(std::fabs(head.gain(fault) - 1) <= gain_real_emulated);
            CHECK_FALSE(head.log_gain_excess(fault) <= 1.0);
            // Scores stored in bf16 may differ somewhere in every row of many keys, and codes with them.
            const bool stored = scheme.schemes.scores_storage != DType::f32;
            if (stored && head.rows_with_other_codes == static_cast<double>(c.q_len)) continue;
            CHECK_FALSE(head.rms_excess(coarse) <= 1.0);
            CHECK_FALSE(head.kl_excess(coarse) <= 1.0);
            if (few_bits(backend.name, scheme.schemes.q, scheme.schemes.k) ||
                few_bits(backend.name, scheme.schemes.p, scheme.schemes.v))
              continue;
            CHECK_FALSE(head.rms_excess(fault) <= 1.0);
            CHECK_FALSE(head.kl_excess(fault) <= 1.0);
          }
      }
      CAPTURE(backend.name, scheme.name, rows_with_other_codes, expected_rows);
      CHECK(rows_with_other_codes <= at_most(expected_rows));
    }
}
