// compare_logits: passes over two rows of logits (leaders, normalizer, all divergences), eight lanes at a time.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/host/host_memory.h"
#include "kernels/host/logits_avx512.h"
#include "kernels/host/reductions.h"
#include "kernels/host/vector_math.h"
#include "quant/core/dispatch.h"
#include "quant/core/first_error.h"

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

/// Largest of a block; NaN never is.
struct Largest {
  static constexpr std::int64_t block = 64;
  __attribute__((always_inline)) float operator()(const float* x) const {
    constexpr int width = 16;
    float top[width];
    for (int j = 0; j < width; ++j) top[j] = -INFINITY;
    for (std::int64_t i = 0; i < block; i += width) {
#pragma omp simd
      for (int j = 0; j < width; ++j) top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
    }
    float largest = top[0];
    for (int j = 1; j < width; ++j) largest = top[j] > largest ? top[j] : largest;
    return largest;
  }
};

/// The five largest in order, ties to the lowest index: a block is only looked into when it holds a larger one.
struct Leaders {
  static constexpr int kept = 5;
  float value[kept] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
  std::int32_t index[kept] = {-1, -1, -1, -1, -1};

  void add(float x, std::int64_t i) {
    if (!(x > value[kept - 1])) return;
    int at = kept - 1;
    for (; at > 0 && x > value[at - 1]; --at) {
      value[at] = value[at - 1];
      index[at] = index[at - 1];
    }
    value[at] = x;
    index[at] = static_cast<std::int32_t>(i);
  }
};

struct FindLeaders {
  __attribute__((always_inline)) void operator()(const float* x, std::int64_t n, Leaders& out) const {
    std::int64_t i = 0;
    for (; i + Largest::block <= n; i += Largest::block) {
      if (!(Largest{}(x + i) > out.value[Leaders::kept - 1])) continue;
      for (std::int64_t j = i; j < i + Largest::block; ++j) out.add(x[j], j);
    }
    for (; i < n; ++i) out.add(x[i], i);
  }
};

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

Lanes sum_exp(const float* x, std::int64_t n, double top, double* e) {
  Lanes sum;
  if (quant::current_isa() >= quant::Isa::avx512)
    sum_exp_avx512(x, n / lanes * lanes, top, e, sum.v);
  else
    quant::dispatched(SumExp{}, x, n, top, e, sum);
  return sum;
}

/// The leaders, and the normalizer; e[i] = exp(x[i] - largest).
HostReductions::LogitRow row_of(const float* x, std::int64_t n, double* e) {
  HostReductions::LogitRow row{};
  Leaders leaders;
  quant::dispatched(FindLeaders{}, x, n, leaders);
  row.top = leaders.value[0];
  row.margin = leaders.value[0] - leaders.value[1];
  row.index = std::max(0, leaders.index[0]);  // none (NaN): the caller finds a non-finite NLL
  std::copy_n(leaders.index, Leaders::kept, row.leaders.begin());
  const auto top = static_cast<double>(row.top);
  row.sum = sum_exp(x, n, top, e).fold();
  for (std::int64_t i = n / lanes * lanes; i < n; ++i) row.sum += e[i] = std::exp(static_cast<double>(x[i]) - top);
  row.lse = top + std::log(row.sum);
  return row;
}

float overlap(const HostReductions::LogitRow& a, const HostReductions::LogitRow& b) {
  int shared = 0, all = 0;
  for (std::int32_t index : a.leaders) {
    if (index < 0) continue;
    ++all;
    shared += static_cast<int>(std::count(b.leaders.begin(), b.leaders.end(), index));
  }
  return all == 0 ? 0.0F : static_cast<float>(shared) / static_cast<float>(all);
}

struct Sums {
  Lanes forward, reverse, jsd;
};

