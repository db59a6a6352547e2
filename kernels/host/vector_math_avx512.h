// kernels/host/vector_math.h for eight numbers in an AVX-512 register: the same bits in each lane. GCC makes two AVX2
// halves of the plain loops even where it may use AVX-512. The CPU must have what quant::Isa::avx512 names.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <utility>

#include "kernels/host/vector_math.h"

namespace qfid::kernels::host {

/// Terms in fused multiply-adds, as polynomial().
template <std::size_t n, std::size_t... i>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline __m512d polynomial_avx512(
    const double (&terms)[n], __m512d x, std::index_sequence<i...> /*powers*/) {
  __m512d p = _mm512_set1_pd(terms[0]);
  ((p = _mm512_fmadd_pd(p, x, _mm512_set1_pd(terms[i + 1]))), ...);
  return p;
}
template <std::size_t n>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline __m512d polynomial_avx512(
    const double (&terms)[n], __m512d x) {
  return polynomial_avx512(terms, x, std::make_index_sequence<n - 1>{});
}

/// exp_lane() of each lane.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline __m512d exp_avx512(__m512d x) {
  using C = ExpConstants;
  x = _mm512_max_pd(_mm512_set1_pd(least_log), x);  // the second operand where one is NaN, as the comparison in exp_lane()
  const __m512d magic = _mm512_set1_pd(C::magic);
  const __m512d shifted = _mm512_fmadd_pd(x, _mm512_set1_pd(C::log2_e), magic), n = _mm512_sub_pd(shifted, magic);
  const __m512d r = _mm512_fmadd_pd(n, _mm512_set1_pd(-C::ln2_low), _mm512_fmadd_pd(n, _mm512_set1_pd(-C::ln2_high), x));
  return _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(polynomial_avx512(C::terms, r)),
                                              _mm512_slli_epi64(_mm512_castpd_si512(shifted), 52)));
}

/// log_lane() of each lane.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline __m512d log_avx512(__m512d x) {
  using C = LogConstants;
  const __m512i bits = _mm512_castpd_si512(x);
  const auto number = [](std::uint64_t v) { return static_cast<long long>(v); };
  const __m512d raw = _mm512_castsi512_pd(_mm512_or_si512(_mm512_and_si512(bits, _mm512_set1_epi64(number(C::mantissa))),
                                                          _mm512_set1_epi64(number(C::one_bits))));
  const __mmask8 high = _mm512_cmp_pd_mask(raw, _mm512_set1_pd(C::sqrt2), _CMP_GT_OQ);
  const __m512d m = _mm512_mask_mul_pd(raw, high, raw, _mm512_set1_pd(0.5));
  const __m512d field = _mm512_sub_pd(
      _mm512_castsi512_pd(_mm512_or_si512(_mm512_srli_epi64(bits, 52), _mm512_set1_epi64(number(C::two52_bits)))),
      _mm512_set1_pd(C::two52));
  const __m512d exponent = _mm512_sub_pd(field, _mm512_mask_blend_pd(high, _mm512_set1_pd(1023.0), _mm512_set1_pd(1022.0)));
  const __m512d f = _mm512_sub_pd(m, _mm512_set1_pd(1.0)), s = _mm512_div_pd(f, _mm512_add_pd(f, _mm512_set1_pd(2.0)));
  const __m512d z = _mm512_mul_pd(s, s), p = polynomial_avx512(C::terms, z), two = _mm512_set1_pd(2.0);
  return _mm512_fmadd_pd(exponent, _mm512_set1_pd(C::ln2),
                         _mm512_fmadd_pd(_mm512_mul_pd(s, z), _mm512_mul_pd(p, two), _mm512_mul_pd(s, two)));
}

/// exp_minus_tangent_lane() of each lane.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline __m512d exp_minus_tangent_avx512(
    __m512d d) {
  const __m512d p = polynomial_avx512(TangentConstants::terms, d);
  return _mm512_mul_pd(_mm512_mul_pd(_mm512_mul_pd(p, d), d), _mm512_set1_pd(0.5));
}

}  // namespace qfid::kernels::host
