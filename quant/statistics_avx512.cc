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

template <int rows>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) inline void moments_of(const float* x,
                                                                                                    std::int64_t n,
                                                                                                    MomentLanes* totals) {
  __m512d first[rows], min[rows], max[rows];
  for (int r = 0; r < rows; ++r) {
    first[r] = _mm512_loadu_pd(totals[r].first);
    min[r] = _mm512_loadu_pd(totals[r].min);
    max[r] = _mm512_loadu_pd(totals[r].max);
  }
  for (std::int64_t i = 0; i + MomentLanes::lanes <= n; i += MomentLanes::lanes)
    for (int r = 0; r < rows; ++r) {
      prefetch(x + r * n + i, fetched_ahead);
      const __m512d v = wide(x + r * n + i);
      first[r] = _mm512_add_pd(first[r], v);
      min[r] = _mm512_min_pd(v, min[r]);  // the second operand where the first is NaN
      max[r] = _mm512_max_pd(v, max[r]);
    }
  for (int r = 0; r < rows; ++r) {
    _mm512_storeu_pd(totals[r].first, first[r]);
    _mm512_storeu_pd(totals[r].min, min[r]);
    _mm512_storeu_pd(totals[r].max, max[r]);
  }
}

template <int rows>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) inline void powers_of(const float* x,
                                                                                                   std::int64_t n,
                                                                                                   const double* means,
                                                                                                   PowerLanes* totals) {
  __m512d second[rows], third[rows], fourth[rows];
  for (int r = 0; r < rows; ++r) {
    second[r] = _mm512_loadu_pd(totals[r].second);
    third[r] = _mm512_loadu_pd(totals[r].third);
    fourth[r] = _mm512_loadu_pd(totals[r].fourth);
  }
  for (std::int64_t i = 0; i + MomentLanes::lanes <= n; i += MomentLanes::lanes)
    for (int r = 0; r < rows; ++r) {
      const __m512d d = _mm512_sub_pd(wide(x + r * n + i), _mm512_set1_pd(means[r])), d2 = _mm512_mul_pd(d, d);
      second[r] = _mm512_add_pd(second[r], d2);
      third[r] = _mm512_add_pd(third[r], _mm512_mul_pd(d2, d));
      fourth[r] = _mm512_add_pd(fourth[r], _mm512_mul_pd(d2, d2));
    }
  for (int r = 0; r < rows; ++r) {
    _mm512_storeu_pd(totals[r].second, second[r]);
    _mm512_storeu_pd(totals[r].third, third[r]);
    _mm512_storeu_pd(totals[r].fourth, fourth[r]);
  }
}

template <int rows, bool squared>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) inline void power_of(
    const float* x, std::int64_t n, const double* shifts, double (*totals)[MomentLanes::lanes]) {
  __m512d sum[rows];
  for (int r = 0; r < rows; ++r) sum[r] = _mm512_loadu_pd(totals[r]);
  for (std::int64_t i = 0; i + MomentLanes::lanes <= n; i += MomentLanes::lanes)
    for (int r = 0; r < rows; ++r) {
      const __m512d d = _mm512_sub_pd(wide(x + r * n + i), _mm512_set1_pd(shifts[r]));
      sum[r] = _mm512_add_pd(sum[r], squared ? _mm512_mul_pd(d, d) : d);
    }
  for (int r = 0; r < rows; ++r) _mm512_storeu_pd(totals[r], sum[r]);
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
                                                                                      MomentLanes* totals, int rows) {
  rows == rows_together ? moments_of<rows_together>(x, n, totals) : moments_of<1>(x, n, totals);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) void add_powers_avx512(const float* x, std::int64_t n,
                                                                                     const double* means, PowerLanes* totals,
                                                                                     int rows) {
  rows == rows_together ? powers_of<rows_together>(x, n, means, totals) : powers_of<1>(x, n, means, totals);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) void add_power_avx512(const float* x, std::int64_t n,
                                                                                    const double* shifts, bool squared,
                                                                                    double (*totals)[MomentLanes::lanes],
                                                                                    int rows) {
  if (rows == rows_together)
    squared ? power_of<rows_together, true>(x, n, shifts, totals) : power_of<rows_together, false>(x, n, shifts, totals);
  else
    squared ? power_of<1, true>(x, n, shifts, totals) : power_of<1, false>(x, n, shifts, totals);
}

}  // namespace qfid::quant
