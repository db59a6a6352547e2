// The vectorized codecs: branch-free integer arithmetic on f32 bit patterns, written as plain loops the compiler vectorizes,
// compiled for each ISA by quant/core/dispatch.h. Bitwise equal to quant/codec.cc (tests prove it).
//
// FP8 and bf16 encode: a normal result rounds the f32 mantissa in place (add half, and the kept bit for ties-to-even); a
// subnormal one is rounded by adding the power of two whose unit in the last place is the format's smallest step.
#include <algorithm>
#include <bit>
#include <cfloat>

#include "quant/codec.h"
#include "quant/codec_avx512.h"
#include "quant/core/dispatch.h"
#include "quant/core/error.h"

namespace qfid::quant {

namespace {

constexpr std::size_t block = 4096;  // counters stay in 32-bit lanes inside a block

struct Tally {
  std::int32_t saturated = 0, flushed = 0, nan = 0;
};

/// 0xFFFFFFFF where a < b, else 0; both at most 2^31.
__attribute__((always_inline)) inline std::uint32_t all_if_below(std::uint32_t a, std::uint32_t b) {
  return 0U - ((a - b) >> 31);
}

template <int mantissa, int bias, std::uint32_t largest, std::uint32_t beyond>
struct Fp8Cast {
  static constexpr int shift = 23 - mantissa;
  static constexpr float magic = std::bit_cast<float>(static_cast<std::uint32_t>(127 + 1 - bias - mantissa + 23) << 23);
  static constexpr std::uint32_t smallest_normal = static_cast<std::uint32_t>(127 + 1 - bias) << 23;

  __attribute__((always_inline)) Tally operator()(const float* __restrict src, float scale, std::uint8_t* __restrict dst,
                                                  std::size_t n, bool saturate) const {
    std::int32_t saturated = 0, flushed = 0, nan = 0;
    const std::uint32_t over = saturate ? largest : beyond;
    for (std::size_t i = 0; i < n; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(src[i] / scale);
      const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
      const std::uint32_t normal = ((magnitude + (1U << (shift - 1)) - 1U + ((magnitude >> shift) & 1U)) >> shift) -
                                   (static_cast<std::uint32_t>(127 - bias) << mantissa);
      const std::uint32_t subnormal =
          std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + magic) - std::bit_cast<std::uint32_t>(magic);
      const std::uint32_t code = magnitude < smallest_normal ? subnormal : normal;
      // All ones or zero by arithmetic: from conditions on one another the compiler makes branches, and no vectors.
      const std::uint32_t is_nan = all_if_below(0x7F800000U, magnitude), too_large = all_if_below(largest, code);
      const std::uint32_t kept = (code & ~too_large) | (over & too_large) | ((bits >> 24) & 0x80U);
      dst[i] = static_cast<std::uint8_t>((kept & ~is_nan) | (0x7FU & is_nan));
      nan -= static_cast<std::int32_t>(is_nan);
      saturated -= static_cast<std::int32_t>(too_large & ~is_nan);
      flushed += ((code == 0) & (src[i] != 0.0F)) ? 1 : 0;
    }
    return {saturated, flushed, nan};
  }
};

struct Int8Cast {
  template <class T>
  __attribute__((always_inline)) Tally operator()(const float* __restrict src, const IntegerCast& cast, T* __restrict dst,
                                                  std::size_t n) const {
    const auto low = static_cast<float>(cast.low), high = static_cast<float>(cast.high);
    const float scale = cast.scale;
    const std::int32_t zero_point = cast.zero_point;
    // 1.5 * 2^23: adding it leaves no fraction bits, so the sum is rounded half to even.
    constexpr float magic = 12582912.0F;
    std::int32_t saturated = 0, flushed = 0, nan = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const float x = src[i] == src[i] ? src[i] : 0.0F;
      const float q = std::min(std::max(x / scale, -1000.0F), 1000.0F);
      const float rounded = (q + magic) - magic;
      const float code = std::min(std::max(rounded, low), high);
      saturated += code != rounded ? 1 : 0;
      flushed += ((x != 0.0F) & (code == 0.0F)) ? 1 : 0;
      nan += src[i] != src[i] ? 1 : 0;
      dst[i] = static_cast<T>(static_cast<std::int32_t>(code) + zero_point);
    }
    return {saturated, flushed, nan};
  }
};

