// One head of a run against what its codes make it: scores; and what its scores make of them: P codes, log-sum-exp,
// probabilities, context.
#include <cmath>
#include <limits>

#include "tests/kernels/attention_expectation.h"
#include "tests/support/grid.h"
#include "tests/support/tolerance.h"

namespace qfid::tests {

using quant::Format;

namespace {

/// A score stored in bf16 in units of `unit` (its scale, where that is multiplied afterwards: three roundings of f32), then
/// masked additively in f32. All steps keep order, so the one found must lie between what the ends of the exact score's
/// error make: 0, else infinite.
double stored_excess(double found, double exact, double error, double bias, double unit) {
  const auto made_of = [&](double before, double direction) {
    const Grid& grid = Grid::of(Format::bf16);
    const double rounded = std::copysign(grid.value(grid.nearest(std::fabs(before) / unit)) * unit, before);
    const double scaled = rounded + (unit == 1 ? 0 : direction * 3 * f32_epsilon * std::fabs(rounded));
    return static_cast<double>(static_cast<float>(scaled) + static_cast<float>(bias));
  };
  const bool between = found >= made_of(exact - bias - error, -1) && found <= made_of(exact - bias + error, 1);
  return between ? 0.0 : std::numeric_limits<double>::infinity();
}

}  // namespace

/// Of one row, from tests/support/tolerance.h.
struct HeadExpectation::Errors {
  std::vector<double> score;  ///< of what E is computed from (0 where those are the run's own scores)
  std::vector<double> accumulated;
  double maximum = 0, l = 0, blocks = 1;
  double e(double score_error, double depth) const { return e_relative(score_error, maximum, depth); }
};

double Excess::worst() const {
  double all = 0;
  for (const double one : {scores, codes, lse, probs, context}) raise(all, one);
  return all;
}

Excess& Excess::operator+=(const Excess& other) {
  raise(scores, other.scores);
  raise(codes, other.codes);
  raise(lse, other.lse);
  raise(probs, other.probs);
  raise(context, other.context);
  differing += other.differing;
  expected += other.expected;
  return *this;
}

std::span<const double> HeadExpectation::row_of(const std::vector<double>& tap, std::int64_t i) const {
  return std::span(tap).subspan(static_cast<std::size_t>(i * coded.kv_len), static_cast<std::size_t>(coded.kv_len));
}

oracle::CodedRow HeadExpectation::row(std::int64_t i) const {
  return oracle::coded_row(coded, i, row_of(codes_, i), row_of(scores_, i));
}

HeadExpectation::Errors HeadExpectation::errors(std::int64_t i, const oracle::CodedRow& row, bool given) const {
  Errors error;
  const bool emulated = problem_->mode == ExecutionMode::emulated;
  const bool stored = problem_->schemes.scores_storage != DType::f32;
  for (std::size_t j = 0; j < row.score.size(); ++j) {
    error.accumulated.push_back(
        tests::score(static_cast<double>(coded.d), qk_epsilon_, row.score_magnitude[j], row.score[j], emulated));
    error.score.push_back(given || stored ? 0.0 : error.accumulated.back());
    if (coded.visible[static_cast<std::size_t>(i * coded.kv_len) + j] != 0)
      error.maximum = std::max(error.maximum, error.score.back());
  }
  // A sink's logit, lowered by smoothing or not, is rounded to f32 once.
  const double sink = coded.sink.empty() ? 0.0 : std::fabs(coded.sink[static_cast<std::size_t>(i)]);
  error.maximum = std::max(error.maximum, f32_epsilon * sink);
  error.blocks = coded.block > 0 ? static_cast<double>((coded.kv_len + coded.block - 1) / coded.block) : 1.0;
  double mean = 0;
  for (std::size_t j = 0; j < row.score.size(); ++j)
    if (row.prob[j] > 0) mean += row.prob[j] * error.e(error.score[j], row.maximum - row.score[j]);
  if (!coded.sink.empty()) mean += error.e(f32_epsilon * sink, row.maximum + sink);
  if (coded.quantized_sum) mean = f32_epsilon;
  error.l = l_relative(mean, static_cast<double>(row.visible), error.blocks, error.maximum);
  return error;
}

void HeadExpectation::judge_keys(std::int64_t i, const oracle::CodedRow& row, const Errors& error, Excess& excess) const {
  const std::span<const double> scores = row_of(scores_, i), codes = row_of(codes_, i), probs = row_of(probs_, i);
  const bool stored = problem_->schemes.scores_storage != DType::f32;
  const Format format = problem_->schemes.p.format;
  for (std::size_t j = 0; j < scores.size(); ++j) {
    if (coded.visible[static_cast<std::size_t>(i * coded.kv_len) + j] == 0) {
      const bool nothing = scores[j] == -std::numeric_limits<double>::infinity() && codes[j] == 0 && probs[j] == 0;
      raise(excess.scores, nothing ? 0.0 : std::numeric_limits<double>::infinity());
      continue;
    }
    const double bias = coded.bias.empty() ? 0.0 : coded.bias[static_cast<std::size_t>(i * coded.kv_len) + j];
    raise(excess.scores, stored ? stored_excess(scores[j], row.score[j], error.accumulated[j], bias, unit(i, j))
                                : std::fabs(scores[j] - row.score[j]) / error.accumulated[j]);
    const double relative = error.e(error.score[j], std::log(std::max(row.e[j], f32_smallest)) * -1);
    const double exact = row.e[j] * coded.p_scale, reach = exact * relative + f32_smallest * coded.p_scale;
    if (format == Format::f32) {
      raise(excess.codes, std::fabs(codes[j] - exact) / reach);
    } else {
      const Grid& grid = Grid::of(format);
      const std::size_t right = grid.nearest(exact), found = grid.nearest(codes[j]);
      const auto [low, high] = grid.interval(found);
      raise(excess.codes, std::isnan(codes[j]) ? codes[j] : std::max({0.0, low - exact, exact - high}) / reach);
      excess.differing += right != found;
      excess.expected += std::min(1.0, 2 * reach / grid.step(right));
    }
    raise(excess.probs,
          std::fabs(probs[j] - row.prob[j]) /
              (row.prob[j] * (error.e(error.score[j], row.maximum - row.score[j]) + error.l + f32_epsilon) + f32_smallest));
  }
}

double HeadExpectation::unit(std::int64_t i, std::size_t j) const {
  const std::string& made = run_->implementation;
  const bool product = made.substr(0, made.find(";pv=")).find("->bf16") != std::string::npos;
  return product ? coded.q_scale[static_cast<std::size_t>(i)] * coded.k_scale[j] * coded.scale : 1;
}

double HeadExpectation::context_at(std::int64_t i, std::int64_t c) const {
  return number(run_->taps.at(TapPoint::context), ((b_ * coded.q_len + i) * problem_->q_heads + h_) * coded.dv + c);
}

Excess HeadExpectation::judge(std::int64_t i) const {
  const oracle::CodedRow row = this->row(i);
  const Errors error = errors(i, row, true);
  Excess excess;
  judge_keys(i, row, error, excess);
  const std::int64_t at = (b_ * problem_->q_heads + h_) * coded.q_len + i;
  if (row.visible > 0) {
    const double lse = number(run_->taps.at(TapPoint::lse), at);
    raise(excess.lse, std::fabs(lse - row.lse) / (error.maximum + error.l + 2 * f32_epsilon * (1 + std::fabs(row.lse))));
  }
  const std::vector<double> tolerance = output_error(row, error);
  for (std::int64_t c = 0; c < coded.dv; ++c) {
    const auto n = static_cast<std::size_t>(c);
    const double difference = std::fabs(context_at(i, c) - row.output[n]);
    raise(excess.context, difference == 0 ? 0.0 : difference / tolerance[n]);
  }
  return excess;
}

std::vector<double> HeadExpectation::output_error(const oracle::CodedRow& row, const Errors& error) const {
  std::vector<double> tolerance(static_cast<std::size_t>(coded.dv), 0.0);
  for (std::size_t n = 0; row.visible > 0 && n < tolerance.size(); ++n)
    tolerance[n] = attention_output(row.output[n], row.magnitude[n], static_cast<double>(row.visible), pv_epsilon_, error.l,
                                    error.blocks, error.maximum, problem_->mode == ExecutionMode::emulated);
  return tolerance;
}

/// Stored scores are codes as well: how many may round to another number than the exact score.
double HeadExpectation::score_codes(std::int64_t i, const oracle::CodedRow& row, const Errors& error) const {
  if (problem_->schemes.scores_storage == DType::f32) return 0;
  const Grid& grid = Grid::of(Format::bf16);
  double expected = 0;
  for (std::size_t j = 0; j < row.score.size(); ++j)
    if (coded.visible[static_cast<std::size_t>(i * coded.kv_len) + j] != 0)
      expected += std::min(1.0, 2 * error.accumulated[j] / grid.step(grid.nearest(std::fabs(row.score[j]))));
  return expected;
}

HeadExpectation::Values HeadExpectation::values(std::int64_t i) const {
  const auto copy = [](std::span<const double> x) { return std::vector<double>(x.begin(), x.end()); };
  Values v{copy(row_of(codes_, i)), copy(row_of(probs_, i)), {}};
  if (problem_->schemes.p.format == Format::f32) v.codes.clear();  // not rounded to anything coarser
  if (problem_->schemes.scores_storage != DType::f32)
    for (const double s : row_of(scores_, i)) v.codes.push_back(s);
  for (std::int64_t c = 0; c < coded.dv; ++c) v.context.push_back(context_at(i, c));
  return v;
}

HeadExpectation::Allowance HeadExpectation::allowance(std::int64_t i) const {
  const oracle::CodedRow row = this->row(i);
  const Errors error = errors(i, row, false);
  Excess keys;
  judge_keys(i, row, error, keys);
  Allowance allowed{output_error(row, error), 0, keys.expected + score_codes(i, row, error)};
  for (std::size_t j = 0; j < row.score.size(); ++j)
    if (row.prob[j] > f32_smallest)
      allowed.log_prob =
          std::max(allowed.log_prob, error.e(error.score[j], row.maximum - row.score[j]) + error.l + f32_epsilon);
  return allowed;
}

std::vector<double> HeadExpectation::score_noise(const oracle::CodedRow& row) const {
  const bool stored = problem_->schemes.scores_storage != DType::f32;
  std::vector<double> noise;
  for (std::size_t j = 0; j < row.score.size(); ++j) {
    const double size = std::fabs(row.score[j]);
    noise.push_back(accumulation_rms(static_cast<double>(coded.d), qk_epsilon_, row.score_size[j], row.score[j]) +
                    6 * f32_epsilon * (row.score_magnitude[j] + size) + (stored ? bf16_rounding_rms * size : 0.0));
  }
  return noise;
}

void HeadExpectation::add_scores(std::int64_t i, const oracle::CodedRow& row, std::size_t j, double noise,
                                 Gain& gain) const {
  const std::size_t at = static_cast<std::size_t>(i * coded.kv_len) + j;
  if (coded.visible[at] == 0) return;
  const double bias = coded.bias.empty() ? 0.0 : coded.bias[at];
  gain.add(scores_[at] - bias, row.score[j] - bias, noise + f32_epsilon * std::fabs(bias));
}

void HeadExpectation::add_context(std::int64_t i, const oracle::CodedRow& row, const Errors& error, std::size_t c,
                                  Gain& gain) const {
  if (row.visible == 0) return;
  const auto n = static_cast<double>(row.visible);
  const double roundings = attention_output(row.output[c], row.magnitude[c], n, f32_epsilon, error.l, error.blocks,
                                            error.maximum, problem_->mode == ExecutionMode::emulated);
  gain.add(context_at(i, static_cast<std::int64_t>(c)), row.output[c],
           accumulation_rms(n, pv_epsilon_, row.size[c], row.output[c]) + roundings);
}

Gain HeadExpectation::gain(const Part& part) const {
  Gain gain;
  for (const std::size_t r : part.rows) {
    const auto i = static_cast<std::int64_t>(r);
    const oracle::CodedRow row = this->row(i);
    const std::vector<double> noise = score_noise(row);
    const Errors error = errors(i, row, true);
    for (const std::size_t c : part.columns) {
      if (part.context) add_context(i, row, error, c, gain);
      if (!part.context) add_scores(i, row, c, noise[c], gain);
    }
  }
  return gain;
}

double HeadExpectation::worst_gain() const {
  const auto keys = static_cast<std::size_t>(coded.kv_len), channels = static_cast<std::size_t>(coded.dv);
  std::vector<Gain> all(2), by_key(keys), by_channel(channels);
  double worst = 0;
  for (std::int64_t i = 0; i < coded.q_len; ++i) {
    const oracle::CodedRow row = this->row(i);
    const std::vector<double> noise = score_noise(row);
    const Errors error = errors(i, row, true);
    Gain scores, context;
    for (std::size_t j = 0; j < keys; ++j)
      for (Gain* gain : {&scores, &by_key[j], &all[0]}) add_scores(i, row, j, noise[j], *gain);
    for (std::size_t c = 0; c < channels; ++c)
      for (Gain* gain : {&context, &by_channel[c], &all[1]}) add_context(i, row, error, c, *gain);
    raise(worst, scores.excess());
    raise(worst, context.excess());
  }
  for (const std::vector<Gain>* gains : {&all, &by_key, &by_channel})
    for (const Gain& gain : *gains) raise(worst, gain.excess());
  return worst;
}

Excess HeadExpectation::judge_all() const {
  Excess all;
  for (std::int64_t i = 0; i < coded.q_len; ++i) all += judge(i);
  return all;
}

}  // namespace qfid::tests