/// T = e^d - 1 - d, d = ln q - ln p, gives both directions of KL: p T, and q (e^-d - 1 + d) = p (d^2 + (d - 1) T).
/// Jensen-Shannon: with m = (p + q) / 2 and t = (q - p) / (q + p), m (t d + ln(1 - t^2)) / 2. Near 0 the sum is
/// 2 t^2 - t^2: little cancels as long as the logarithm knows t^2 beside 1, of which `lost` is what 1 - t^2 rounded away.
struct Divergence {
  __attribute__((always_inline)) void operator()(const LogitPair& rows, std::int64_t n, Sums& out) const {
    const auto [base, test, e_test, lse_base, lse_test, q_scale] = rows;
    Sums s;
    for (std::int64_t i = 0; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) {
        const double lp = static_cast<double>(base[i + j]) - lse_base, lq = static_cast<double>(test[i + j]) - lse_test;
        const double d = lq - lp, p = exp_lane(lp), q = e_test[i + j] * q_scale;
        // Near and far from 0 by arithmetic, not by a choice, which would become a branch: a near term of 0 is 0.
        const bool small = std::fabs(d) <= 0.25;
        const double near = small ? d : 0.0, far = small ? 0.0 : 1.0, tangent = exp_minus_tangent_lane(near);
        const double apart = q - p;
        s.forward.v[j] += std::fma(p, tangent, far * std::fma(-p, d, apart));
        s.reverse.v[j] += std::fma(p, std::fma(near, near, (near - 1.0) * tangent), far * std::fma(q, d, -apart));
        // Less than e^-700 counts as that, in d as in exp_lane's p and q.
        const double jsd_d = std::max(lq, least_log) - std::max(lp, least_log);
        const double total = q + p, inverse = 1.0 / total, t = std::fma(p, near + tangent, far * apart) * inverse;
        const double rest = 4.0 * (p * inverse) * (q * inverse), lost = small ? std::fma(-t, t, 1.0 - rest) : 0.0;
        s.jsd.v[j] += total * std::fma(t, jsd_d, log_lane(rest) + lost);
      }
    out = s;
  }
};

/// The few at a row's end. e^d - 1 - d of either sign, and for Jensen-Shannon the two KL to the middle.
void add_tail(double lp, double lq, TokenComparison& out) {
  const auto tangent = [](double d) {
    return std::fabs(d) <= 1e-2 ? d * d / 2 * (1 + d / 3 * (1 + d / 4 * (1 + d / 5))) : std::expm1(d) - d;
  };
  const double whole = lq - lp, bp = std::exp(lp), bq = std::exp(lq);
  const bool far = std::fabs(whole) > 1;  // there nothing cancels, and e^d may be beyond double's range
  out.kl += far ? bq - bp - bp * whole : bp * tangent(whole);
  out.kl_reverse += far ? bp - bq + bq * whole : bq * tangent(-whole);
  lp = std::max(lp, least_log);
  lq = std::max(lq, least_log);
  const double d = lq - lp, to_middle = std::log1p(std::expm1(d) / 2);
  out.jsd += 0.5 * (std::exp(lp) * tangent(to_middle) + std::exp(lq) * tangent(to_middle - d));
}

void divergences(const LogitPair& rows, std::int64_t n, TokenComparison& out) {
  Sums sums;
  if (quant::current_isa() >= quant::Isa::avx512)
    divergence_avx512(rows, n / lanes * lanes, sums.forward.v, sums.reverse.v, sums.jsd.v);
  else
    quant::dispatched(Divergence{}, rows, n, sums);
  out.kl = sums.forward.fold();
  out.kl_reverse = sums.reverse.fold();
  out.jsd = 0.25 * sums.jsd.fold();
  for (std::int64_t i = n / lanes * lanes; i < n; ++i)
    add_tail(static_cast<double>(rows.base[i]) - rows.lse_base, static_cast<double>(rows.test[i]) - rows.lse_test, out);
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
    base_rows_.clear();  // should what follows fail, nothing is known of the new ones
    base_ = base;
    base_rows_.assign(static_cast<std::size_t>(rows), {});
  }
  std::vector<TokenComparison> all(static_cast<std::size_t>(rows));
  quant::FirstError error;
#pragma omp parallel
  {
    std::vector<double> e;
    error.guard([&] { e.resize(static_cast<std::size_t>(n)); });
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < rows; ++i) {
      if (error.failed()) continue;
      const float* b = x.data() + i * n;
      const float* t = y.data() + i * n;
      LogitRow& base_row = base_rows_[static_cast<std::size_t>(i)];
      if (!seen) base_row = row_of(b, n, e.data());
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
      out.top5_overlap = overlap(base_row, test_row);
      out.target = ids[i];
      if (b != t) divergences({b, t, e.data(), base_row.lse, test_row.lse, 1.0 / test_row.sum}, n, out);
    }
  }
  if (error.failed()) base_rows_.clear();
  error.rethrow();
  return all;
}

}  // namespace qfid::kernels::host
