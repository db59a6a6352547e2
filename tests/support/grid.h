// The numbers a format has, from its definition alone, and where rounding goes from one to the next: what the codecs and
// kernels are judged by. Shares no code with quant/codec.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "quant/core/tensor.h"
#include "quant/scheme.h"

namespace qfid::tests {

/// The non-negative numbers of a format in ascending order; the index of one is its code (bits without the sign).
class Grid {
 public:
  static const Grid& of(quant::Format format) {
    static const Grid uint8 = integers(255), int8 = integers(127), e4m3 = floats(3, 7, 0x7E), e5m2 = floats(2, 15, 0x7B),
                      bf16 = floats(7, 127, 0x7F7F);
    switch (format) {
      case quant::Format::uint8:
        return uint8;
      case quant::Format::int8:
        return int8;
      case quant::Format::e4m3:
        return e4m3;
      case quant::Format::e5m2:
        return e5m2;
      default:
        return bf16;
    }
  }

  double value(std::size_t code) const { return values_[code]; }
  std::size_t size() const { return values_.size(); }
  /// Nearest, ties to the even code, clamped to the largest; x >= 0.
  std::size_t nearest(double x) const {
    const auto above = std::lower_bound(values_.begin(), values_.end(), x);
    if (above == values_.end()) return values_.size() - 1;
    const auto high = static_cast<std::size_t>(above - values_.begin());
    if (high == 0) return 0;
    const double down = x - values_[high - 1], up = values_[high] - x;
    return down < up ? high - 1 : up < down ? high : high % 2 == 0 ? high : high - 1;
  }
  /// The numbers that round to `code` lie in [first, second].
  std::pair<double, double> interval(std::size_t code) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    return {code == 0 ? -infinity : (values_[code - 1] + values_[code]) / 2,
            code + 1 == values_.size() ? infinity : (values_[code] + values_[code + 1]) / 2};
  }
  /// Distance between the numbers on both sides of `code`'s boundaries.
  double step(std::size_t code) const {
    return code + 1 < values_.size() ? values_[code + 1] - values_[code] : values_[code] - values_[code - 1];
  }

 private:
  static Grid integers(int largest) {
    Grid grid;
    for (int i = 0; i <= largest; ++i) grid.values_.push_back(i);
    return grid;
  }
  static Grid floats(int mantissa_bits, int bias, unsigned largest) {
    Grid grid;
    for (unsigned code = 0; code <= largest; ++code) {
      const int field = static_cast<int>(code >> mantissa_bits);
      const double fraction = std::ldexp(static_cast<double>(code & ((1U << mantissa_bits) - 1)), -mantissa_bits);
      grid.values_.push_back(field == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, field - bias));
    }
    return grid;
  }
  std::vector<double> values_;
};

/// Element i of a tensor of codes as the number it stands for (no scale); NaN for a code that is none.
inline double number(const quant::Tensor& codes, std::int64_t i) {
  const auto floating = [](quant::Format format, unsigned bits, unsigned sign) {
    const unsigned code = bits & (sign - 1);
    const Grid& grid = Grid::of(format);
    const bool finite = code < grid.size();
    const double value = finite ? grid.value(code) : std::numeric_limits<double>::quiet_NaN();
    return (bits & sign) != 0 ? -value : value;
  };
  switch (codes.dtype()) {
    case quant::DType::f32:
      return static_cast<double>(codes.view<float>()[i]);
    case quant::DType::i32:
      return codes.view<std::int32_t>()[i];
    case quant::DType::i8:
      return codes.view<std::int8_t>()[i];
    case quant::DType::u8:
      return codes.view<std::uint8_t>()[i];
    case quant::DType::e4m3:
      return floating(quant::Format::e4m3, codes.view<quant::e4m3>()[i].bits, 0x80U);
    case quant::DType::e5m2:
      return floating(quant::Format::e5m2, codes.view<quant::e5m2>()[i].bits, 0x80U);
    case quant::DType::bf16:
      return floating(quant::Format::bf16, codes.view<quant::bf16>()[i].bits, 0x8000U);
    default:
      return std::numeric_limits<double>::quiet_NaN();
  }
}

}  // namespace qfid::tests
