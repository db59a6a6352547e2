// compare_logits: three passes over two rows of logits (maxima, normalizers, divergences), eight lanes at a time.
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

struct Top {
  float value, second;
  std::int64_t index;
};

struct Largest {
  __attribute__((always_inline)) float operator()(const float* x, std::int64_t n) const {
    constexpr int width = 16;
    float top[width];
    for (float& lane : top) lane = -INFINITY;
    for (std::int64_t i = 0; i + width <= n; i += width)
      for (int j = 0; j < width; ++j) top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
    for (std::int64_t i = n / width * width; i < n; ++i) top[0] = x[i] > top[0] ? x[i] : top[0];
    return *std::max_element(top, top + width);
  }
};

float largest(const float* x, std::int64_t n) { return quant::dispatched(Largest{}, x, n); }

/// Largest, second largest, and the lowest index of the largest.
Top top_of(const float* x, std::int64_t n) {
  const float value = largest(x, n);
  const std::int64_t index = std::find(x, x + n, value) - x;
  if (index == n) return {value, value, 0};  // NaN alone: reported as non-finite by the caller
  return {value, std::max(largest(x, index), largest(x + index + 1, n - index - 1)), index};
}

struct SumExp {
  __attribute__((always_inline)) void operator()(const float* x, std::int64_t n, double top, Lanes& out) const {
    Lanes sum;
    for (std::int64_t i = 0; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) sum.v[j] += exp_lane(static_cast<double>(x[i + j]) - top);
    out = sum;
  }
};

double log_sum_exp(const float* x, std::int64_t n, double top) {
  Lanes sum;
  quant::dispatched(SumExp{}, x, n, top, sum);
  double total = sum.fold();
  for (std::int64_t i = n / lanes * lanes; i < n; ++i) total += std::exp(static_cast<double>(x[i]) - top);
  return top + std::log(total);
}

struct Divergence {
  __attribute__((always_inline)) void operator()(const float* base, const float* test, std::int64_t n, double lse_base,
                                                 double lse_test, Lanes& forward, Lanes& reverse) const {
    Lanes f, r;
    for (std::int64_t i = 0; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) {
        const double lp = static_cast<double>(base[i + j]) - lse_base, lq = static_cast<double>(test[i + j]) - lse_test;
        const double d = lq - lp, p = exp_lane(lp), q = exp_lane(lq);
        const bool small = std::fabs(d) <= 0.25;
        f.v[j] += small ? p * exp_minus_tangent_lane(d) : q - p - p * d;
        r.v[j] += small ? q * exp_minus_tangent_lane(-d) : p - q + q * d;
      }
    forward = f;
    reverse = r;
  }
};

void divergences(const float* base, const float* test, std::int64_t n, double lse_base, double lse_test,
                 TokenComparison& out) {
  Lanes forward, reverse;
  quant::dispatched(Divergence{}, base, test, n, lse_base, lse_test, forward, reverse);
  out.kl = forward.fold();
  out.kl_reverse = reverse.fold();
  for (std::int64_t i = n / lanes * lanes; i < n; ++i) {
    const double lp = base[i] - lse_base, lq = test[i] - lse_test, d = lq - lp;
    out.kl +=
        std::exp(lp) * (std::fabs(d) <= 1e-2 ? d * d / 2 * (1 + d / 3 * (1 + d / 4 * (1 + d / 5))) : std::expm1(d) - d);
    out.kl_reverse +=
        std::exp(lq) * (std::fabs(d) <= 1e-2 ? d * d / 2 * (1 - d / 3 * (1 - d / 4 * (1 - d / 5))) : std::expm1(-d) + d);
  }
}

TokenComparison compare_row(const float* base, const float* test, std::int64_t n, std::int32_t target) {
  TokenComparison out{};
  const Top top_base = top_of(base, n);
  const double lse_base = log_sum_exp(base, n, static_cast<double>(top_base.value));
  const Top top_test = base == test ? top_base : top_of(test, n);
  const double lse_test = base == test ? lse_base : log_sum_exp(test, n, static_cast<double>(top_test.value));
  out.nll_base = lse_base - static_cast<double>(base[target]);
  out.nll_test = lse_test - static_cast<double>(test[target]);
  out.p_base = static_cast<float>(std::exp(-out.nll_base));
  out.p_test = static_cast<float>(std::exp(-out.nll_test));
  out.top_p_base = static_cast<float>(std::exp(static_cast<double>(top_base.value) - lse_base));
  out.margin_base = top_base.value - top_base.second;
  out.top1_base = static_cast<std::int32_t>(top_base.index);
  out.top1_test = static_cast<std::int32_t>(top_test.index);
  if (base != test) divergences(base, test, n, lse_base, lse_test, out);
  return out;
}

}  // namespace

std::vector<TokenComparison> HostReductions::compare_logits(const DeviceTensor& base, const DeviceTensor& test,
                                                            const DeviceTensor& targets) {
  quant::require(base.shape == test.shape && base.shape.rank() == 3,
                 "compare_logits: logits must be [B, T, V] of one shape");
  const auto x = view<float>(base), y = view<float>(test);
  const auto ids = view<std::int32_t>(targets);
  quant::require(ids.size() == x.rows(), "compare_logits: one target a row");
  std::vector<TokenComparison> all(static_cast<std::size_t>(x.rows()));
  const std::int64_t n = x.columns(), rows = x.rows();
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < rows; ++i)
    all[static_cast<std::size_t>(i)] = compare_row(x.data() + i * n, y.data() + i * n, n, ids[i]);
  return all;
}

}  // namespace qfid::kernels::host
