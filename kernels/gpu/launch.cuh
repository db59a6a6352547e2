// What the kernels share: launch sizes, checks, reductions of warps and blocks in a fixed order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/gpu/context.h"

namespace qfid::kernels::gpu {

inline constexpr unsigned full_warp = 0xFFFFFFFFU;

/// Blocks for n items at `per_block`; kernels stride over the grid, so the number is only capped.
inline unsigned blocks_for(std::int64_t n, std::int64_t per_block) {
  const std::int64_t blocks = (n + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > (std::int64_t{1} << 30) ? (std::int64_t{1} << 30) : blocks);
}

inline void launched(const char* kernel) { check(cudaGetLastError(), kernel); }

template <class T>
__device__ T warp_sum(T v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(full_warp, v, offset);
  return v;
}

template <class T>
__device__ T warp_max(T v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    const T other = __shfl_xor_sync(full_warp, v, offset);
    v = other > v ? other : v;
  }
  return v;
}

/// Sum over a block of whole warps, the same in every thread and every run. `shared` holds 32 values.
template <class T>
__device__ T block_sum(T v, T* shared) {
  v = warp_sum(v);
  const int lane = static_cast<int>(threadIdx.x & 31U), warp = static_cast<int>(threadIdx.x >> 5U);
  __syncthreads();
  if (lane == 0) shared[warp] = v;
  __syncthreads();
  T total = shared[0];
  for (int w = 1; w < static_cast<int>(blockDim.x >> 5U); ++w) total += shared[w];
  return total;
}

template <class T>
__device__ T block_max(T v, T* shared) {
  v = warp_max(v);
  const int lane = static_cast<int>(threadIdx.x & 31U), warp = static_cast<int>(threadIdx.x >> 5U);
  __syncthreads();
  if (lane == 0) shared[warp] = v;
  __syncthreads();
  T top = shared[0];
  for (int w = 1; w < static_cast<int>(blockDim.x >> 5U); ++w) top = shared[w] > top ? shared[w] : top;
  return top;
}

}  // namespace qfid::kernels::gpu
