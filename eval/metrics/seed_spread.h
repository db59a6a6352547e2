// A number over training seeds: what a claim about a kind of model, not about one checkpoint, rests on. Seeds are few and
// nothing is known of how their numbers are spread, so: mean, standard deviation, Student's t interval, and none below five.
#pragma once

#include <optional>
#include <span>

#include "eval/metrics/metric.h"

namespace qfid::eval {

/// Fewer seeds than this give no interval, and no claim.
inline constexpr int min_seeds_for_interval = 5;

struct SeedSpread {
  int seeds = 0;
  double mean = 0;
  std::optional<double> deviation;   ///< standard deviation, n - 1; none of one seed
  std::optional<Interval> interval;  ///< of the mean
};

/// Finite values, one a seed. Empty: Error{internal}.
SeedSpread seed_spread(std::span<const double> values, double confidence);

}  // namespace qfid::eval
