// The sizes of one attention call, checked: _p is padded to what the products' alignment asks.
#pragma once

#include "kernels/attention.h"

namespace qfid::kernels::gpu {

struct Sizes {
  std::int64_t B, q_len, kv_len, q_heads, kv_heads, d, dv, d_p, dv_p, kv_p, rows;
};

/// Error{internal} naming the input whose shape differs and what was expected.
Sizes sizes_of(const AttentionProblem& problem, const AttentionInputs& inputs);

}  // namespace qfid::kernels::gpu
