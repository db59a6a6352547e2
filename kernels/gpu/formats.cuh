// Codecs on the device: the arithmetic of quant/codec_vector.cc, bit for bit, and the scale rules of quant/quantize.cc.
// Sources with these are compiled without contraction (--fmad=false); divisions are IEEE's.
#pragma once

#include <cuda_fp8.h>

#include <cfloat>
#include <cstdint>

#include "quant/quantize.h"

namespace qfid::kernels::gpu {

using quant::Format;

struct Tally {
  unsigned saturated = 0, flushed = 0, nan = 0;
};

/// How a cast ends: limits of integer codes, what FP8 does beyond its largest number.
struct CastRule {
  float low = -127, high = 127;  ///< int8; uint8 has (0, 255) less its zero point
  bool saturate = true;
};

/// Divides by one scale many times: IEEE's quotient wherever a code depends on its bits.
struct Divisor {
  float scale, reciprocal;
  bool plain;  ///< remainders of quotients between 2^-20 and 2^20 are exact

  __device__ explicit Divisor(float s) : scale(s), reciprocal(1.0F / s), plain(s >= 0x1p-80F && s <= 0x1p80F) {}

  /// x / scale. Below 2^-20 (no format's code is other than zero there) and above 2^20 (beyond every format's largest
  /// number) only near it. Two corrections by the remainder after x times the rounded reciprocal: the first leaves less than
  /// a unit in the last place, the second rounds correctly (Markstein, IBM J. Res. Dev. 34, 1990).
  __device__ float quotient(float x) const {
    if (!plain) return x / scale;
    const float near = x * reciprocal;
    const float once = __fmaf_rn(__fmaf_rn(-near, scale, x), reciprocal, near);
    const float twice = __fmaf_rn(__fmaf_rn(-once, scale, x), reciprocal, once);
    const float size = fabsf(near);
    return size >= 0x1p-20F && size <= 0x1p20F ? twice : near;
  }
};

template <int mantissa, int bias, unsigned largest, unsigned beyond>
__device__ inline unsigned encode_fp8(float src, const Divisor& by, bool saturate, Tally& tally) {
  const float x = by.quotient(src);
  if (saturate) {
    constexpr bool e4m3 = mantissa == 3;
    const float size = fabsf(x);
    const unsigned code = __nv_cvt_float_to_fp8(x, __NV_SATFINITE, e4m3 ? __NV_E4M3 : __NV_E5M2);
    // The tie above E4M3's largest number goes to it, the one above E5M2's doesn't.
    tally.saturated += (e4m3 ? size > 464.0F : size >= 61440.0F) ? 1U : 0U;
    tally.nan += x != x ? 1U : 0U;
    tally.flushed += (code & 0x7FU) == 0 && src != 0.0F ? 1U : 0U;
    return code;
  }
  constexpr int shift = 23 - mantissa;
  constexpr unsigned magic_bits = static_cast<unsigned>(127 + 1 - bias - mantissa + 23) << 23;
  constexpr unsigned smallest_normal = static_cast<unsigned>(127 + 1 - bias) << 23;
  const unsigned bits = __float_as_uint(x), magnitude = bits & 0x7FFFFFFFU;
  const bool is_nan = magnitude > 0x7F800000U;
  const unsigned normal = ((magnitude + (1U << (shift - 1)) - 1U + ((magnitude >> shift) & 1U)) >> shift) -
                          (static_cast<unsigned>(127 - bias) << mantissa);
  const unsigned subnormal = __float_as_uint(__uint_as_float(magnitude) + __uint_as_float(magic_bits)) - magic_bits;
  const unsigned code = magnitude < smallest_normal ? subnormal : normal;
  const bool too_large = code > largest;
  tally.nan += is_nan ? 1U : 0U;
  tally.saturated += !is_nan && too_large ? 1U : 0U;
  tally.flushed += code == 0 && src != 0.0F ? 1U : 0U;
  return is_nan ? 0x7FU : (too_large ? beyond : code) | ((bits >> 24) & 0x80U);
}

/// 1.5 * 2^23: added to a small number it leaves its nearest integer, ties to even, in the last bits.
inline constexpr float integer_magic = 12582912.0F;

__device__ inline int encode_integer(float src, const Divisor& by, float low, float high, Tally& tally) {
  const float x = src == src ? src : 0.0F;
  const float rounded = (fminf(fmaxf(by.quotient(x), -1000.0F), 1000.0F) + integer_magic) - integer_magic;
  const float code = fminf(fmaxf(rounded, low), high);
  tally.saturated += code != rounded ? 1U : 0U;
  tally.flushed += x != 0.0F && code == 0.0F ? 1U : 0U;
  tally.nan += src != src ? 1U : 0U;
  return static_cast<int>(__float_as_uint(code + integer_magic) - 0x4B400000U);
}

__device__ inline unsigned encode_bf16(float src) {
  const unsigned bits = __float_as_uint(src);
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  return is_nan ? 0x7FC0U : (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
}

/// Code of one number: the storage bits of `F` (int8 as its two's complement byte).
template <Format F>
__device__ unsigned encode(float src, const Divisor& by, int zero, const CastRule& rule, Tally& tally) {
  if constexpr (F == Format::e4m3) return encode_fp8<3, 7, 0x7EU, 0x7FU>(src, by, rule.saturate, tally);
  if constexpr (F == Format::e5m2) return encode_fp8<2, 15, 0x7BU, 0x7CU>(src, by, rule.saturate, tally);
  if constexpr (F == Format::int8) return static_cast<unsigned>(encode_integer(src, by, rule.low, rule.high, tally)) & 0xFFU;
  if constexpr (F == Format::uint8) {
    const auto z = static_cast<float>(zero);
    return static_cast<unsigned>(encode_integer(src, by, -z, 255.0F - z, tally) + zero) & 0xFFU;
  }
  if constexpr (F == Format::bf16) return encode_bf16(src);
  return __float_as_uint(src);
}

template <int mantissa, int bias, unsigned infinity, bool has_infinity>
__device__ inline float decode_fp8(unsigned code) {
  const unsigned magnitude = code & 0x7FU, sign = (code >> 7) << 31;
  const float value =
      __uint_as_float(magnitude << (23 - mantissa)) * __uint_as_float(static_cast<unsigned>(127 + 127 - bias) << 23);
  if (magnitude < infinity) return __uint_as_float(__float_as_uint(value) | sign);
  return __uint_as_float(has_infinity && magnitude == infinity ? 0x7F800000U | sign : 0x7FC00000U);
}

/// The number a code stands for, without its scale.
template <Format F>
__device__ float decode(unsigned code, int zero) {
  if constexpr (F == Format::e4m3) return decode_fp8<3, 7, 0x7FU, false>(code);
  if constexpr (F == Format::e5m2) return decode_fp8<2, 15, 0x7CU, true>(code);
  if constexpr (F == Format::int8) return static_cast<float>(static_cast<signed char>(code));
  if constexpr (F == Format::uint8) return static_cast<float>(static_cast<int>(code) - zero);
  if constexpr (F == Format::bf16) return __uint_as_float(code << 16);
  return __uint_as_float(code);
}

struct ScaleZero {
  float scale = 1;
  int zero = 0;
};

/// quant::scale_for; `low` <= 0 <= `high`.
__device__ inline ScaleZero scale_for(float low, float high, Format format, quant::ScaleRule rule, bool affine) {
  ScaleZero result;
  float absmax = high > -low ? high : -low;
  if (rule == quant::ScaleRule::smoothquant) absmax = fmaxf(absmax, 1e-5F);
  if (affine) {
    if (high - low == 0.0F) return result;
    const float scale = (high - low) / 255.0F;
    result.scale = scale < FLT_MIN ? FLT_MIN : scale;
    result.zero = static_cast<int>(fminf(fmaxf(rintf(-low / result.scale), 0.0F), 255.0F));
    return result;
  }
  if (format == Format::uint8) absmax = fmaxf(high, 0.0F);
  if (absmax == 0.0F) return result;
  float scale = 1;
  if (format == Format::int8)
    scale = rule == quant::ScaleRule::compressed_tensors ? 2.0F * absmax / 255.0F : absmax / 127.0F;
  if (format == Format::uint8) scale = absmax / 255.0F;
  if (format == Format::e4m3) scale = absmax / 448.0F;
  if (format == Format::e5m2) scale = absmax / 57344.0F;
  result.scale = scale < FLT_MIN ? FLT_MIN : scale;
  return result;
}

}  // namespace qfid::kernels::gpu
