#include "eval/metrics/gate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "eval/metrics/interval.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

constexpr std::int64_t most_windows = 1'000'000'000;

/// Standard errors between the bound and an effect that is seen with gate_power, by the test with the fewest degrees.
double errors_apart(std::int64_t windows, double alpha) {
  const double degrees = cosine_terms(windows);
  return student_t_quantile(1 - alpha, degrees) + student_t_quantile(gate_power, degrees);
}

double detectable_with(const MeanTest& test, Interval limits) {
  const double half = std::max(limits.high - test.mean(), test.mean() - limits.low);
  const double degrees = cosine_terms(test.windows());
  // The standard error is itself an estimate with few degrees: (1 + 1/degrees) keeps the promise for pilots that drew a
  // small one (measured by error_rates_test.cc on windows disjoint from the pilot).
  return (1 + 1 / degrees) * (half + student_t_quantile(gate_power, degrees) * test.standard_error());
}

std::optional<std::int64_t> windows_needed(double distance, double detectable, std::int64_t windows, double alpha) {
  const double scale = detectable * std::sqrt(static_cast<double>(windows)) / errors_apart(windows, alpha);
  const auto enough = [&](std::int64_t n) {
    return distance * std::sqrt(static_cast<double>(n)) >= scale * errors_apart(n, alpha);
  };
  std::int64_t low = windows, high = windows;
  while (!enough(high)) {
    if (high > most_windows) return std::nullopt;
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (enough(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace

std::string_view to_string(GateOutcome outcome) {
  constexpr std::string_view names[] = {"pass", "fail", "inconclusive"};
  return names[static_cast<int>(outcome)];
}

GateStatistics evaluate_bound(std::span<const double> sums, std::span<const std::int64_t> counts, SumKind kind,
                              GateBound bound, double confidence, ResampleOptions options) {
  GateStatistics result;
  result.windows = static_cast<int>(sums.size());
  if (sums.size() < 2) return result;
  // A lower bound is an upper bound of the negated mean.
  const double sign = bound.upper ? 1 : -1, alpha = 1 - confidence;
  const MeanTest test(sums, counts, kind, options);
  result.effect = test.mean();
  if (result.windows < min_windows_for_interval) return result;
  result.limits = test.limits(alpha);
  result.p_fail = bound.upper ? test.p_above(bound.value, alpha) : test.p_below(bound.value, alpha);
  result.p_pass = bound.upper ? test.p_below(bound.value, alpha) : test.p_above(bound.value, alpha);
  // No variance at all: real values stand where they stand, and a value on its bound is within it.
  if (test.constant() && kind == SumKind::real) {
    const bool within = sign * (test.mean() - bound.value) <= 0;
    result.p_fail = within ? 1 : 0;
    result.p_pass = within ? 0 : 1;
  }
  if (result.p_fail <= alpha) {
    result.outcome = GateOutcome::fail;
  } else if (result.p_pass <= alpha) {
    result.outcome = GateOutcome::pass;
  } else {
    result.detectable = detectable_with(test, *result.limits);
    const double distance = std::fabs(test.mean() - bound.value);
    if (distance > 0) result.windows_needed = windows_needed(distance, *result.detectable, result.windows, alpha);
  }
  return result;
}

double detectable_difference(std::span<const double> pilot_sums, std::span<const std::int64_t> counts, SumKind kind,
                             double confidence, std::int64_t windows, ResampleOptions options) {
  const auto n = static_cast<std::int64_t>(pilot_sums.size());
  quant::require(n >= min_windows_for_interval && windows >= min_windows_for_interval,
                 "detectable_difference: pilot and plan need windows for an interval");
  const MeanTest test(pilot_sums, counts, kind, options);
  const double alpha = 1 - confidence;
  return detectable_with(test, test.limits(alpha)) * std::sqrt(static_cast<double>(n) / static_cast<double>(windows)) *
         errors_apart(windows, alpha) / errors_apart(n, alpha);
}

ResampleOptions resamples_for(std::size_t gates, double confidence) {
  constexpr double least = 9999, most = 999'999;
  const double wanted = 10 * static_cast<double>(gates) / (1 - confidence);
  ResampleOptions options;
  options.resamples = static_cast<int>(std::clamp(std::ceil(wanted), least, most));
  return options;
}

std::vector<bool> holm(std::span<const FailTest> tests) {
  std::vector<std::size_t> order(tests.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto level = [&](std::size_t i) { return tests[i].p / tests[i].alpha; };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return level(a) < level(b); });
  std::vector<bool> rejected(tests.size(), false);
  for (std::size_t k = 0; k < order.size(); ++k) {
    if (!(level(order[k]) * static_cast<double>(order.size() - k) <= 1)) break;
    rejected[order[k]] = true;
  }
  return rejected;
}

}  // namespace qfid::eval
