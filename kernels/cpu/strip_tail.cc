#include "kernels/cpu/strip_tail.h"

#include <bit>

#include "kernels/host/host_backend.h"
#include "quant/core/dispatch.h"
#include "quant/core/prefetch.h"

namespace qfid::kernels::cpu {

namespace {

enum class Sums : std::uint8_t { plain, biased, scaled, integer };

/// Columns a loop does at once: vectors of every ISA, whatever the number of columns.
constexpr std::int64_t step = 16;

/// Rows that are written soon: their lines must be read first, and prefetchers don't follow rows apart.
constexpr std::int64_t rows_ahead = 4;

/// All but other activations than ReLU.
template <Sums kind, bool rectified, bool added>
struct Rows {
  __attribute__((always_inline)) void operator()(const SumBlock& s) const {
    for (std::int64_t r = 0; r < s.rows; ++r)
      for (std::int64_t c = 0; c < s.columns; c += step) {
        const std::int64_t to = (r + rows_ahead) * s.stride + c;
        quant::prefetch(s.y, to);
        if constexpr (added) quant::prefetch(s.residual, to), quant::prefetch(s.sum, to);
        if (s.columns - c >= step) {
          columns(s, r, c, step);
        } else {
          columns(s, r, c, s.columns - c);
        }
      }
  }

  __attribute__((always_inline)) static void columns(const SumBlock& s, std::int64_t r, std::int64_t c, std::int64_t n) {
    const std::int64_t from = c / s.width * s.strip + r * s.width + c % s.width, to = r * s.stride + c;
    const float* sums = static_cast<const float*>(s.sums) + from;
    float* y = s.y + to;
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) {
      float v = sums[j];
      if constexpr (kind == Sums::integer) {
        // The offset of the codes may have wrapped the sum, and comes off it in the same arithmetic.
        const auto offset = static_cast<std::uint32_t>(s.zeros[r]) * static_cast<std::uint32_t>(s.column_sums[c + j]);
        v = static_cast<float>(static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(v) - offset)) *
                (s.row_scales[r] * s.column_scales[c + j]) +
            s.bias[c + j];
      } else if constexpr (kind == Sums::scaled) {
        v = v * (s.row_scales[r] * s.column_scales[c + j]) + s.bias[c + j];
      } else if constexpr (kind == Sums::biased) {
        v = v + s.bias[c + j];
      }
      if constexpr (rectified) v = v <= 0.0F ? 0.0F : v;  // NaN stays
      y[j] = v;
      if constexpr (added) s.sum[to + j] = s.residual[to + j] + v;
    }
  }
};

template <Sums kind>
void run(const SumBlock& s) {
  const bool rectified = s.activation == Activation::relu;
  if (s.residual == nullptr)
    return rectified ? quant::dispatched(Rows<kind, true, false>{}, s) : quant::dispatched(Rows<kind, false, false>{}, s);
  rectified ? quant::dispatched(Rows<kind, true, true>{}, s) : quant::dispatched(Rows<kind, false, true>{}, s);
}

void run_any(const SumBlock& s) {
  if (s.row_scales != nullptr) return s.integer ? run<Sums::integer>(s) : run<Sums::scaled>(s);
  s.bias != nullptr ? run<Sums::biased>(s) : run<Sums::plain>(s);
}

}  // namespace

void finish(const SumBlock& block) {
  if (!block.activation || block.activation == Activation::relu) return run_any(block);
  SumBlock linear = block;
  linear.activation = {};
  linear.residual = nullptr;
  run_any(linear);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    float* y = block.y + r * block.stride;
    host::activate(y, y, block.columns, *block.activation);
    for (std::int64_t c = 0; block.residual != nullptr && c < block.columns; ++c)
      block.sum[r * block.stride + c] = block.residual[r * block.stride + c] + y[c];
  }
}

}  // namespace qfid::kernels::cpu
