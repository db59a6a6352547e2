#include "quant/codec_avx512.h"

#include <immintrin.h>

#include <bit>

namespace qfid::quant {

namespace {

/// x / scale, the IEEE quotient, where its fused multiply-adds keep within f32: a division keeps the CPU's divider for 16
/// cycles a register, these six instructions overlap. If q is within an ulp of the quotient and r is 1 / scale correctly
/// rounded, fma(fma(-q, scale, x), r, q) is the quotient correctly rounded (Markstein 1990, IBM J. Res. Dev. 34, theorem
/// 1); x r is within two ulp, and one such step makes it near enough for the second. From 2^10 on every code is the same.
struct Quotient {
  __m512 scale, reciprocal;

  static bool serves(float scale) { return scale >= 0x1p-60F && scale <= 0x1p60F; }

  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) explicit Quotient(float s)
      : scale(_mm512_set1_ps(s)), reciprocal(_mm512_set1_ps(1.0F / s)) {}
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) __m512 operator()(__m512 x) const {
    const __m512 rough = _mm512_mul_ps(x, reciprocal);
    const __mmask16 within = _mm512_cmp_ps_mask(_mm512_abs_ps(rough), _mm512_set1_ps(0x1p10F), _CMP_LT_OQ);
    const __m512 near = _mm512_mask3_fmadd_ps(_mm512_fnmadd_ps(rough, scale, x), reciprocal, rough, within);
    return _mm512_mask3_fmadd_ps(_mm512_fnmadd_ps(near, scale, x), reciprocal, near, within);
  }
};

struct Division {
  __m512 scale;

  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) explicit Division(float s)
      : scale(_mm512_set1_ps(s)) {}
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) __m512 operator()(__m512 x) const {
    return _mm512_div_ps(x, scale);
  }
};

template <class Divided>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,popcnt"))) CastTally cast_all(const float* src,
                                                                                        const IntegerCast& cast,
                                                                                        std::uint8_t* dst, std::size_t n) {
  constexpr std::size_t lanes = 16;
  const Divided divided(cast.scale);
  const __m512 least = _mm512_set1_ps(-1000.0F), most = _mm512_set1_ps(1000.0F);
  const __m512i low = _mm512_set1_epi32(cast.low), high = _mm512_set1_epi32(cast.high);
  const __m512i zero_point = _mm512_set1_epi32(cast.zero_point), zero = _mm512_setzero_si512();
  CastTally tally;
  for (std::size_t i = 0; i < n; i += lanes) {
    const auto there = static_cast<__mmask16>(n - i >= lanes ? 0xFFFFU : (1U << (n - i)) - 1U);
    const __m512 found = _mm512_maskz_loadu_ps(there, src + i);
    const __mmask16 number = _mm512_cmp_ps_mask(found, found, _CMP_ORD_Q);
    const __m512 x = _mm512_maskz_mov_ps(number, found);
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(divided(x), least), most));  // half to even
    const __m512i code = _mm512_min_epi32(_mm512_max_epi32(rounded, low), high);
    const __mmask16 nonzero = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NEQ_OQ);
    tally.flushed += std::popcount(static_cast<unsigned>(_mm512_mask_cmpeq_epi32_mask(nonzero, code, zero)));
    tally.saturated += std::popcount(static_cast<unsigned>(_mm512_cmpneq_epi32_mask(code, rounded)));
    tally.nan += std::popcount(static_cast<unsigned>(static_cast<__mmask16>(~number)));
    _mm512_mask_cvtepi32_storeu_epi8(dst + i, there, _mm512_add_epi32(code, zero_point));
  }
  return tally;
}

}  // namespace

CastTally cast_integers_avx512(const float* src, const IntegerCast& cast, std::uint8_t* dst, std::size_t n) {
  return Quotient::serves(cast.scale) ? cast_all<Quotient>(src, cast, dst, n) : cast_all<Division>(src, cast, dst, n);
}

}  // namespace qfid::quant
