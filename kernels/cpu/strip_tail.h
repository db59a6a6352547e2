// What follows a block of a linear's sums at once, in place: scales, bias, activation, residual. Each step is the rounding
// it is alone.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/backend.h"

namespace qfid::kernels::cpu {

struct SumBlock {
  float* y;  ///< sums: f32, or the bits of s32
  std::int64_t rows, columns, stride;
  bool integer;
  const float* row_scales;     ///< [rows]; null: nothing is scaled
  const std::int32_t* zeros;   ///< [rows]: integer y is y - zero * column_sums
  const float* column_scales;  ///< [columns]
  const std::int32_t* column_sums;
  const float* bias;      ///< [columns]; null: none
  const float* residual;  ///< of y's stride; null: no sum
  float* sum;             ///< residual + y
  std::optional<Activation> activation;
};

/// y = activation(f32(y - zero * column_sum) * (row_scale * column_scale) + bias), sum = residual + y.
void finish(const SumBlock& block);

}  // namespace qfid::kernels::cpu
