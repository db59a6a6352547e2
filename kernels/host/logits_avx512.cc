#include "kernels/host/logits_avx512.h"

#include "kernels/host/vector_math_avx512.h"
#include "quant/core/prefetch.h"

namespace qfid::kernels::host {

namespace {

constexpr std::int64_t lanes = 8;

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline __m512d wide(const float* x) {
  return _mm512_cvtps_pd(_mm256_loadu_ps(x));
}

struct Terms {
  __m512d forward, reverse, jsd;
};

/// What eight logits add, step by step as kernels/host/logits.cc's Divergence.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline Terms terms(__m512d lp, __m512d lq,
                                                                                                    __m512d q) {
  const __m512d one = _mm512_set1_pd(1.0), least = _mm512_set1_pd(least_log);
  const __m512d d = _mm512_sub_pd(lq, lp), p = exp_avx512(lp), apart = _mm512_sub_pd(q, p);
  const __mmask8 small = _mm512_cmp_pd_mask(_mm512_abs_pd(d), _mm512_set1_pd(0.25), _CMP_LE_OQ);
  const __m512d near = _mm512_maskz_mov_pd(small, d), far = _mm512_maskz_mov_pd(static_cast<__mmask8>(~small), one);
  const __m512d tangent = exp_minus_tangent_avx512(near);
  const __m512d reverse_near = _mm512_fmadd_pd(near, near, _mm512_mul_pd(_mm512_sub_pd(near, one), tangent));
  const __m512d jsd_d = _mm512_sub_pd(_mm512_max_pd(least, lq), _mm512_max_pd(least, lp));
  const __m512d total = _mm512_add_pd(q, p), inverse = _mm512_div_pd(one, total);
  const __m512d t = _mm512_mul_pd(_mm512_fmadd_pd(p, _mm512_add_pd(near, tangent), _mm512_mul_pd(far, apart)), inverse);
  const __m512d rest =
      _mm512_mul_pd(_mm512_mul_pd(_mm512_set1_pd(4.0), _mm512_mul_pd(p, inverse)), _mm512_mul_pd(q, inverse));
  const __m512d lost = _mm512_maskz_fnmadd_pd(small, t, t, _mm512_sub_pd(one, rest));
  return {_mm512_fmadd_pd(p, tangent, _mm512_mul_pd(far, _mm512_fnmadd_pd(p, d, apart))),
          _mm512_fmadd_pd(p, reverse_near, _mm512_mul_pd(far, _mm512_fmsub_pd(q, d, apart))),
          _mm512_mul_pd(total, _mm512_fmadd_pd(t, jsd_d, _mm512_add_pd(log_avx512(rest), lost)))};
}

}  // namespace

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"))) void sum_exp_avx512(const float* x, std::int64_t n,
                                                                                      double top, double* e,
                                                                                      double (&sum)[8]) {
  const __m512d largest = _mm512_set1_pd(top);
  __m512d total = _mm512_setzero_pd();
  for (std::int64_t i = 0; i < n; i += lanes) {
    quant::prefetch(x + i, n);
    const __m512d one = exp_avx512(_mm512_sub_pd(wide(x + i), largest));
    _mm512_storeu_pd(e + i, one);
    total = _mm512_add_pd(total, one);
  }
  _mm512_storeu_pd(sum, total);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"))) void divergence_avx512(
    const LogitPair& rows, std::int64_t n, double (&forward)[8], double (&reverse)[8], double (&jsd)[8]) {
  const __m512d lse_base = _mm512_set1_pd(rows.lse_base), lse_test = _mm512_set1_pd(rows.lse_test);
  const __m512d scale = _mm512_set1_pd(rows.q_scale), zero = _mm512_setzero_pd();
  Terms sum{zero, zero, zero};
  for (std::int64_t i = 0; i < n; i += lanes) {
    quant::prefetch(rows.base + i, n);
    const Terms more = terms(_mm512_sub_pd(wide(rows.base + i), lse_base), _mm512_sub_pd(wide(rows.test + i), lse_test),
                             _mm512_mul_pd(_mm512_loadu_pd(rows.e_test + i), scale));
    sum.forward = _mm512_add_pd(sum.forward, more.forward);
    sum.reverse = _mm512_add_pd(sum.reverse, more.reverse);
    sum.jsd = _mm512_add_pd(sum.jsd, more.jsd);
  }
  _mm512_storeu_pd(forward, sum.forward);
  _mm512_storeu_pd(reverse, sum.reverse);
  _mm512_storeu_pd(jsd, sum.jsd);
}

}  // namespace qfid::kernels::host
