// compare_logits: passes over two rows of logits (maximum, normalizer, divergences), eight lanes at a time.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/host/host_memory.h"
#include "kernels/host/reductions.h"
#include "kernels/host/vector_math.h"
#include "quant/core/dispatch.h"

namespace qfid::kernels::host {

namespace {

constexpr int lanes = 8;

struct Lanes {
  double v[lanes] = {};
  double fold() const {
    double sum = 0;
    for (double lane : v) sum += lane;
    return sum;
  }
};

struct Largest {
  __attribute__((always_inline)) float operator()(const float* x, std::int64_t n) const {
    constexpr int width = 16;
    float top[width];
    for (int j = 0; j < width; ++j) top[j] = -INFINITY;
    for (std::int64_t i = 0; i + width <= n; i += width) {
#pragma omp simd
      for (int j = 0; j < width; ++j) top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
    }
    for (std::int64_t i = n / width * width; i < n; ++i) top[0] = x[i] > top[0] ? x[i] : top[0];
    float largest = top[0];
    for (int j = 1; j < width; ++j) largest = std::max(largest, top[j]);
    return largest;
  }
};

float largest(const float* x, std::int64_t n) { return quant::dispatched(Largest{}, x, n); }

struct SumExp {
  __attribute__((always_inline)) void operator()(const float* x, std::int64_t n, double top, double* e, Lanes& out) const {
    Lanes sum;
    for (std::int64_t i = 0; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) {
        e[i + j] = exp_lane(static_cast<double>(x[i + j]) - top);
        sum.v[j] += e[i + j];
      }
    out = sum;
  }
};

/// Largest logit, the lowest index of it, and the normalizer; e[i] = exp(x[i] - largest).
HostReductions::LogitRow row_of(const float* x, std::int64_t n, double* e) {
  HostReductions::LogitRow row{};
  row.top = largest(x, n);
  const std::int64_t index = std::find(x, x + n, row.top) - x;
  row.index = static_cast<std::int32_t>(index == n ? 0 : index);  // NaN: the caller finds a non-finite NLL
  const auto top = static_cast<double>(row.top);
  Lanes sum;
  quant::dispatched(SumExp{}, x, n, top, e, sum);
  row.sum = sum.fold();
  for (std::int64_t i = n / lanes * lanes; i < n; ++i) row.sum += e[i] = std::exp(static_cast<double>(x[i]) - top);
  row.lse = top + std::log(row.sum);
  return row;
}

/// T = e^d - 1 - d gives both directions: p T, and q (e^-d - 1 + d) = p (d^2 + (d - 1) T), d = ln q - ln p.
struct Divergence {
  __attribute__((always_inline)) void operator()(const float* base, const float* test, const double* e_test, std::int64_t n,
                                                 double lse_base, double lse_test, double q_scale, Lanes& forward,
                                                 Lanes& reverse) const {
    Lanes f, r;
    for (std::int64_t i = 0; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) {
        const double lp = static_cast<double>(base[i + j]) - lse_base, lq = static_cast<double>(test[i + j]) - lse_test;
        const double d = lq - lp, p = exp_lane(lp), q = e_test[i + j] * q_scale;
        // Near and far from 0 by arithmetic, not by a choice, which would become a branch: a near term of 0 is 0.
        const bool small = std::fabs(d) <= 0.25;
        const double near = small ? d : 0.0, far = small ? 0.0 : 1.0, tangent = exp_minus_tangent_lane(near);
        f.v[j] += p * tangent + far * (q - p - p * d);
        r.v[j] += p * (near * near + (near - 1.0) * tangent) + far * (p - q + q * d);
      }
    forward = f;
    reverse = r;
  }
};

void divergences(const float* base, const float* test, const double* e_test, std::int64_t n,
                 const HostReductions::LogitRow& b, const HostReductions::LogitRow& t, TokenComparison& out) {
  Lanes forward, reverse;
  quant::dispatched(Divergence{}, base, test, e_test, n, b.lse, t.lse, 1.0 / t.sum, forward, reverse);
  out.kl = forward.fold();
  out.kl_reverse = reverse.fold();
  for (std::int64_t i = n / lanes * lanes; i < n; ++i) {
    const double lp = base[i] - b.lse, lq = test[i] - t.lse, d = lq - lp;
    out.kl +=
        std::exp(lp) * (std::fabs(d) <= 1e-2 ? d * d / 2 * (1 + d / 3 * (1 + d / 4 * (1 + d / 5))) : std::expm1(d) - d);
    out.kl_reverse +=
        std::exp(lq) * (std::fabs(d) <= 1e-2 ? d * d / 2 * (1 - d / 3 * (1 - d / 4 * (1 - d / 5))) : std::expm1(-d) + d);
  }
}

/// ln p of the largest logit less that of the runner-up.
float margin(const float* x, std::int64_t n, const HostReductions::LogitRow& row) {
  return row.top - std::max(largest(x, row.index), largest(x + row.index + 1, n - row.index - 1));
}

}  // namespace

std::vector<TokenComparison> HostReductions::compare_logits(const DeviceTensor& base, const DeviceTensor& test,
                                                            const DeviceTensor& targets) {
  quant::require(base.shape == test.shape && base.shape.rank() == 3,
                 "compare_logits: logits must be [B, T, V] of one shape");
  const auto x = view<float>(base), y = view<float>(test);
  const auto ids = view<std::int32_t>(targets);
  quant::require(ids.size() == x.rows(), "compare_logits: one target a row");
  const std::int64_t n = x.columns(), rows = x.rows();
  const bool seen = !base_rows_.empty() && base_.storage == base.storage && base_.shape == base.shape;
  if (!seen) {
    base_ = base;
    base_rows_.assign(static_cast<std::size_t>(rows), {});
  }
  std::vector<TokenComparison> all(static_cast<std::size_t>(rows));
#pragma omp parallel
  {
    std::vector<double> e(static_cast<std::size_t>(n));
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < rows; ++i) {
      const float* b = x.data() + i * n;
      const float* t = y.data() + i * n;
      LogitRow& base_row = base_rows_[static_cast<std::size_t>(i)];
      if (!seen) {
        base_row = row_of(b, n, e.data());
        base_row.margin = margin(b, n, base_row);
      }
      const LogitRow test_row = b == t ? base_row : row_of(t, n, e.data());
      TokenComparison& out = all[static_cast<std::size_t>(i)];
      out.nll_base = base_row.lse - static_cast<double>(b[ids[i]]);
      out.nll_test = test_row.lse - static_cast<double>(t[ids[i]]);
      out.p_base = static_cast<float>(std::exp(-out.nll_base));
      out.p_test = static_cast<float>(std::exp(-out.nll_test));
      out.top_p_base = static_cast<float>(1.0 / base_row.sum);
      out.margin_base = base_row.margin;
      out.top1_base = base_row.index;
      out.top1_test = test_row.index;
      if (b != t) divergences(b, t, e.data(), n, base_row, test_row, out);
    }
  }
  return all;
}

}  // namespace qfid::kernels::host