struct Bf16Cast {
  __attribute__((always_inline)) void operator()(const float* __restrict src, std::uint16_t* __restrict dst,
                                                 std::size_t n) const {
    for (std::size_t i = 0; i < n; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(src[i]);
      const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
      const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
      dst[i] = static_cast<std::uint16_t>(is_nan ? 0x7FC0U : rounded);
    }
  }
};

struct Bf16Expand {
  __attribute__((always_inline)) void operator()(const std::uint16_t* __restrict src, float* __restrict dst,
                                                 std::size_t n) const {
    for (std::size_t i = 0; i < n; ++i) dst[i] = std::bit_cast<float>(static_cast<std::uint32_t>(src[i]) << 16);
  }
};

/// FP8 and f16 magnitudes, shifted into f32's fields, are off by a power of two that one exact multiplication mends,
/// subnormals included.
template <int bits, int mantissa, int bias, std::uint32_t infinity, bool has_infinity>
struct Expand {
  template <class In>
  __attribute__((always_inline)) static std::uint32_t one(In code) {
    constexpr float correction = std::bit_cast<float>(static_cast<std::uint32_t>(127 + 127 - bias) << 23);
    const std::uint32_t wide = code;
    const std::uint32_t magnitude = wide & ((1U << (bits - 1)) - 1U);
    const std::uint32_t sign = (wide >> (bits - 1)) << 31;
    const float value = std::bit_cast<float>(magnitude << (23 - mantissa)) * correction;
    const std::uint32_t special = has_infinity && magnitude == infinity ? 0x7F800000U : 0x7FC00000U;
    const bool is_special = magnitude >= infinity;
    return is_special ? (special == 0x7F800000U ? special | sign : special) : std::bit_cast<std::uint32_t>(value) | sign;
  }
  template <class In>
  __attribute__((always_inline)) void operator()(const In* __restrict src, float* __restrict dst, std::size_t n) const {
    for (std::size_t i = 0; i < n; ++i) dst[i] = std::bit_cast<float>(one(src[i]));
  }
  template <class In>
  __attribute__((always_inline)) void operator()(const In* __restrict src, std::uint16_t* __restrict dst,
                                                 std::size_t n) const {
    for (std::size_t i = 0; i < n; ++i) dst[i] = static_cast<std::uint16_t>(one(src[i]) >> 16);
  }
};

using CastE4m3 = Fp8Cast<3, 7, 0x7EU, 0x7FU>;
using CastE5m2 = Fp8Cast<2, 15, 0x7BU, 0x7CU>;
using ExpandE4m3 = Expand<8, 3, 7, 0x7FU, false>;
using ExpandE5m2 = Expand<8, 2, 15, 0x7CU, true>;
using ExpandF16 = Expand<16, 10, 15, 0x7C00U, true>;

template <class F>
void tallied(std::size_t n, CodeCounts& counts, const F& part) {
  for (std::size_t begin = 0; begin < n; begin += block) {
    const Tally tally = part(begin, std::min(block, n - begin));
    counts.saturated += tally.saturated;
    counts.flushed += tally.flushed;
    counts.nan += tally.nan;
  }
  counts.elements += static_cast<std::int64_t>(n);
}

