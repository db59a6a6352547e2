#include "eval/metrics/seed_spread.h"

#include <cmath>
#include <numeric>

#include "eval/metrics/interval.h"
#include "quant/core/error.h"

namespace qfid::eval {

SeedSpread seed_spread(std::span<const double> values, double confidence) {
  quant::require(!values.empty(), "seed_spread: no values");
  SeedSpread spread;
  spread.seeds = static_cast<int>(values.size());
  const auto n = static_cast<double>(values.size());
  spread.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  if (values.size() < 2) return spread;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.deviation = std::sqrt(squares / (n - 1));
  if (spread.seeds >= min_seeds_for_interval) {
    const double half = student_t_quantile(0.5 + confidence / 2, n - 1) * *spread.deviation / std::sqrt(n);
    spread.interval = Interval{spread.mean - half, spread.mean + half};
  }
  return spread;
}

}  // namespace qfid::eval
