// Shift of the correct token's probability, p_test - p_base: mean, root mean square, extremes, percentiles.
// Blind to: shifts among the other tokens.
#include <cmath>

#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

namespace {
double shift(const kernels::TokenComparison& t) { return static_cast<double>(t.p_test) - static_cast<double>(t.p_base); }
}  // namespace

std::vector<Metric> probability_shift(const TokenData& data) {
  Metric square =
      mean_metric(data, "delta_p.rms", "probability", [](const kernels::TokenComparison& t) { return shift(t) * shift(t); });
  square.value = std::sqrt(*square.value);
  if (square.ci) square.ci = Interval{std::sqrt(std::max(0.0, square.ci->low)), std::sqrt(square.ci->high)};
  std::vector<Metric> all{mean_metric(data, "delta_p.mean", "probability", shift), square};
  add_percentiles(all, "delta_p", "probability", data, shift);
  return all;
}

}  // namespace qfid::eval
