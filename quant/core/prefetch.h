// What a loop reads soon, or writes and must have read first, asked for ahead: hardware prefetchers stop at every page of 4
// KiB and don't follow rows apart.
#pragma once

#include <bit>
#include <cstdint>

namespace qfid::quant {

constexpr std::int64_t line_floats = 16;  ///< f32 numbers in a cache line

/// Into L2: the line of x[ahead], which may lie beyond what x points into.
__attribute__((always_inline)) inline void prefetch(const float* x, std::int64_t ahead) {
  const std::uintptr_t at = std::bit_cast<std::uintptr_t>(x) + static_cast<std::uintptr_t>(ahead) * sizeof(float);
  __builtin_prefetch(std::bit_cast<const void*>(at), 0, 2);
}

}  // namespace qfid::quant
