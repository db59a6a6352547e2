// What a run of attention must have computed, rebuilt from its inputs and the codes it chose: scales by the definition of
// the schemes, from the f32 inputs; codes from the scales; scores, P, log-sum-exp and context in double from the codes
// (kernels/oracle/coded). Works through the contract's taps alone, so for every backend.
#pragma once

#include <string>
#include <vector>

#include "kernels/oracle/coded.h"
#include "tests/kernels/attention_cases.h"
#include "tests/support/tolerance.h"

namespace qfid::tests {

/// Scales of [B, T, H, D] by the scheme's definition, independent of quant/: absmax, fixed or given ranges; symmetric.
class Scales {
 public:
  Scales(const Tensor& x, const quant::QuantScheme& scheme, const std::vector<quant::Range>& given);
  std::int64_t granule(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d) const;
  float at(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d) const;

 private:
  quant::QuantScheme scheme_;
  Shape shape_;
  std::vector<float> scales_;
};

/// How many codes are not the ones of x / scale: the bits themselves, or, where x is known to within `slack` only
/// (relative), a code whose rounding interval it can't have reached.
std::int64_t wrong_codes(const Tensor& x, const Scales& scales, const quant::QuantScheme& scheme, const Tensor& codes,
                         double slack);

/// Differences over their tolerances, stage by stage: above 1 fails. P codes are judged one by one: a code fails when the
/// exact value can't have rounded to it; how many differ from the exact code, and how many may, is counted.
struct Excess {
  double scores = 0, codes = 0, lse = 0, probs = 0, context = 0;
  double differing = 0, expected = 0;
  double worst() const;
  Excess& operator+=(const Excess& other);
};

/// Rows and columns of scores, or of the context, that one scale makes.
struct Part {
  bool context = false;  ///< else scores
  std::vector<std::size_t> rows, columns;
};

/// One head of a run. `coded` may be changed (to plant a fault) between calls of judge().
class HeadExpectation {
 public:
  oracle::CodedHead coded;
  /// Everything about query row i.
  Excess judge(std::int64_t i) const;
  Excess judge_all() const;
  /// Gain of the scores or the context over a part of them.
  Gain gain(const Part& part) const;
  /// Largest excess of the gains of every row and column of the scores and of the context, and of all of them.
  double worst_gain() const;
  /// Root mean square of what each score of row i may be off by [kv_len].
  std::vector<double> score_noise(const oracle::CodedRow& row) const;
  std::vector<double> score_noise(std::int64_t i) const { return score_noise(row(i)); }
  /// What the run says about query row i: codes are those of P and, where scores are stored rounded, those too.
  struct Values {
    std::vector<double> codes, probs, context;
  };
  Values values(std::int64_t i) const;
  /// What row i may differ by from what its codes make it: each channel of the context; the logarithms of its
  /// probabilities; how many of its codes may be others than the exact ones.
  struct Allowance {
    std::vector<double> output;
    double log_prob = 0, other_codes = 0;
  };
  Allowance allowance(std::int64_t i) const;

 private:
  friend class Expectation;
  struct Errors;
  oracle::CodedRow row(std::int64_t i) const;
  void add_scores(std::int64_t i, const oracle::CodedRow& row, std::size_t j, double noise, Gain& gain) const;
  void add_context(std::int64_t i, const oracle::CodedRow& row, const Errors& error, std::size_t c, Gain& gain) const;
  std::vector<double> output_error(const oracle::CodedRow& row, const Errors& error) const;
  double score_codes(std::int64_t i, const oracle::CodedRow& row, const Errors& error) const;
  double context_at(std::int64_t i, std::int64_t c) const;
  /// What a score stored in bf16 is a multiple of: 1, or its scale where the product itself was rounded.
  double unit(std::int64_t i, std::size_t j) const;
  /// given: of what follows from the scores that the run itself says it had.
  Errors errors(std::int64_t i, const oracle::CodedRow& row, bool given) const;
  void judge_keys(std::int64_t i, const oracle::CodedRow& row, const Errors& error, Excess& excess) const;
  std::span<const double> row_of(const std::vector<double>& tap, std::int64_t i) const;

  const AttentionProblem* problem_ = nullptr;
  const Run* run_ = nullptr;
  std::int64_t b_ = 0, h_ = 0;
  double qk_epsilon_ = 0, pv_epsilon_ = 0;
  std::vector<double> scores_, codes_, probs_;  ///< taps of this head as numbers [q_len, kv_len]
};

class Expectation {
 public:
  /// All are kept by reference.
  Expectation(const std::string& backend, const Case& c, const AttentionProblem& problem, const Inputs& in,
              const AttentionRanges& ranges, const Run& run);
  Expectation(const Expectation&) = delete;
  Expectation& operator=(const Expectation&) = delete;
  /// Codes of Q, K, V that don't follow from the inputs.
  std::int64_t wrong_operand_codes() const;
  /// Raw INT8 scores that aren't the exact dot products of the codes.
  std::int64_t wrong_integer_scores() const;
  /// Scores of INT8 operands that aren't f32(s32) * ((s_q * s_k) * c), stored, plus the additive mask: to the bit.
  std::int64_t wrong_scaled_scores() const;
  /// Gates, gated values, and everything after the context that isn't what it must be.
  std::int64_t wrong_gates() const;
  std::int64_t wrong_outputs() const;
  /// Counts (visible pairs, zero codes, masked rows) that aren't those of the taps.
  std::int64_t wrong_counts() const;
  HeadExpectation head(std::int64_t b, std::int64_t h) const;

  const Scales& q_scales() const { return q_; }
  const Scales& k_scales() const { return k_; }
  const Scales& v_scales() const { return v_; }
  const Tensor& context() const { return run_.taps.at(TapPoint::context); }

 private:
  std::vector<double> sink_logits(std::int64_t b, std::int64_t h) const;
  const std::string backend_;
  const Case& c_;
  const AttentionProblem& problem_;
  const Inputs& in_;
  const AttentionRanges& ranges_;
  const Run& run_;
  Tensor means_, smooth_;
  const Tensor &k_input_, &v_input_;
  Scales q_, k_, v_;
};

}  // namespace qfid::tests
