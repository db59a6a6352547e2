// INT8 casts in AVX-512, written out: integers by one instruction, counts from masks, quotients without the divider. The
// same codes and counts as quant/codec_vector.cc's loop. The CPU must have what Isa::avx512 names.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qfid::quant {

struct IntegerCast {
  float scale;
  std::int32_t low, high;  ///< of the code, before the zero point is added
  std::int32_t zero_point;
};
struct CastTally {
  std::int64_t saturated = 0, flushed = 0, nan = 0;
};
/// dst: codes of one byte, signed or not.
CastTally cast_integers_avx512(const float* src, const IntegerCast& cast, std::uint8_t* dst, std::size_t n);

}  // namespace qfid::quant
