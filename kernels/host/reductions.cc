#include "kernels/host/reductions.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "kernels/host/host_memory.h"
#include "kernels/host/vector_math.h"
#include "quant/core/dispatch.h"

namespace qfid::kernels::host {

namespace {

constexpr int lanes = 8;

struct Grouped {
  std::int64_t B, T, G, D;
};

/// [B, T, D] or [B, T, G, D].
Grouped grouped(const Shape& s) {
  quant::require(s.rank() == 3 || s.rank() == 4, "reductions: expected [B, T, D] or [B, T, G, D], found " + s.to_string());
  return s.rank() == 4 ? Grouped{s[0], s[1], s[2], s[3]} : Grouped{s[0], s[1], 1, s[2]};
}

struct RowSums {
  double kl = 0, tv = 0;
};

struct DivergeRow {
  __attribute__((always_inline)) static void step(Double8 p, Double8 q, Double8& kl, Double8& tv) {
    const Double8 difference = q - p, tiny = broadcast(static_cast<double>(FLT_MIN));
    tv += difference < 0.0 ? -difference : difference;
    p = p < tiny ? tiny : p;
    q = q < tiny ? tiny : q;
    const Double8 ratio = q / p;
    kl += p * ((ratio - 1.0) - log8(ratio));
  }
  __attribute__((always_inline)) void operator()(const float* p, const float* q, std::int64_t n, Double8& kl,
                                                 Double8& tv) const {
    Double8 k = kl, t = tv;
    for (std::int64_t i = 0; i + lanes <= n; i += lanes) step(load8(p + i), load8(q + i), k, t);
    kl = k;
    tv = t;
  }
};

RowSums diverge(const float* p, const float* q, std::int64_t n) {
  Double8 kl{}, tv{};
  quant::dispatched(DivergeRow{}, p, q, n, kl, tv);
  const std::int64_t whole = n / lanes * lanes;
  if (whole < n) {
    float a[lanes] = {}, b[lanes] = {};
    std::copy(p + whole, p + n, a);
    std::copy(q + whole, q + n, b);
    DivergeRow::step(load8(a), load8(b), kl, tv);  // equal zeros add nothing
  }
  RowSums sums;
  for (int i = 0; i < lanes; ++i) {
    sums.kl += kl[i];
    sums.tv += tv[i];
  }
  sums.tv /= 2;
  return sums;
}

struct Counts {
  std::int32_t below = 0, above = 0, bad = 0;
};

struct CountRow {
  __attribute__((always_inline)) Counts operator()(const float* x, std::int64_t n) const {
    std::int32_t below = 0, above = 0, bad = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      below += x[i] < 0.1F ? 1 : 0;
      above += x[i] > 0.9F ? 1 : 0;
      bad += std::fabs(x[i]) <= FLT_MAX ? 0 : 1;
    }
    return {below, above, bad};
  }
};

RowStats window_stats(const float* x, std::int64_t rows, std::int64_t n) {
  RowStats stats;
  for (std::int64_t r = 0; r < rows; ++r, x += n) {
    const Counts counts = quant::dispatched(CountRow{}, x, n);
    stats.non_finite += counts.bad;
    stats.elements += n;
    ++stats.rows;
    if (counts.bad > 0) continue;  // a row with NaN or Inf has no moments; it is counted instead
    quant::Moments moments;
    moments.add(std::span(x, static_cast<std::size_t>(n)));
    const double inf_norm = moments.inf_norm();
    stats.max_abs = std::max(stats.max_abs, inf_norm);
    stats.inf_norm_sum += inf_norm;
    stats.kurtosis_sum += moments.kurtosis();
    stats.sum += moments.mean() * static_cast<double>(n);
    stats.below_tenth += counts.below;
    stats.above_nine_tenths += counts.above;
  }
  return stats;
}

}  // namespace

