// What follows a block of a linear's sums at once: scales, bias, activation, residual. Each step is the rounding it is
// alone.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/backend.h"

namespace qfid::kernels::cpu {

struct SumBlock {
  const void* sums;  ///< [strips][rows of a strip][width], f32, or s32 if `integer`
  std::int64_t rows, columns;
  std::int64_t width;  ///< columns of a strip, a multiple of 16 if there is more than one
  std::int64_t strip;  ///< numbers from strip to strip
  bool integer;
  const float* row_scales;     ///< [rows]; null: nothing is scaled
  const std::int32_t* zeros;   ///< [rows]: of integers, sum - zero * column_sum counts
  const float* column_scales;  ///< [columns]
  const std::int32_t* column_sums;
  const float* bias;  ///< [columns]; null: none
  std::optional<Activation> activation;
  float* y;               ///< may be `sums`
  const float* residual;  ///< null: no sum
  float* sum;             ///< residual + y
  std::int64_t stride;    ///< of y, residual and sum
};

/// y = activation(f32(sum - zero * column_sum) * (row_scale * column_scale) + bias), sum = residual + y.
void finish(const SumBlock& block);

}  // namespace qfid::kernels::cpu
