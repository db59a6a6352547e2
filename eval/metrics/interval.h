// Uncertainty of a mean over tokens when windows, not tokens, are independent.
#pragma once

#include <optional>
#include <span>

#include "eval/metrics/metric.h"

namespace qfid::eval {

/// Fewer windows than this give no interval (docs/metrics.md).
inline constexpr int min_windows_for_interval = 16;

/// Regularized incomplete beta function I_x(a, b), a, b > 0, 0 <= x <= 1 (continued fraction, DLMF 8.17.22).
double incomplete_beta(double a, double b, double x);

/// Quantile of Student's t distribution, 0 < probability < 1, degrees > 0.
double student_t_quantile(double probability, double degrees);

/// P(T > t) of Student's t distribution, degrees > 0.
double student_t_upper_tail(double t, double degrees);

/// Mean over tokens of a quantity with per-window sums, as a ratio estimator sum(sums)/sum(counts), and its
/// window-clustered t interval (linearized; Cochran 1977, 6.3): s^2 = n/(n-1) sum (S_w - r C_w)^2 / C^2.
/// No interval below min_windows_for_interval windows. Empty input or zero tokens: Error{internal}.
struct ClusteredMean {
  double mean = 0;
  double standard_error = 0;
  std::optional<Interval> interval;
};
ClusteredMean clustered_mean(std::span<const double> sums, std::span<const std::int64_t> counts, double confidence);

/// The same estimator and interval for the ratio of two quantities summed over the same windows; a total of 0 below the
/// line: Error{internal}.
ClusteredMean clustered_ratio(std::span<const double> above, std::span<const double> below, double confidence);

/// Quantile q in [0, 1] of values (reordered), linear interpolation at q (n - 1). Empty: Error{internal}.
double quantile(std::span<double> values, double q);

}  // namespace qfid::eval
