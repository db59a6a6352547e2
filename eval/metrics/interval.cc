#include "eval/metrics/interval.h"

#include <algorithm>
#include <cmath>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

/// Lentz's method on the continued fraction of DLMF 8.17.22; converges fast for x < (a+1)/(a+b+2).
double beta_fraction(double a, double b, double x) {
  constexpr double tiny = 1e-300;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::abs(d) < tiny ? tiny : d);
  double result = d;
  for (int m = 1; m <= 500; ++m) {
    const double steps[2] = {m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                             -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))};
    double change = 1;
    for (double step : steps) {
      d = 1 + step * d;
      d = 1 / (std::abs(d) < tiny ? tiny : d);
      c = 1 + step / c;
      c = std::abs(c) < tiny ? tiny : c;
      change = c * d;
      result *= change;
    }
    if (std::abs(change - 1) < 1e-15) break;
  }
  return result;
}

}  // namespace

double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front = std::exp(a * std::log(x) + b * std::log1p(-x) + std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double student_t_upper_tail(double t, double degrees) {
  const double tail = 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
  return t >= 0 ? tail : 1 - tail;
}

double student_t_quantile(double probability, double degrees) {
  quant::require(probability > 0 && probability < 1 && degrees > 0, "student_t_quantile: arguments out of range");
  if (probability < 0.5) return -student_t_quantile(1 - probability, degrees);
  const auto upper_tail = [&](double t) { return student_t_upper_tail(t, degrees); };
  double low = 0, high = 1;
  while (upper_tail(high) > 1 - probability) high *= 2;
  for (int i = 0; i < 200 && high - low > 1e-14 * high; ++i) {
    const double middle = 0.5 * (low + high);
    (upper_tail(middle) > 1 - probability ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

ClusteredMean clustered_mean(std::span<const double> sums, std::span<const std::int64_t> counts, double confidence) {
  const std::vector<double> tokens(counts.begin(), counts.end());
  return clustered_ratio(sums, tokens, confidence);
}

ClusteredMean clustered_ratio(std::span<const double> above, std::span<const double> below, double confidence) {
  quant::require(!above.empty() && above.size() == below.size(), "clustered_ratio: no windows, or unequal lengths");
  double total = 0, base = 0;
  for (std::size_t i = 0; i < above.size(); ++i) {
    total += above[i];
    base += below[i];
  }
  quant::require(base > 0, "clustered_ratio: nothing below the line");
  ClusteredMean result;
  result.mean = total / base;
  const auto n = static_cast<double>(above.size());
  if (above.size() < 2) return result;
  double squares = 0;
  for (std::size_t i = 0; i < above.size(); ++i) {
    const double residual = above[i] - result.mean * below[i];
    squares += residual * residual;
  }
  result.standard_error = std::sqrt(n / (n - 1) * squares) / base;
  if (above.size() >= min_windows_for_interval) {
    const double half = student_t_quantile(0.5 + confidence / 2, n - 1) * result.standard_error;
    result.interval = Interval{result.mean - half, result.mean + half};
  }
  return result;
}

double quantile(std::span<double> values, double q) {
  quant::require(!values.empty() && q >= 0 && q <= 1, "quantile: no values, or q outside [0, 1]");
  const double position = q * static_cast<double>(values.size() - 1);
  const auto index = static_cast<std::ptrdiff_t>(position);
  std::nth_element(values.begin(), values.begin() + index, values.end());
  const double low = values[static_cast<std::size_t>(index)];
  if (static_cast<double>(index) == position) return low;
  const double high = *std::min_element(values.begin() + index + 1, values.end());
  return low + (position - static_cast<double>(index)) * (high - low);
}

}  // namespace qfid::eval
