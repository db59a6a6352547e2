#include "kernels/host/logits_avx512.h"

#include "kernels/host/vector_math_avx512.h"
#include "quant/core/prefetch.h"

namespace qfid::kernels::host {

namespace {

using M = Avx512;
using P = Pair512;

constexpr std::int64_t lanes = 8;

struct Terms {
  P forward, reverse, jsd;
};

/// What sixteen logits add, step by step as kernels/host/logits.cc's Divergence.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline Terms terms(P lp, P lq, P q) {
  const P one = M::all(1.0), least = M::all(least_log);
  const P d = M::sub(lq, lp), p = M::exp(lp), apart = M::sub(q, p);
  const PairMask small = M::at_most(d, 0.25), large{static_cast<__mmask8>(~small.a), static_cast<__mmask8>(~small.b)};
  const P near = M::where(small, d), far = M::where(large, one), tangent = M::exp_minus_tangent(near);
  const P reverse_near = M::fma(near, near, M::mul(M::sub(near, one), tangent));
  const P jsd_d = M::sub(M::max(least, lq), M::max(least, lp));
  const P inverse = M::div(one, M::add(q, p));
  const P t = M::mul(M::fma(p, M::add(near, tangent), M::mul(far, apart)), inverse);
  const P rest = M::mul(M::mul(M::all(4.0), M::mul(p, inverse)), M::mul(q, inverse));
  const P lost = M::where(small, M::fnma(t, t, M::sub(one, rest)));
  return {M::fma(p, tangent, M::mul(far, M::fnma(p, d, apart))), M::fma(p, reverse_near, M::mul(far, M::fms(q, d, apart))),
          M::mul(M::add(q, p), M::fma(t, jsd_d, M::add(M::log(rest), lost)))};
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) inline Terms terms_at(const LogitPair& rows,
                                                                                                       std::int64_t i,
                                                                                                       std::int64_t j) {
  const P lp = M::sub(M::wide(rows.base + i, rows.base + j), M::all(rows.lse_base));
  const P lq = M::sub(M::wide(rows.test + i, rows.test + j), M::all(rows.lse_test));
  return terms(lp, lq, M::mul({_mm512_loadu_pd(rows.e_test + i), _mm512_loadu_pd(rows.e_test + j)}, M::all(rows.q_scale)));
}

}  // namespace

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"))) void sum_exp_avx512(const float* x, std::int64_t n,
                                                                                      double top, double* e,
                                                                                      double (&sum)[8]) {
  __m512d total = _mm512_setzero_pd();
  for (std::int64_t i = 0; i < n; i += 2 * lanes) {
    const bool both = i + lanes < n;
    const std::int64_t j = both ? i + lanes : i;  // the last eight of an odd number, twice
    quant::prefetch(x + i, n);
    const P one = M::exp(M::sub(M::wide(x + i, x + j), M::all(top)));
    _mm512_storeu_pd(e + i, one.a);
    total = _mm512_add_pd(total, one.a);
    if (!both) break;
    _mm512_storeu_pd(e + j, one.b);
    total = _mm512_add_pd(total, one.b);
  }
  _mm512_storeu_pd(sum, total);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"))) void divergence_avx512(
    const LogitPair& rows, std::int64_t n, double (&forward)[8], double (&reverse)[8], double (&jsd)[8]) {
  __m512d sums[3] = {_mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd()};
  const auto add = [&](__m512d f, __m512d r, __m512d s)
                       __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"), always_inline)) {
                         sums[0] = _mm512_add_pd(sums[0], f);
                         sums[1] = _mm512_add_pd(sums[1], r);
                         sums[2] = _mm512_add_pd(sums[2], s);
                       };
  for (std::int64_t i = 0; i < n; i += 2 * lanes) {
    const bool both = i + lanes < n;
    quant::prefetch(rows.base + i, n);
    const Terms more = terms_at(rows, i, both ? i + lanes : i);
    add(more.forward.a, more.reverse.a, more.jsd.a);
    if (both) add(more.forward.b, more.reverse.b, more.jsd.b);
  }
  _mm512_storeu_pd(forward, sums[0]);
  _mm512_storeu_pd(reverse, sums[1]);
  _mm512_storeu_pd(jsd, sums[2]);
}

}  // namespace qfid::kernels::host
