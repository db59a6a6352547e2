#include "quant/codec_avx512.h"

#include <immintrin.h>

#include <bit>

namespace qfid::quant {

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,popcnt"))) CastTally cast_integers_avx512(const float* src,
                                                                                                    const IntegerCast& cast,
                                                                                                    std::uint8_t* dst,
                                                                                                    std::size_t n) {
  constexpr std::size_t lanes = 16;
  const __m512 scale = _mm512_set1_ps(cast.scale), least = _mm512_set1_ps(-1000.0F), most = _mm512_set1_ps(1000.0F);
  const __m512i low = _mm512_set1_epi32(cast.low), high = _mm512_set1_epi32(cast.high);
  const __m512i zero_point = _mm512_set1_epi32(cast.zero_point), zero = _mm512_setzero_si512();
  CastTally tally;
  for (std::size_t i = 0; i < n; i += lanes) {
    const auto there = static_cast<__mmask16>(n - i >= lanes ? 0xFFFFU : (1U << (n - i)) - 1U);
    const __m512 x = _mm512_maskz_loadu_ps(there, src + i);
    const __mmask16 number = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
    const __m512 q = _mm512_min_ps(_mm512_max_ps(_mm512_maskz_div_ps(number, x, scale), least), most);
    const __m512i rounded = _mm512_cvtps_epi32(q);  // half to even
    const __m512i code = _mm512_min_epi32(_mm512_max_epi32(rounded, low), high);
    const __mmask16 nonzero = _mm512_mask_cmp_ps_mask(number, x, _mm512_setzero_ps(), _CMP_NEQ_OQ);
    tally.flushed += std::popcount(static_cast<unsigned>(_mm512_mask_cmpeq_epi32_mask(nonzero, code, zero)));
    tally.saturated += std::popcount(static_cast<unsigned>(_mm512_cmpneq_epi32_mask(code, rounded)));
    tally.nan += std::popcount(static_cast<unsigned>(static_cast<__mmask16>(~number)));
    _mm512_mask_cvtepi32_storeu_epi8(dst + i, there, _mm512_add_epi32(code, zero_point));
  }
  return tally;
}

}  // namespace qfid::quant
