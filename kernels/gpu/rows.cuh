// What both row passes of softmax.cu and softmax_plain.cu do alike, so that a listener never changes a bit: eight keys a
// thread at a time (a unit), exp, codes of P, sums of a unit, a warp, a row, all in one order.
#pragma once

#include "kernels/gpu/scores.cuh"

namespace qfid::kernels::gpu {

/// Keys a thread takes at a time: 16 bytes of bf16 scores, twice 16 of wider ones.
inline constexpr int unit = 8;

/// How many threads share a row of ld keys, and how many units each of them takes then; 0: as many as there are.
struct RowShare {
  int threads, units;
};
inline RowShare row_share(std::int64_t ld) {
  if (ld <= 512) return {32, 2};
  if (ld <= 1024) return {32, 4};
  if (ld <= 2048) return {64, 4};
  if (ld <= 4096) return {128, 4};
  if (ld <= 8192) return {256, 4};
  return {512, ld <= 16384 ? 4 : 0};
}
/// Rows of one block: a warp a row leaves room for several.
__host__ __device__ constexpr int rows_of_block(int threads) { return threads == 32 ? 8 : 1; }

__device__ inline float unit_sum(const float (&e)[unit]) {
  return ((e[0] + e[1]) + (e[2] + e[3])) + ((e[4] + e[5]) + (e[6] + e[7]));
}

/// Sum and count of a row's threads, in all of them. Each array holds a number a warp.
__device__ inline void row_sum(int threads, float& sum, int& count, float* sums, int* counts) {
  sum = warp_sum(sum);
  count = __reduce_add_sync(full_warp, count);
  if (threads == 32) return;
  if ((threadIdx.x & 31U) == 0) {
    sums[threadIdx.x >> 5U] = sum;
    counts[threadIdx.x >> 5U] = count;
  }
  __syncthreads();
  sum = sums[0];
  count = counts[0];
  for (int w = 1; w < threads / 32; ++w) {
    sum += sums[w];
    count += counts[w];
  }
}

/// The largest of a row's threads, in all of them.
__device__ inline float row_max(int threads, float top, float* tops) {
  top = warp_max(top);
  if (threads == 32) return top;
  if ((threadIdx.x & 31U) == 0) tops[threadIdx.x >> 5U] = top;
  __syncthreads();
  top = tops[0];
  for (int w = 1; w < threads / 32; ++w) top = fmaxf(top, tops[w]);
  return top;
}

/// Counts of one row: visible keys, zero codes among them, whether there were none.
__device__ inline void add_counts(const RowChunk& chunk, const ProbJob& job, const Row& row, int visible, int zeros,
                                  bool masked) {
  auto* counts =
      reinterpret_cast<unsigned long long*>(job.counts) + (static_cast<std::int64_t>(row.b) * chunk.q_heads + row.h) * 3;
  if (visible != 0) atomicAdd(counts, static_cast<unsigned long long>(visible));
  if (zeros != 0) atomicAdd(counts + 1, static_cast<unsigned long long>(zeros));
  if (masked) atomicAdd(counts + 2, 1ULL);
}

/// softmax_plain.cu: rows without masks, bias, listener or a sum of codes. Whether it has a kernel for them.
bool plain_rows(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, cudaStream_t stream);

}  // namespace qfid::kernels::gpu
