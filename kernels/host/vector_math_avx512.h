// kernels/host/vector_math.h for sixteen numbers in two AVX-512 registers, the same bits in each lane: GCC makes AVX2 halves
// of the plain loops even where it may use AVX-512. Two registers go through each step side by side, as a step waits four
// cycles for the last one's result. The CPU must have what quant::Isa::avx512 names.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <utility>

#include "kernels/host/vector_math.h"

namespace qfid::kernels::host {

/// Two registers: lanes 0 to 7 of a, then of b.
struct Pair512 {
  __m512d a, b;
};
struct PairMask {
  __mmask8 a, b;
};

/// Operations on both registers.
struct Avx512 {
  using P = Pair512;
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P all(double x) {
    return {_mm512_set1_pd(x), _mm512_set1_pd(x)};
  }
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P add(P x, P y) {
    return {_mm512_add_pd(x.a, y.a), _mm512_add_pd(x.b, y.b)};
  }
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P sub(P x, P y) {
    return {_mm512_sub_pd(x.a, y.a), _mm512_sub_pd(x.b, y.b)};
  }
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P mul(P x, P y) {
    return {_mm512_mul_pd(x.a, y.a), _mm512_mul_pd(x.b, y.b)};
  }
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P div(P x, P y) {
    return {_mm512_div_pd(x.a, y.a), _mm512_div_pd(x.b, y.b)};
  }
  /// The second where one is NaN, as (x > y ? x : y).
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P max(P x, P y) {
    return {_mm512_max_pd(x.a, y.a), _mm512_max_pd(x.b, y.b)};
  }
  /// x y + z, x y - z, z - x y in one rounding.
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P fma(P x, P y, P z) {
    return {_mm512_fmadd_pd(x.a, y.a, z.a), _mm512_fmadd_pd(x.b, y.b, z.b)};
  }
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P fms(P x, P y, P z) {
    return {_mm512_fmsub_pd(x.a, y.a, z.a), _mm512_fmsub_pd(x.b, y.b, z.b)};
  }
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P fnma(P x, P y, P z) {
    return {_mm512_fnmadd_pd(x.a, y.a, z.a), _mm512_fnmadd_pd(x.b, y.b, z.b)};
  }
  /// x where the mask is set, 0 elsewhere.
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P where(PairMask m, P x) {
    return {_mm512_maskz_mov_pd(m.a, x.a), _mm512_maskz_mov_pd(m.b, x.b)};
  }
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static PairMask at_most(P x, double y) {
    return {_mm512_cmp_pd_mask(_mm512_abs_pd(x.a), _mm512_set1_pd(y), _CMP_LE_OQ),
            _mm512_cmp_pd_mask(_mm512_abs_pd(x.b), _mm512_set1_pd(y), _CMP_LE_OQ)};
  }
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P wide(const float* x,
                                                                                                 const float* y) {
    return {_mm512_cvtps_pd(_mm256_loadu_ps(x)), _mm512_cvtps_pd(_mm256_loadu_ps(y))};
  }

  template <std::size_t n, std::size_t... i>
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P polynomial(
      const double (&terms)[n], P x, std::index_sequence<i...> /*powers*/) {
    P p = all(terms[0]);
    ((p = fma(p, x, all(terms[i + 1]))), ...);
    return p;
  }
  template <std::size_t n>
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P polynomial(
      const double (&terms)[n], P x) {
    return polynomial(terms, x, std::make_index_sequence<n - 1>{});
  }

  /// exp_lane() of each lane.
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P exp(P x) {
    using C = ExpConstants;
    x = max(all(least_log), x);
    const P shifted = fma(x, all(C::log2_e), all(C::magic)), n = sub(shifted, all(C::magic));
    const P r = fma(n, all(-C::ln2_low), fma(n, all(-C::ln2_high), x)), p = polynomial(C::terms, r);
    return {scaled(p.a, shifted.a), scaled(p.b, shifted.b)};
  }

  /// log_lane() of each lane.
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P log(P x) {
    using C = LogConstants;
    const Parts a = parts(x.a), b = parts(x.b);
    const P f{a.f, b.f}, exponent{a.exponent, b.exponent}, two = all(2.0);
    const P s = div(f, add(f, two)), z = mul(s, s), p = polynomial(C::terms, z);
    return fma(exponent, all(C::ln2), fma(mul(s, z), mul(p, two), mul(s, two)));
  }

  /// exp_minus_tangent_lane() of each lane.
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static P exp_minus_tangent(P d) {
    return mul(mul(mul(polynomial(TangentConstants::terms, d), d), d), all(0.5));
  }

 private:
  struct Parts {
    __m512d f, exponent;  ///< x = (1 + f) 2^exponent
  };

  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static __m512d scaled(__m512d p,
                                                                                                         __m512d shifted) {
    return _mm512_castsi512_pd(
        _mm512_add_epi64(_mm512_castpd_si512(p), _mm512_slli_epi64(_mm512_castpd_si512(shifted), 52)));
  }

  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static __m512i bits(std::uint64_t v) {
    return _mm512_set1_epi64(static_cast<long long>(v));
  }

  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) static Parts parts(__m512d x) {
    using C = LogConstants;
    const __m512i all_bits = _mm512_castpd_si512(x);
    const __m512d raw =
        _mm512_castsi512_pd(_mm512_or_si512(_mm512_and_si512(all_bits, bits(C::mantissa)), bits(C::one_bits)));
    const __mmask8 high = _mm512_cmp_pd_mask(raw, _mm512_set1_pd(C::sqrt2), _CMP_GT_OQ);
    const __m512d m = _mm512_mask_mul_pd(raw, high, raw, _mm512_set1_pd(0.5));
    const __m512d field =
        _mm512_sub_pd(_mm512_castsi512_pd(_mm512_or_si512(_mm512_srli_epi64(all_bits, 52), bits(C::two52_bits))),
                      _mm512_set1_pd(C::two52));
    const __m512d bias = _mm512_mask_blend_pd(high, _mm512_set1_pd(1023.0), _mm512_set1_pd(1022.0));
    return {_mm512_sub_pd(m, _mm512_set1_pd(1.0)), _mm512_sub_pd(field, bias)};
  }
};

}  // namespace qfid::kernels::host
