#include "kernels/cpu/strip_tail.h"

#include <bit>
#include <cstring>

#include "kernels/host/host_backend.h"
#include "quant/core/dispatch.h"

namespace qfid::kernels::cpu {

namespace {

struct IntegerRow {
  __attribute__((always_inline)) void operator()(const SumBlock& s, const std::int32_t* sums, std::int64_t r,
                                                 float* y) const {
    const float scale = s.row_scales[r];
    const std::int32_t zero = s.zeros[r];
#pragma GCC ivdep
    for (std::int64_t c = 0; c < s.columns; ++c)
      y[c] = static_cast<float>(sums[c] - zero * s.column_sums[c]) * (scale * s.column_scales[c]) + s.bias[c];
  }
};

struct FloatRow {
  __attribute__((always_inline)) void operator()(const SumBlock& s, const float* sums, std::int64_t r, float* y) const {
    if (s.row_scales != nullptr) {
      const float scale = s.row_scales[r];
#pragma GCC ivdep
      for (std::int64_t c = 0; c < s.columns; ++c) y[c] = sums[c] * (scale * s.column_scales[c]) + s.bias[c];
    } else if (s.bias != nullptr) {
#pragma GCC ivdep
      for (std::int64_t c = 0; c < s.columns; ++c) y[c] = sums[c] + s.bias[c];
    } else if (y != sums) {
      std::memcpy(y, sums, static_cast<std::size_t>(s.columns) * sizeof(float));
    }
  }
};

/// All but other activations than ReLU, and then without the sum.
struct Rows {
  __attribute__((always_inline)) void operator()(const SumBlock& s) const {
    for (std::int64_t r = 0; r < s.rows; ++r) {
      float* y = s.y + r * s.stride;
      if (s.integer) {
        IntegerRow{}(s, static_cast<const std::int32_t*>(s.sums) + r * s.sums_stride, r, y);
      } else {
        FloatRow{}(s, static_cast<const float*>(s.sums) + r * s.sums_stride, r, y);
      }
      if (s.activation == Activation::relu)
        for (std::int64_t c = 0; c < s.columns; ++c) y[c] = y[c] > 0.0F ? y[c] : (y[c] == y[c] ? 0.0F : y[c]);
      if (s.residual == nullptr) continue;
      const float* residual = s.residual + r * s.stride;
      float* sum = s.sum + r * s.stride;
#pragma GCC ivdep
      for (std::int64_t c = 0; c < s.columns; ++c) sum[c] = residual[c] + y[c];
    }
  }
};

}  // namespace

void finish(const SumBlock& block) {
  if (!block.activation || block.activation == Activation::relu) return quant::dispatched(Rows{}, block);
  SumBlock linear = block;
  linear.residual = nullptr;
  quant::dispatched(Rows{}, linear);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    float* y = block.y + r * block.stride;
    host::activate(y, y, block.columns, *block.activation);
    for (std::int64_t c = 0; block.residual != nullptr && c < block.columns; ++c)
      block.sum[r * block.stride + c] = block.residual[r * block.stride + c] + y[c];
  }
}

}  // namespace qfid::kernels::cpu
