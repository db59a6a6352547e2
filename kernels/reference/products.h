// sum[j] += x * row[j] in double: the one inner loop of the reference's products.
#pragma once

#include <cstdint>

#include "quant/core/dispatch.h"

namespace qfid::kernels::reference {

struct AxpyLoop {
  __attribute__((always_inline)) void operator()(double x, const float* __restrict row, double* __restrict sum,
                                                 std::int64_t n) const {
    for (std::int64_t j = 0; j < n; ++j) sum[j] += x * static_cast<double>(row[j]);
  }
};

inline void axpy(double x, const float* row, double* sum, std::int64_t n) { quant::dispatched(AxpyLoop{}, x, row, sum, n); }

}  // namespace qfid::kernels::reference
