#include "kernels/cpu/strip_tail.h"

#include <bit>

#include "kernels/host/host_backend.h"
#include "quant/core/dispatch.h"

namespace qfid::kernels::cpu {

namespace {

/// Scales and bias.
struct Scaled {
  __attribute__((always_inline)) void operator()(const SumBlock& s) const {
    for (std::int64_t r = 0; r < s.rows; ++r) {
      float* __restrict y = s.y + r * s.stride;
      const float scale = s.row_scales[r];
      const std::int32_t zero = s.zeros[r];
      if (s.integer) {
        for (std::int64_t c = 0; c < s.columns; ++c)
          y[c] = static_cast<float>(std::bit_cast<std::int32_t>(y[c]) - zero * s.column_sums[c]) *
                     (scale * s.column_scales[c]) +
                 s.bias[c];
      } else {
        for (std::int64_t c = 0; c < s.columns; ++c) y[c] = y[c] * (scale * s.column_scales[c]) + s.bias[c];
      }
    }
  }
};

struct Biased {
  __attribute__((always_inline)) void operator()(const SumBlock& s) const {
    for (std::int64_t r = 0; r < s.rows; ++r) {
      float* __restrict y = s.y + r * s.stride;
      for (std::int64_t c = 0; c < s.columns; ++c) y[c] += s.bias[c];
    }
  }
};

struct Rectified {
  __attribute__((always_inline)) void operator()(const SumBlock& s) const {
    for (std::int64_t r = 0; r < s.rows; ++r) {
      float* __restrict y = s.y + r * s.stride;
      for (std::int64_t c = 0; c < s.columns; ++c) y[c] = y[c] > 0.0F ? y[c] : (y[c] == y[c] ? 0.0F : y[c]);
    }
  }
};

struct Summed {
  __attribute__((always_inline)) void operator()(const SumBlock& s) const {
    for (std::int64_t r = 0; r < s.rows; ++r) {
      const float* y = s.y + r * s.stride;
      const float* residual = s.residual + r * s.stride;
      float* __restrict sum = s.sum + r * s.stride;
      for (std::int64_t c = 0; c < s.columns; ++c) sum[c] = residual[c] + y[c];
    }
  }
};

}  // namespace

void finish(const SumBlock& block) {
  if (block.row_scales != nullptr) {
    quant::dispatched(Scaled{}, block);
  } else if (block.bias != nullptr) {
    quant::dispatched(Biased{}, block);
  }
  if (block.activation == Activation::relu) {
    quant::dispatched(Rectified{}, block);
  } else if (block.activation) {
    for (std::int64_t r = 0; r < block.rows; ++r) {
      float* y = block.y + r * block.stride;
      host::activate(y, y, block.columns, *block.activation);
    }
  }
  if (block.residual != nullptr) quant::dispatched(Summed{}, block);
}

}  // namespace qfid::kernels::cpu
