// What follows the product of a quantized linear.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <optional>

#include "kernels/backend.h"
#include "kernels/gpu/gemm.h"
#include "kernels/gpu/quantize.h"

namespace qfid::kernels::gpu {

/// dst[r, o] = act(f32(acc[r, o] + (shift - z_r) * colsum[o]) * (s_r * sw[o]) + bias[o]), sum = residual + dst; rows r of
/// windows of `tokens`.
struct EpilogueJob {
  const void* acc;  ///< [rows, ld], s32 or f32
  Number number;
  std::int64_t ld, rows, first_row, tokens, out;
  ScaleView x;                 ///< scales of the activations, by token or by window
  const float* sw;             ///< [out]
  const float* bias;           ///< [out], zeros without one
  const std::int32_t* colsum;  ///< [out], or null when z and shift are 0
  std::int32_t shift;          ///< 128 where uint8 codes were stored less 128
  std::optional<Activation> activation;
  float* dst;             ///< [rows, out]
  const float* residual;  ///< [rows, out], or null: no sum
  float* sum;             ///< [rows, out]
};
void scale_and_bias(const EpilogueJob& job, cudaStream_t stream);

/// Scales of activations by group, as cuBLASLt reads those of `rows` rows from `first` on (of windows of `tokens`):
/// dst[g, r] = the scale of group g of row first + r, and 1 for r in [rows, ld).
struct ScaleRows {
  ScaleView scales;  ///< [tokens, groups] of each window, or of all (per_window 0)
  std::int64_t first, rows, tokens, groups, ld;
};
void transpose_scales(const ScaleRows& job, float* dst, cudaStream_t stream);

}  // namespace qfid::kernels::gpu
