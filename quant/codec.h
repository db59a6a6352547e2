// Conversions between f32 and the storage formats. Two implementations of each: the scalar reference (by the definition of
// the format, one rounding, nearest even) and a vectorized path over spans that gives the same bits.
// Sources: OCP 8-bit Floating Point Specification 1.0 (OFP8); IEEE 754-2019 for bf16's and f16's rounding.
#pragma once

#include <cstdint>
#include <span>

#include "quant/core/dtype.h"
#include "quant/scheme.h"

namespace qfid::quant {

float to_f32(bf16 code);
float to_f32(f16 code);
float to_f32(e4m3 code);
float to_f32(e5m2 code);

bf16 to_bf16(float value);  ///< NaN stays a (quiet) NaN
f16 to_f16(float value);
/// NaN -> 0x7F (both formats), -0 kept. Overflow: satfinite (also +-Inf -> +-max) or nosat (E4M3 -> NaN, E5M2 -> +-Inf).
e4m3 to_e4m3(float value, Overflow overflow = Overflow::satfinite);
e5m2 to_e5m2(float value, Overflow overflow = Overflow::satfinite);

/// Casts count what they did. `saturated`: a finite or infinite input beyond the largest finite code was clamped (or became
/// NaN/Inf under nosat). `flushed`: a nonzero input became code 0. `nan`: NaN inputs (integers code them as 0).
struct CodeCounts {
  std::int64_t elements = 0, saturated = 0, flushed = 0, nan = 0;
  CodeCounts& operator+=(const CodeCounts& other);
  friend bool operator==(const CodeCounts&, const CodeCounts&) = default;
};

/// Vectorized (AVX-512, AVX2 or portable, chosen once at run time); src and dst have equal length.
/// dst[i] = cast(src[i] / scale), the IEEE quotient; scale 1 skips the division. Bitwise equal to the scalar functions.
void cast_to_e4m3(std::span<const float> src, float scale, Overflow overflow, std::span<e4m3> dst, CodeCounts& counts);
void cast_to_e5m2(std::span<const float> src, float scale, Overflow overflow, std::span<e5m2> dst, CodeCounts& counts);
void cast_to_bf16(std::span<const float> src, std::span<bf16> dst);
/// dst[i] = clamp(rhe(src[i] / scale), lo, 127), lo = -127 or -128; rhe = round half to even.
void cast_to_int8(std::span<const float> src, float scale, int lo, std::span<std::int8_t> dst, CodeCounts& counts);
/// dst[i] = clamp(rhe(src[i] / scale) + zero_point, 0, 255).
void cast_to_uint8(std::span<const float> src, float scale, int zero_point, std::span<std::uint8_t> dst, CodeCounts& counts);

void expand(std::span<const bf16> src, std::span<float> dst);
void expand(std::span<const f16> src, std::span<float> dst);
void expand(std::span<const e4m3> src, std::span<float> dst);
void expand(std::span<const e5m2> src, std::span<float> dst);
void expand(std::span<const e4m3> src, std::span<bf16> dst);  ///< exact: bf16 holds every FP8 value
void expand(std::span<const e5m2> src, std::span<bf16> dst);

}  // namespace qfid::quant
