// How far sums of integer products are exact.
#pragma once

#include <cstdint>
#include <limits>

#include "quant/scheme.h"

namespace qfid::kernels {

/// How many products of codes of `format` (uint8, int8) and int8 codes a signed 32 bit sum holds whatever they are: 65,793
/// or 131,071.
constexpr std::int64_t s32_products(quant::Format format) {
  return std::numeric_limits<std::int32_t>::max() / ((format == quant::Format::uint8 ? 255 : 128) * 128);
}

}  // namespace qfid::kernels
