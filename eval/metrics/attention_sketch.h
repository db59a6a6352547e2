// A head's attention in one window, small enough to keep and to look at: means over blocks of queries of the mass on blocks
// of keys, in thousandths. The first key stands alone, so that a sink isn't spread over its neighbours; each row sums to
// about 1000. Blind to what happens inside a block, and to every other window.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace qfid::eval {

inline constexpr std::int64_t most_sketch_rows = 32;

struct AttentionSketch {
  std::int64_t block = 1;              ///< queries a row, and keys a column from the second on
  std::vector<std::vector<int>> rows;  ///< thousandths; column 0 is key 0, column j the keys of block j - 1 but key 0
};

/// probs: [tokens * tokens], row = query.
AttentionSketch attention_sketch(std::span<const float> probs, std::int64_t tokens);

}  // namespace qfid::eval
