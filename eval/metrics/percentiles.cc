// Extremes and percentiles of a per-token number, with intervals for the percentiles: the share of tokens at or below the
// percentile is a ratio of window sums with a known standard error, and the interval's ends are the percentiles at that
// share plus and minus its error (Woodruff 1952, J. Am. Stat. Assoc. 47:635). Windows are the units, as for means; one pass
// over the tokens, where a bootstrap of windows would take ten thousand. Blind to: everything between two percentiles.
// Extremes have no interval: no data bounds them.
#include <algorithm>
#include <cmath>

#include "eval/metrics/interval.h"
#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

namespace {

/// Value at share q of sorted values, linear at q (n - 1).
double at_share(const std::vector<double>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto index = static_cast<std::size_t>(position);
  if (index + 1 == sorted.size()) return sorted[index];
  return sorted[index] + (position - static_cast<double>(index)) * (sorted[index + 1] - sorted[index]);
}

/// Standard error of the share of tokens at or below x.
double error_of_share(const std::vector<std::vector<double>>& windows, const std::vector<std::int64_t>& counts, double x,
                      double confidence) {
  std::vector<double> below;
  for (const std::vector<double>& sorted : windows)
    below.push_back(static_cast<double>(std::upper_bound(sorted.begin(), sorted.end(), x) - sorted.begin()));
  return clustered_mean(below, counts, confidence).standard_error;
}

constexpr std::pair<const char*, double> places[] = {
    {"min", 0},    {"p0.1", 0.001}, {"p1", 0.01},  {"p5", 0.05},  {"p10", 0.1},     {"p25", 0.25}, {"median", 0.5},
    {"p75", 0.75}, {"p90", 0.9},    {"p95", 0.95}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};

}  // namespace

void add_percentiles(std::vector<Metric>& all, const std::string& name, const std::string& unit, const TokenData& data,
                     const std::function<double(const kernels::TokenComparison&)>& f) {
  std::vector<std::vector<double>> windows;
  for (const WindowTokens& window : data.windows) {
    std::vector<double>& own = windows.emplace_back();
    for (const kernels::TokenComparison& token : window) own.push_back(f(token));
  }
  add_percentiles(all, name, unit, std::move(windows), data.confidence);
}

void add_percentiles(std::vector<Metric>& all, const std::string& name, const std::string& unit,
                     std::vector<std::vector<double>> windows, double confidence) {
  std::vector<std::int64_t> counts;
  std::vector<double> values;
  for (std::vector<double>& own : windows) {
    counts.push_back(static_cast<std::int64_t>(own.size()));
    std::sort(own.begin(), own.end());
    values.insert(values.end(), own.begin(), own.end());
  }
  std::sort(values.begin(), values.end());
  const bool enough = windows.size() >= min_windows_for_interval;
  const double t = student_t_quantile(0.5 + confidence / 2, std::max(1.0, static_cast<double>(windows.size()) - 1));
  for (const auto& [place, q] : places) {
    Metric metric{name + "." + place, at_share(values, q), std::nullopt, unit, ""};
    if (q == 0 || q == 1) {
      metric.note = "an extreme: no interval";
    } else if (!enough) {
      metric.note = "no interval below " + std::to_string(min_windows_for_interval) + " windows";
    } else {
      const double half = t * error_of_share(windows, counts, *metric.value, confidence);
      if (q - half >= 0 && q + half <= 1)
        metric.ci = Interval{at_share(values, q - half), at_share(values, q + half)};
      else
        metric.note = "no interval: these tokens end before it does";
    }
    all.push_back(std::move(metric));
  }
}

}  // namespace qfid::eval
