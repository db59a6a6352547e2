// Attention in one kernel on Hopper: scores and P never leave the processor they are made on. Two passes over the keys, the
// first for the rows' maxima, the second for E, its sum, the codes of P and O, so that P is coded against the row's exact
// maximum (reference row_max). The order of roundings is kernels/attention.h's.
#pragma once

#include "kernels/gpu/softmax.h"

namespace qfid::kernels::gpu {

/// Query rows of a block, keys of a step; operands are padded to them.
inline constexpr std::int64_t fused_rows = 128, fused_keys = 128;

/// Operands in the order the kernel copies them, one byte a code: q [B, q_heads, rows, D], k [B, kv_heads, keys, D], rows of
/// D = 64 or 128 bytes swizzled (CodeLayout::swizzle); v as cast_value_tiles leaves it.
struct FusedJob {
  const void *q, *k, *v;
  int windows, q_heads, kv_heads, q_len, kv_len;
  int q_tiles, k_tiles;
  bool causal;
  bool fast_accum;  ///< FP8: sums of P.V stay in the tensor cores' accumulator
  ScoreInputs in;   ///< acc, acc_number are not read
  ProbJob prob;     ///< p, l, number are not read
  ScoreTaps taps;
  std::int32_t* raw = nullptr;  ///< tap scores_i32
  ScaleView v_scales;
  const float* gate;  ///< as FinishInputs
  int width;          ///< of the output's rows, at most D
  float* context;     ///< as finish_rows; may be null
  float* output;
};

/// The products of the kernel that the formats have; null if none: INT8 with P in uint8 or int8, and E4M3 throughout.
struct FusedNames {
  const char *qk = nullptr, *pv = nullptr;
};
FusedNames fused_names(quant::Format q, quant::Format k, quant::Format p, quant::Format v);

/// D of the kernel for heads of q_width and v_width; 0 if they are too wide.
inline int fused_width(std::int64_t q_width, std::int64_t v_width) {
  const std::int64_t widest = q_width > v_width ? q_width : v_width;
  return widest <= 64 ? 64 : widest <= 128 ? 128 : 0;
}

void fused_attention(const FusedJob& job, int D, cudaStream_t stream);

}  // namespace qfid::kernels::gpu
