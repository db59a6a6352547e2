#include "eval/metrics/attention_sketch.h"

#include <algorithm>
#include <cmath>

#include "quant/core/error.h"

namespace qfid::eval {

AttentionSketch attention_sketch(std::span<const float> probs, std::int64_t tokens) {
  quant::require(tokens > 0 && static_cast<std::int64_t>(probs.size()) == tokens * tokens,
                 "attention sketch: not a square of probabilities");
  AttentionSketch sketch;
  sketch.block = (tokens + most_sketch_rows - 1) / most_sketch_rows;
  // With blocks of one key the first block is key 0 itself, and there is no column for its rest.
  const auto column_of = [&](std::int64_t key) { return key == 0 ? 0 : sketch.block == 1 ? key : 1 + key / sketch.block; };
  const auto columns = static_cast<std::size_t>(column_of(tokens - 1) + 1);
  for (std::int64_t begin = 0; begin < tokens; begin += sketch.block) {
    const std::int64_t end = std::min(begin + sketch.block, tokens);
    std::vector<double> mass(columns);
    for (std::int64_t q = begin; q < end; ++q)
      for (std::int64_t k = 0; k < tokens; ++k)
        mass[static_cast<std::size_t>(column_of(k))] += static_cast<double>(probs[static_cast<std::size_t>(q * tokens + k)]);
    std::vector<int>& row = sketch.rows.emplace_back();
    for (const double sum : mass) {
      const double share = 1000 * sum / static_cast<double>(end - begin);
      row.push_back(std::isfinite(share) ? static_cast<int>(std::lround(std::clamp(share, 0.0, 1000.0))) : 0);
    }
    while (row.size() > 1 && row.back() == 0) row.pop_back();  // what is masked isn't written
  }
  return sketch;
}

}  // namespace qfid::eval
