#include "kernels/reductions.h"

namespace qfid::kernels {

std::vector<std::vector<quant::DistortionStats>> Reductions::distortion_of(std::span<const Pair> pairs) {
  std::vector<std::vector<quant::DistortionStats>> all;
  for (const auto& [x, y] : pairs) all.push_back(distortion(x, y));
  return all;
}

std::vector<std::vector<RowStats>> Reductions::row_stats_of(std::span<const DeviceTensor> tensors) {
  std::vector<std::vector<RowStats>> all;
  for (const DeviceTensor& x : tensors) all.push_back(row_stats(x));
  return all;
}

}  // namespace qfid::kernels
