// The two passes of compare_logits that take its time, in AVX-512, written out (kernels/host/vector_math_avx512.h says
// why). The same lanes, each in the same order: the same bits as kernels/host/logits.cc's loops. The CPU must have what
// quant::Isa::avx512 names. n: a multiple of 8. Rows are read one after the other: what follows x and base in memory is
// fetched meanwhile (test's by its own sum_exp_avx512()).
#pragma once

#include <cstdint>

namespace qfid::kernels::host {

/// e[i] = e^(x[i] - top); sum[j]: of the e[i], i mod 8 = j.
void sum_exp_avx512(const float* x, std::int64_t n, double top, double* e, double (&sum)[8]);

/// Rows whose divergence is wanted: logits less the logarithm of their normalizer are ln p and ln q; q = e_test q_scale.
struct LogitPair {
  const float *base, *test;
  const double* e_test;
  double lse_base, lse_test, q_scale;
};
void divergence_avx512(const LogitPair& rows, std::int64_t n, double (&forward)[8], double (&reverse)[8], double (&jsd)[8]);

}  // namespace qfid::kernels::host
