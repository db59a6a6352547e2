#include "quant/statistics_avx512.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>

#include "quant/core/prefetch.h"

namespace qfid::quant {

namespace {

constexpr std::int64_t fetched_ahead = 2048;  ///< numbers: 8 KiB of each tensor

/// The sums of eight lanes.
struct Half {
  __m512d xx, xy, yy, ee, ax, ae, e;
};
struct Counts {
  __m512 max;
  __m512i exact, flips, flushed;
};

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) inline __m512d wide(const float* x) {
  return _mm512_cvtps_pd(_mm256_loadu_ps(x));
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) inline Half loaded(const DistortionLanes& f,
                                                                                                int lane) {
  return {_mm512_loadu_pd(f.xx + lane), _mm512_loadu_pd(f.xy + lane), _mm512_loadu_pd(f.yy + lane),
          _mm512_loadu_pd(f.ee + lane), _mm512_loadu_pd(f.ax + lane), _mm512_loadu_pd(f.ae + lane),
          _mm512_loadu_pd(f.e + lane)};
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) inline void store(const Half& s, int lane,
                                                                                               DistortionLanes& f) {
  _mm512_storeu_pd(f.xx + lane, s.xx);
  _mm512_storeu_pd(f.xy + lane, s.xy);
  _mm512_storeu_pd(f.yy + lane, s.yy);
  _mm512_storeu_pd(f.ee + lane, s.ee);
  _mm512_storeu_pd(f.ax + lane, s.ax);
  _mm512_storeu_pd(f.ae + lane, s.ae);
  _mm512_storeu_pd(f.e + lane, s.e);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) inline void add(Half& s, __m512d a, __m512d b) {
  const __m512d e = _mm512_sub_pd(b, a);
  s.xx = _mm512_add_pd(s.xx, _mm512_mul_pd(a, a));
  s.xy = _mm512_add_pd(s.xy, _mm512_mul_pd(a, b));
  s.yy = _mm512_add_pd(s.yy, _mm512_mul_pd(b, b));
  s.ee = _mm512_add_pd(s.ee, _mm512_mul_pd(e, e));
  s.ax = _mm512_add_pd(s.ax, _mm512_abs_pd(a));
  s.ae = _mm512_add_pd(s.ae, _mm512_abs_pd(e));
  s.e = _mm512_add_pd(s.e, e);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) inline void count(Counts& c, __m512 a,
                                                                                               __m512 b) {
  const __m512 zero = _mm512_setzero_ps();
  const __m512i one = _mm512_set1_epi32(1);
  const __mmask16 a_there = _mm512_cmp_ps_mask(a, zero, _CMP_NEQ_OQ), b_there = _mm512_cmp_ps_mask(b, zero, _CMP_NEQ_OQ);
  const __mmask16 apart = _mm512_movepi32_mask(_mm512_castps_si512(_mm512_xor_ps(a, b)));
  c.max = _mm512_max_ps(_mm512_abs_ps(_mm512_sub_ps(b, a)), c.max);  // the second operand where the first is NaN
  c.exact = _mm512_mask_add_epi32(c.exact, _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), c.exact, one);
  c.flips = _mm512_mask_add_epi32(c.flips, static_cast<__mmask16>(a_there & b_there & apart), c.flips, one);
  c.flushed = _mm512_mask_add_epi32(c.flushed, static_cast<__mmask16>(a_there & ~b_there), c.flushed, one);
}

}  // namespace

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,popcnt"))) void add_rows_avx512(
    const float* x, const float* y, std::int64_t rows, std::int64_t columns, std::int64_t stride, DistortionLanes& total) {
  constexpr std::int64_t lanes = DistortionLanes::lanes;
  Half low = loaded(total, 0), high = loaded(total, lanes / 2);
  Counts counts{_mm512_loadu_ps(total.max), _mm512_loadu_si512(total.exact), _mm512_loadu_si512(total.flips),
                _mm512_loadu_si512(total.flushed)};
  std::int64_t valid = 0;
  const std::int64_t ahead = stride * std::max<std::int64_t>(1, fetched_ahead / columns);
  for (std::int64_t r = 0; r < rows; ++r, x += stride, y += stride)
    for (std::int64_t i = 0; i < columns; i += lanes) {
      prefetch(x + i, ahead);
      prefetch(y + i, ahead);
      const auto there = static_cast<__mmask16>(columns - i >= lanes ? 0xFFFFU : (1U << (columns - i)) - 1U);
      const __m512 v = _mm512_maskz_loadu_ps(there, x + i), w = _mm512_maskz_loadu_ps(there, y + i);
      const __mmask16 number = _mm512_mask_cmp_ps_mask(there, v, w, _CMP_ORD_Q);
      const __m512 a = _mm512_maskz_mov_ps(number, v), b = _mm512_maskz_mov_ps(number, w);
      valid += std::popcount(static_cast<unsigned>(number));
      add(low, _mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(_mm512_castps512_ps256(b)));
      add(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(b, 1)));
      count(counts, a, b);
    }
  store(low, 0, total);
  store(high, lanes / 2, total);
  _mm512_storeu_ps(total.max, counts.max);
  _mm512_storeu_si512(total.exact, counts.exact);
  _mm512_storeu_si512(total.flips, counts.flips);
  _mm512_storeu_si512(total.flushed, counts.flushed);
  total.valid += valid;
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) void add_moments_avx512(const float* x, std::int64_t n,
                                                                                      MomentLanes& total) {
  __m512d first = _mm512_loadu_pd(total.first), min = _mm512_loadu_pd(total.min), max = _mm512_loadu_pd(total.max);
  for (std::int64_t i = 0; i + MomentLanes::lanes <= n; i += MomentLanes::lanes) {
    prefetch(x + i, fetched_ahead);
    const __m512d v = wide(x + i);
    first = _mm512_add_pd(first, v);
    min = _mm512_min_pd(v, min);  // the second operand where the first is NaN
    max = _mm512_max_pd(v, max);
  }
  _mm512_storeu_pd(total.first, first);
  _mm512_storeu_pd(total.min, min);
  _mm512_storeu_pd(total.max, max);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) void add_powers_avx512(const float* x, std::int64_t n,
                                                                                     double mean, PowerLanes& total) {
  __m512d second = _mm512_loadu_pd(total.second), third = _mm512_loadu_pd(total.third),
          fourth = _mm512_loadu_pd(total.fourth);
  const __m512d middle = _mm512_set1_pd(mean);
  for (std::int64_t i = 0; i + MomentLanes::lanes <= n; i += MomentLanes::lanes) {
    const __m512d d = _mm512_sub_pd(wide(x + i), middle), d2 = _mm512_mul_pd(d, d);
    second = _mm512_add_pd(second, d2);
    third = _mm512_add_pd(third, _mm512_mul_pd(d2, d));
    fourth = _mm512_add_pd(fourth, _mm512_mul_pd(d2, d2));
  }
  _mm512_storeu_pd(total.second, second);
  _mm512_storeu_pd(total.third, third);
  _mm512_storeu_pd(total.fourth, fourth);
}

}  // namespace qfid::quant
