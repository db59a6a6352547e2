#include "eval/experiment/arm.h"

#include <format>

namespace qfid::eval {

std::string Place::text() const {
  std::string text = step;
  if (layer >= 0) text += std::format("{}layer {}", text.empty() ? "" : " of ", layer);
  if (window >= 0) text += std::format("{}windows {}-{}", text.empty() ? "" : ", ", window, last);
  return text.empty() ? "" : " (" + text + ")";
}

void Arm::look_at(int layer, const char* tap, const std::vector<kernels::RowStats>& windows, std::int64_t first) {
  for (std::size_t w = 0; w < windows.size(); ++w)
    if (windows[w].non_finite > 0)
      non_finite.try_emplace(first + static_cast<std::int64_t>(w),
                             NonFinite{layer, tap, windows[w].non_finite, windows[w].elements});
}

std::string Arm::origin_of(std::int64_t window) const {
  const auto found = non_finite.find(window);
  if (found == non_finite.end()) return "; every tap before them is finite";
  const NonFinite& n = found->second;
  return std::format("; the first ones are in {}{}: {} of {} values", n.tap,
                     n.layer < 0 ? "" : std::format(" of layer {}", n.layer), n.values, n.elements);
}

}  // namespace qfid::eval
