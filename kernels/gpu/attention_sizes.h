// The sizes of one attention call, checked: _p is padded to what the products' alignment asks.
#pragma once

#include "kernels/attention.h"

namespace qfid::kernels::gpu {

struct Sizes {
  std::int64_t B, q_len, kv_len, q_heads, kv_heads, d, dv, d_p, dv_p, kv_p, rows;
};

/// Query rows of a (window, key head) pair to multiply at once, at most `most`. Under a causal mask a chunk's products leave
/// out the keys beyond its last row's: four chunks do 5/8 of the work, 128 rows fill a product's tile.
std::int64_t rows_at_once(const Sizes& sizes, bool causal, std::int64_t most);

/// Error{internal} naming the input whose shape differs and what was expected.
Sizes sizes_of(const AttentionProblem& problem, const AttentionInputs& inputs);

}  // namespace qfid::kernels::gpu
