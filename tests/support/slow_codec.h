// An independent slow converter from f32: the nearest value in the table of all a format's values, ties to the even code.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace qfid::tests {

/// Values of all non-negative finite codes, from the format's definition alone.
struct Table {
  std::vector<double> value;  // index = code
  int sign_bit;
  std::uint32_t beyond_sat, beyond_nosat;
};

inline Table make_table(int exponent_bits, int mantissa_bits, std::uint32_t largest, std::uint32_t nosat) {
  Table table{{}, exponent_bits + mantissa_bits, largest, nosat};
  const int bias = (1 << (exponent_bits - 1)) - 1;
  for (std::uint32_t code = 0; code <= largest; ++code) {
    const int field = static_cast<int>(code >> mantissa_bits);
    const double fraction = static_cast<double>(code & ((1U << mantissa_bits) - 1)) / (1 << mantissa_bits);
    table.value.push_back(field == 0 ? fraction * std::pow(2.0, 1 - bias) : (1 + fraction) * std::pow(2.0, field - bias));
  }
  return table;
}

/// The nearest code, ties to the even one; `x` must be a number or an infinity.
inline std::uint32_t slow_encode(float x, const Table& t, bool saturate) {
  const std::uint32_t sign = std::signbit(x) ? 1U << t.sign_bit : 0U;
  const double magnitude = std::fabs(static_cast<double>(x));
  const std::size_t last = t.value.size() - 1;
  const double step = t.value[last] - t.value[last - 1];
  // The tie above the largest value goes to the even one of it and the code that would come next.
  const double limit = t.value[last] + step / 2;
  if (magnitude > limit || (magnitude == limit && last % 2 == 1)) return sign | (saturate ? t.beyond_sat : t.beyond_nosat);
  const auto above = std::lower_bound(t.value.begin(), t.value.end(), magnitude);
  if (above == t.value.end()) return sign | static_cast<std::uint32_t>(last);
  const auto high = static_cast<std::size_t>(above - t.value.begin());
  if (*above == magnitude || high == 0) return sign | static_cast<std::uint32_t>(high);
  const double down = magnitude - t.value[high - 1], up = t.value[high] - magnitude;
  const std::size_t chosen = down < up ? high - 1 : up < down ? high : high % 2 == 0 ? high : high - 1;
  return sign | static_cast<std::uint32_t>(chosen);
}

inline const Table e4m3_table = make_table(4, 3, 0x7E, 0x7F), e5m2_table = make_table(5, 2, 0x7B, 0x7C);

}  // namespace qfid::tests
