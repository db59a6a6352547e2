// What the casts share: their arguments, one number's code as it is stored, the scale it has, what was counted.
#pragma once

#include "kernels/gpu/formats.cuh"
#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/quantize.h"

namespace qfid::kernels::gpu {

/// Where Hopper's products want byte d of row t of rows of `row_bytes` (64, 128; 0 = as it is): 16-byte piece c at c ^ (t /
/// 2 & 3) or c ^ (t & 7), so that eight rows' pieces lie in different banks.
__device__ constexpr std::int64_t swizzled(std::int64_t d, std::int64_t t, std::int64_t row_bytes) {
  return row_bytes == 128 ? d ^ (t & 7) << 4 : row_bytes == 64 ? d ^ (t >> 1 & 3) << 4 : d;
}

/// Where among each 32 keys the fused kernel wants V's key i: in the order in which a thread holds scores it hands P to the
/// next product.
__device__ constexpr int fused_position(int i) { return i / 16 * 16 + i % 8 / 2 * 4 + i / 8 % 2 * 2 + i % 2; }

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
  CastRule rule;
  if (s.rule == quant::ScaleRule::compressed_tensors || s.rule == quant::ScaleRule::onnx) rule.low = -128;
  rule.saturate = s.overflow == quant::Overflow::satfinite;
  return {job.src, rule, job.shifted, s.affine, s.rule, job.scales, job.tally, layout};
}

__device__ inline void add_tally(std::uint64_t* counts, const Tally& tally) {
  if (counts == nullptr) return;
  if (__any_sync(full_warp, (tally.saturated | tally.flushed | tally.nan) != 0) == 0) return;
  const unsigned saturated = __reduce_add_sync(full_warp, tally.saturated);
  const unsigned flushed = __reduce_add_sync(full_warp, tally.flushed), nan = __reduce_add_sync(full_warp, tally.nan);
  if ((threadIdx.x & 31U) != 0) return;
  auto* out = reinterpret_cast<unsigned long long*>(counts);
  if (saturated != 0) atomicAdd(out, saturated);
  if (flushed != 0) atomicAdd(out + 1, flushed);
  if (nan != 0) atomicAdd(out + 2, nan);
}

/// The stored form of one number: T of one byte holds the code, of two or four the code's value as bf16 or f32.
template <Format F, class T>
__device__ T stored(float x, const Divisor& by, int zero, const CastArguments& a, Tally& tally) {
  const unsigned code = encode<F>(x, by, zero, a.rule, tally);
  if constexpr (sizeof(T) == 1) return static_cast<T>(F == Format::uint8 && a.shifted ? code ^ 0x80U : code);
  if constexpr (sizeof(T) == 2)
    return static_cast<T>(F == Format::bf16 ? code : __float_as_uint(decode<F>(code, zero)) >> 16);
  if constexpr (sizeof(T) == 4) return static_cast<T>(__float_as_uint(decode<F>(code, zero)));
}

__device__ inline std::int64_t granule(const ScaleView& s, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d) {
  const auto over = [](std::int64_t x, std::int64_t step) { return static_cast<unsigned>(x) / static_cast<unsigned>(step); };
  return b * s.per_window + (over(t, s.s1) * s.c2 + over(h, s.s2)) * s.c3 + over(d, s.s3);
}

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

}  // namespace qfid::kernels::gpu
