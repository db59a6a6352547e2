// What the cast kernels share: a number as it is stored, counts of a block, the types that exist.
#pragma once

#include <algorithm>

#include "kernels/gpu/formats.cuh"
#include "kernels/gpu/gemm.h"
#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/pack.cuh"
#include "kernels/gpu/quantize.h"

namespace qfid::kernels::gpu {

inline CastRule rule_of(const quant::QuantScheme& s) {
  CastRule rule;
  if (s.rule == quant::ScaleRule::compressed_tensors || s.rule == quant::ScaleRule::onnx) rule.low = -128;
  rule.saturate = s.overflow == quant::Overflow::satfinite;
  return rule;
}

/// Extremes of what is finite: the largest of -x and of x, at least 0.
__device__ inline void widen(float& low, float& high, float x) {
  const float v = fabsf(x) <= FLT_MAX ? x : 0.0F;
  low = fmaxf(low, -v);
  high = fmaxf(high, v);
}

/// The largest among `Lanes` neighbours of a warp, in each of them.
template <int Lanes>
__device__ float lanes_max(float v) {
#pragma unroll
  for (int offset = Lanes / 2; offset > 0; offset >>= 1) v = fmaxf(v, __shfl_xor_sync(full_warp, v, offset));
  return v;
}

/// counts += a block's: called by all of its threads, once. A warp's counts meet in shared memory first, as atomics of many
/// warps on one address would take longer than the cast.
__device__ inline void add_tally(std::uint64_t* counts, const Tally& tally) {
  if (counts == nullptr) return;
  __shared__ unsigned all[3];
  const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
  if (thread < 3) all[thread] = 0;
  __syncthreads();
  const unsigned mine[3] = {__reduce_add_sync(full_warp, tally.saturated), __reduce_add_sync(full_warp, tally.flushed),
                            __reduce_add_sync(full_warp, tally.nan)};
  if (thread % 32U == 0)
    for (int i = 0; i < 3; ++i)
      if (mine[i] != 0) atomicAdd(all + i, mine[i]);
  __syncthreads();
  if (thread < 3 && all[thread] != 0) atomicAdd(reinterpret_cast<unsigned long long*>(counts) + thread, all[thread]);
}

/// The stored form of one number: T of one byte holds the code, of two or four the code's value as bf16 or f32.
template <Format F, class T>
__device__ T stored(float x, const Divisor& by, int zero, const CastRule& rule, bool shifted, Tally& tally) {
  const unsigned code = encode<F>(x, by, zero, rule, tally);
  if constexpr (sizeof(T) == 1) return static_cast<T>(F == Format::uint8 && shifted ? code ^ 0x80U : code);
  if constexpr (sizeof(T) == 2)
    return static_cast<T>(F == Format::bf16 ? code : __float_as_uint(decode<F>(code, zero)) >> 16);
  if constexpr (sizeof(T) == 4) return static_cast<T>(__float_as_uint(decode<F>(code, zero)));
}

struct CastArguments {
  Source src;
  CastRule rule;
  bool shifted;
  bool affine;
  quant::ScaleRule scale_rule;
  ScaleView scales;
  std::uint64_t* tally;
  CodeLayout layout;
};

inline CastArguments arguments(const CastJob& job, const CodeLayout& layout) {
  const quant::QuantScheme& s = job.scheme;
  return {job.src, rule_of(s), job.shifted, s.affine, s.rule, job.scales, job.tally, layout};
}

__device__ inline std::int64_t granule(const ScaleView& s, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d) {
  const auto over = [](std::int64_t x, std::int64_t step) { return static_cast<unsigned>(x) / static_cast<unsigned>(step); };
  return b * s.per_window + (over(t, s.s1) * s.c2 + over(h, s.s2)) * s.c3 + over(d, s.s3);
}

/// Where Hopper's products want byte d of row t of rows of `row_bytes` (64, 128; 0 = as it is): 16-byte piece c at c ^ (t /
/// 2 & 3) or c ^ (t & 7), so that eight rows' pieces lie in different banks.
__device__ constexpr std::int64_t swizzled(std::int64_t d, std::int64_t t, std::int64_t row_bytes) {
  return row_bytes == 128 ? d ^ (t & 7) << 4 : row_bytes == 64 ? d ^ (t >> 1 & 3) << 4 : d;
}

/// Where among each 32 keys the fused kernel wants V's key i: in the order in which a thread holds scores it hands P to the
/// next product.
__device__ constexpr int fused_position(int i) { return i / 16 * 16 + i % 8 / 2 * 4 + i / 8 % 2 * 2 + i % 2; }

/// f(format constant, stored type value): the combinations that exist.
template <class Run>
void with_types(Format format, Number number, const Run& run) {
  using F = Format;
  const auto wide = [&]<F f>() {
    if (number == Number::f32) return run.template operator()<f, std::uint32_t>();
    if (number == Number::bf16) return run.template operator()<f, std::uint16_t>();
    run.template operator()<f, std::uint8_t>();
  };
  switch (format) {
    case F::int8:
      return run.template operator()<F::int8, std::uint8_t>();
    case F::uint8:
      return run.template operator()<F::uint8, std::uint8_t>();
    case F::e4m3:
      return wide.template operator()<F::e4m3>();
    case F::e5m2:
      return wide.template operator()<F::e5m2>();
    case F::bf16:
      if (number == Number::f32) return run.template operator()<F::bf16, std::uint32_t>();
      return run.template operator()<F::bf16, std::uint16_t>();
    case F::f32:
      return run.template operator()<F::f32, std::uint32_t>();
  }
}

inline bool by_four(const CastArguments& a) {
  return a.src.D % 4 == 0 && a.layout.columns % 4 == 0 && reinterpret_cast<std::uintptr_t>(a.src.x) % 16 == 0 &&
         a.layout.b % 4 == 0 && a.layout.t % 4 == 0 && a.layout.h % 4 == 0;
}

/// f(part of the job, first window): windows in groups whose counts fit 32 bits.
template <class Part>
void in_groups(const CastJob& job, std::int64_t window, const Part& f) {
  const std::int64_t most = std::max<std::int64_t>(1, (std::int64_t{1} << 30) / std::max<std::int64_t>(1, window));
  for (std::int64_t first = 0; first < job.src.B; first += most) {
    CastJob part = job;
    part.src.B = std::min(most, job.src.B - first);
    part.src.x += first * job.src.T * job.src.H * job.src.D;
    if (part.scales.scale != nullptr) part.scales.scale += first * part.scales.per_window;
    if (part.scales.zero != nullptr) part.scales.zero += first * part.scales.per_window;
    f(part, first);
  }
}

}  // namespace qfid::kernels::gpu