std::vector<quant::DistortionStats> HostReductions::distortion(const DeviceTensor& x, const DeviceTensor& y) {
  quant::require(x.shape == y.shape, "distortion: shapes differ: " + x.shape.to_string() + " and " + y.shape.to_string());
  const Grouped g = grouped(x.shape);
  const float* a = view<float>(x).data();
  const float* b = view<float>(y).data();
  std::vector<quant::DistortionStats> all(static_cast<std::size_t>(g.B * g.G));
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < g.B * g.G; ++i) {
    const std::int64_t offset = i / g.G * g.T * g.G * g.D + i % g.G * g.D;
    all[static_cast<std::size_t>(i)].add(a + offset, b + offset, g.T, g.D, g.G * g.D);
  }
  return all;
}

std::vector<RowDivergence> HostReductions::row_divergence(const DeviceTensor& base, const DeviceTensor& test) {
  quant::require(base.shape == test.shape && base.shape.rank() == 4, "row_divergence: probabilities must be [B, H, Tq, Tk]");
  const std::int64_t heads = base.shape[0] * base.shape[1], rows = base.shape[2], n = base.shape[3];
  const float* p = view<float>(base).data();
  const float* q = view<float>(test).data();
  std::vector<RowDivergence> all(static_cast<std::size_t>(heads));
#pragma omp parallel for schedule(static)
  for (std::int64_t h = 0; h < heads; ++h) {
    RowDivergence& out = all[static_cast<std::size_t>(h)];
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* a = p + (h * rows + r) * n;
      const float* b = q + (h * rows + r) * n;
      const auto nonzero = [](float v) { return v != 0.0F; };
      if (!std::any_of(a, a + n, nonzero) && !std::any_of(b, b + n, nonzero)) continue;
      const RowSums sums = diverge(a, b, n);
      ++out.rows;
      out.kl_sum += sums.kl;
      out.tv_sum += sums.tv;
      out.kl_max = std::max(out.kl_max, sums.kl);
    }
  }
  return all;
}

std::vector<RowStats> HostReductions::row_stats(const DeviceTensor& x) {
  const auto v = view<float>(x);
  const std::int64_t windows = x.shape[0], n = v.columns(), rows = windows == 0 ? 0 : v.rows() / windows;
  std::vector<RowStats> all(static_cast<std::size_t>(windows));
#pragma omp parallel for schedule(static)
  for (std::int64_t b = 0; b < windows; ++b)
    all[static_cast<std::size_t>(b)] = window_stats(v.data() + b * rows * n, rows, n);
  return all;
}

std::vector<double> HostReductions::norms(const DeviceTensor& x) {
  const auto v = view<float>(x);
  std::vector<double> all(static_cast<std::size_t>(v.rows()));
  for (std::int64_t r = 0; r < v.rows(); ++r) {
    double sum = 0;
    for (float value : v.row(r)) sum += static_cast<double>(value) * static_cast<double>(value);
    all[static_cast<std::size_t>(r)] = std::sqrt(sum);
  }
  return all;
}

std::vector<double> HostReductions::mean_attention_to(const DeviceTensor& probs, std::int64_t key, std::int64_t q0,
                                                      std::int64_t t_max) {
  const Shape& s = probs.shape;
  quant::require(s.rank() == 4 && key < s[3] && t_max <= s[2], "mean_attention_to: outside [B, H, Tq, Tk]");
  const auto v = view<float>(probs);
  const std::int64_t first = std::max(key, q0);
  quant::require(first < t_max, "mean_attention_to: no query to average over");
  std::vector<double> all;
  for (std::int64_t h = 0; h < s[0] * s[1]; ++h) {
    double sum = 0;
    for (std::int64_t q = first; q < t_max; ++q) sum += static_cast<double>(v[(h * s[2] + q) * s[3] + key]);
    all.push_back(sum / static_cast<double>(t_max - first));
  }
  return all;
}

}  // namespace qfid::kernels::host
