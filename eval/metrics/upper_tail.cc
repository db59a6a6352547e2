#include "eval/metrics/upper_tail.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "quant/core/error.h"

namespace qfid::eval {

void UpperTail::add(float value, std::int64_t most) {
  ++n_;
  nan_ = nan_ || std::isnan(value);
  if (nan_) return;
  largest_.push_back(value);
  // The order statistics at and above q (n - 1), n <= most.
  const auto needed = static_cast<std::size_t>(std::ceil((1 - q) * static_cast<double>(most))) + 2;
  if (largest_.size() < 2 * needed) return;
  std::nth_element(largest_.begin(), largest_.begin() + static_cast<std::ptrdiff_t>(needed), largest_.end(),
                   std::greater<>());
  largest_.resize(needed);
}

std::optional<double> UpperTail::percentile() const {
  if (n_ == 0) return std::nullopt;
  if (nan_) return std::numeric_limits<double>::quiet_NaN();
  const double place = q * static_cast<double>(n_ - 1), below = std::floor(place);
  const auto from_top = static_cast<std::size_t>(n_ - 1) - static_cast<std::size_t>(below);
  quant::require(from_top < largest_.size(), "percentile: more values than were announced");
  std::vector<float> sorted = largest_;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const auto low = static_cast<double>(sorted[from_top]);
  const double high = from_top == 0 ? low : static_cast<double>(sorted[from_top - 1]);
  return low + (place - below) * (high - low);
}

}  // namespace qfid::eval
