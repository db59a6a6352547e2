// ||W_O g v_t||, what a head's value weighs once the output projection has taken it in, without that projection's width: of
// the head's slice W = Q R only R matters, as ||W x|| = ||R x||.
#pragma once

#include "quant/core/tensor.h"

namespace qfid::eval {

/// weight f32 [out, heads * d] -> f32 [heads, d, d]: the upper triangular factors of its slices [out, d] (modified
/// Gram-Schmidt in double, whose R is that of a slice changed by roundings alone; Bjorck 1967).
quant::Tensor head_factors(quant::View<const float> weight, std::int64_t heads);

}  // namespace qfid::eval
