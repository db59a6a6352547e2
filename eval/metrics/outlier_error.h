// Outlier -> error: do the places with outliers have the errors? Spearman's rank correlations over places between what the
// baseline shows there (kurtosis, infinity norm, attention to the first key) and the target's local error.
// Blind to: cause; monotone relations apart, to shape; few layers give few places, so the note says how many.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "eval/metrics/metric.h"

namespace qfid::eval {

/// Spearman's correlation, ties by mean rank; null below 3 places, or where either side is constant or has a NaN.
std::optional<double> rank_correlation(std::span<const double> x, std::span<const double> y);

/// Rows of the baseline's own tables and of the target's. Empty without local errors.
std::vector<Metric> outlier_error(const std::vector<LayerRow>& baseline, const std::vector<LayerRow>& target);

}  // namespace qfid::eval
