// The scalar reference codecs, by the definition of each format: scale to units in the last place, round half to even in
// double (exact for every f32), compose the code. Slow and plain on purpose; quant/codec_vector.cc is the fast path.
#include "quant/codec.h"

#include <bit>
#include <cmath>
#include <limits>

namespace qfid::quant {

namespace {

/// A binary format of `mantissa` stored bits whose smallest normal is 2^min_exponent.
struct Binary {
  int mantissa;
  int min_exponent;
  int bias;
  std::uint32_t largest;   ///< code of the largest finite value
  std::uint32_t infinity;  ///< what overflow gives without saturation
  std::uint32_t nan;
  int sign_shift;
};

constexpr Binary e4m3_format{3, -6, 7, 0x7E, 0x7F, 0x7F, 7};
constexpr Binary e5m2_format{2, -14, 15, 0x7B, 0x7C, 0x7F, 7};
constexpr Binary f16_format{10, -14, 15, 0x7BFF, 0x7C00, 0x7E00, 15};
constexpr Binary bf16_format{7, -126, 127, 0x7F7F, 0x7F80, 0x7FC0, 15};

std::uint32_t encode(float value, const Binary& f, Overflow overflow) {
  if (std::isnan(value)) return f.nan;
  const std::uint32_t sign = std::signbit(value) ? 1U << f.sign_shift : 0U;
  const std::uint32_t beyond = overflow == Overflow::satfinite ? f.largest : f.infinity;
  // f32 NaN has a sign in bf16 and f16 terms too; the quiet NaN above drops it, as the contract does for FP8.
  if (std::isinf(value)) return sign | beyond;
  const double magnitude = std::abs(static_cast<double>(value));
  if (magnitude == 0) return sign;
  const int exponent = std::max(std::ilogb(magnitude), f.min_exponent);
  const double units = std::nearbyint(std::ldexp(magnitude, f.mantissa - exponent));
  // units in [0, 2^(mantissa+1)]: the leading bit and a carry add to the exponent field by themselves.
  const auto code = static_cast<std::int64_t>(units) + (static_cast<std::int64_t>(exponent - f.min_exponent) << f.mantissa);
  return sign | (code > static_cast<std::int64_t>(f.largest) ? beyond : static_cast<std::uint32_t>(code));
}

float decode(std::uint32_t code, const Binary& f, bool has_infinity) {
  const bool negative = (code >> f.sign_shift) != 0;
  const std::uint32_t magnitude = code & ((1U << f.sign_shift) - 1U);
  if (magnitude > f.largest) {
    if (has_infinity && magnitude == f.infinity)
      return negative ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::infinity();
    return std::numeric_limits<float>::quiet_NaN();
  }
  const std::uint32_t field = magnitude >> f.mantissa;
  const std::uint32_t fraction = magnitude & ((1U << f.mantissa) - 1U);
  const double units = field == 0 ? fraction : fraction + (1U << f.mantissa);
  const int exponent = (field == 0 ? 1 : static_cast<int>(field)) - f.bias;
  const auto value = static_cast<float>(std::ldexp(units, exponent - f.mantissa));
  return negative ? -value : value;
}

}  // namespace

float to_f32(bf16 code) { return std::bit_cast<float>(static_cast<std::uint32_t>(code.bits) << 16); }
float to_f32(f16 code) { return decode(code.bits, f16_format, true); }
float to_f32(e4m3 code) { return decode(code.bits, e4m3_format, false); }
float to_f32(e5m2 code) { return decode(code.bits, e5m2_format, true); }

bf16 to_bf16(float value) { return {static_cast<std::uint16_t>(encode(value, bf16_format, Overflow::nosat))}; }
f16 to_f16(float value) { return {static_cast<std::uint16_t>(encode(value, f16_format, Overflow::nosat))}; }
e4m3 to_e4m3(float value, Overflow overflow) {
  return {static_cast<std::uint8_t>(std::isnan(value) ? 0x7F : encode(value, e4m3_format, overflow))};
}
e5m2 to_e5m2(float value, Overflow overflow) { return {static_cast<std::uint8_t>(encode(value, e5m2_format, overflow))}; }

CodeCounts& CodeCounts::operator+=(const CodeCounts& other) {
  elements += other.elements;
  saturated += other.saturated;
  flushed += other.flushed;
  nan += other.nan;
  return *this;
}

}  // namespace qfid::quant
