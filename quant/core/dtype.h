// Storage types. A DType says how bits lie in memory and never how numbers are to be quantized (that is QuantScheme).
// One constexpr table holds everything known about each type; a new type is one row here and one codec.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace qfid::quant {

enum class DType : std::uint8_t { f32, bf16, f16, i32, i8, u8, e4m3, e5m2 };

/// Bit patterns of the types C++20 has no arithmetic for. Conversions live in quant/codec.h.
struct bf16 {
  std::uint16_t bits;
};
struct f16 {
  std::uint16_t bits;
};
struct e4m3 {
  std::uint8_t bits;
};
struct e5m2 {
  std::uint8_t bits;
};

struct DTypeInfo {
  DType type;
  std::string_view name;
  std::size_t bytes;
  double largest_finite;
  double epsilon;  ///< distance from 1 to the next larger value; 1 for integers
};

inline constexpr std::array<DTypeInfo, 8> dtype_table{{
    {DType::f32, "f32", 4, 3.4028234663852886e38, 0x1p-23},
    {DType::bf16, "bf16", 2, 3.3895313892515355e38, 0x1p-7},
    {DType::f16, "f16", 2, 65504.0, 0x1p-10},
    {DType::i32, "i32", 4, 2147483647.0, 1.0},
    {DType::i8, "i8", 1, 127.0, 1.0},
    {DType::u8, "u8", 1, 255.0, 1.0},
    {DType::e4m3, "e4m3", 1, 448.0, 0x1p-3},    // OFP8 E4M3: 1.75 * 2^8
    {DType::e5m2, "e5m2", 1, 57344.0, 0x1p-2},  // OFP8 E5M2: 1.75 * 2^15
}};

constexpr const DTypeInfo& info(DType type) { return dtype_table[static_cast<std::size_t>(type)]; }

constexpr std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeInfo& row : dtype_table)
    if (row.name == name) return row.type;
  return std::nullopt;
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<f16> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<std::int8_t> {
  static constexpr DType value = DType::i8;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<e4m3> {
  static constexpr DType value = DType::e4m3;
};
template <>
struct DTypeOf<e5m2> {
  static constexpr DType value = DType::e5m2;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace qfid::quant