template <class T>
void cast_integers(std::span<const float> src, const IntegerCast& cast, T* dst, CodeCounts& counts) {
  if (current_isa() >= Isa::avx512) {
    const CastTally tally = cast_integers_avx512(src.data(), cast, reinterpret_cast<std::uint8_t*>(dst), src.size());
    counts += {static_cast<std::int64_t>(src.size()), tally.saturated, tally.flushed, tally.nan};
    return;
  }
  tallied(src.size(), counts,
          [&](std::size_t at, std::size_t n) { return dispatched(Int8Cast{}, src.data() + at, cast, dst + at, n); });
}

void same_length(std::size_t a, std::size_t b) { require(a == b, "codec: source and destination differ in length"); }

}  // namespace

void cast_to_e4m3(std::span<const float> src, float scale, Overflow overflow, std::span<e4m3> dst, CodeCounts& counts) {
  same_length(src.size(), dst.size());
  auto* out = reinterpret_cast<std::uint8_t*>(dst.data());
  tallied(src.size(), counts, [&](std::size_t at, std::size_t n) {
    return dispatched(CastE4m3{}, src.data() + at, scale, out + at, n, overflow == Overflow::satfinite);
  });
}

void cast_to_e5m2(std::span<const float> src, float scale, Overflow overflow, std::span<e5m2> dst, CodeCounts& counts) {
  same_length(src.size(), dst.size());
  auto* out = reinterpret_cast<std::uint8_t*>(dst.data());
  tallied(src.size(), counts, [&](std::size_t at, std::size_t n) {
    return dispatched(CastE5m2{}, src.data() + at, scale, out + at, n, overflow == Overflow::satfinite);
  });
}

void cast_to_bf16(std::span<const float> src, std::span<bf16> dst) {
  same_length(src.size(), dst.size());
  dispatched(Bf16Cast{}, src.data(), reinterpret_cast<std::uint16_t*>(dst.data()), src.size());
}

void cast_to_int8(std::span<const float> src, float scale, int lo, std::span<std::int8_t> dst, CodeCounts& counts) {
  same_length(src.size(), dst.size());
  cast_integers(src, {scale, lo, 127, 0}, dst.data(), counts);
}

void cast_to_uint8(std::span<const float> src, float scale, int zero_point, std::span<std::uint8_t> dst,
                   CodeCounts& counts) {
  same_length(src.size(), dst.size());
  cast_integers(src, {scale, -zero_point, 255 - zero_point, zero_point}, dst.data(), counts);
}

void expand(std::span<const bf16> src, std::span<float> dst) {
  same_length(src.size(), dst.size());
  dispatched(Bf16Expand{}, reinterpret_cast<const std::uint16_t*>(src.data()), dst.data(), src.size());
}
void expand(std::span<const f16> src, std::span<float> dst) {
  same_length(src.size(), dst.size());
  dispatched(ExpandF16{}, reinterpret_cast<const std::uint16_t*>(src.data()), dst.data(), src.size());
}
void expand(std::span<const e4m3> src, std::span<float> dst) {
  same_length(src.size(), dst.size());
  dispatched(ExpandE4m3{}, reinterpret_cast<const std::uint8_t*>(src.data()), dst.data(), src.size());
}
void expand(std::span<const e5m2> src, std::span<float> dst) {
  same_length(src.size(), dst.size());
  dispatched(ExpandE5m2{}, reinterpret_cast<const std::uint8_t*>(src.data()), dst.data(), src.size());
}
void expand(std::span<const e4m3> src, std::span<bf16> dst) {
  same_length(src.size(), dst.size());
  dispatched(ExpandE4m3{}, reinterpret_cast<const std::uint8_t*>(src.data()), reinterpret_cast<std::uint16_t*>(dst.data()),
             src.size());
}
void expand(std::span<const e5m2> src, std::span<bf16> dst) {
  same_length(src.size(), dst.size());
  dispatched(ExpandE5m2{}, reinterpret_cast<const std::uint8_t*>(src.data()), reinterpret_cast<std::uint16_t*>(dst.data()),
             src.size());
}

}  // namespace qfid::quant
