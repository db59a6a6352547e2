// What a loop reads soon, asked for ahead: hardware prefetchers stop at every page of 4 KiB and don't follow rows apart.
#pragma once

#include <cstdint>

namespace qfid::quant {

constexpr std::int64_t line_floats = 16;  ///< f32 numbers in a cache line

/// Into L2: the line of x[ahead], which may lie beyond what x points into.
__attribute__((always_inline)) inline void prefetch(const float* x, std::int64_t ahead) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(x) +
                                                   static_cast<std::uintptr_t>(ahead) * sizeof(float)),
                     0, 2);
}

}  // namespace qfid::quant
