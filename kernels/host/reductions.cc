#include "kernels/host/reductions.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "kernels/host/host_memory.h"
#include "kernels/host/seen_keys.h"
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

/// Of several tensors: what one thread forms at a time.
struct Part {
  std::size_t tensor, index;
};

struct RowSums {
  double kl = 0, tv = 0;
};

struct DivergeRow {
  __attribute__((always_inline)) RowSums operator()(const float* base, const float* test, std::int64_t n) const {
    constexpr double tiny = FLT_MIN;
    double kl[lanes] = {}, tv[lanes] = {};
    const auto step = [&](const float* a, const float* b) __attribute__((always_inline)) {
      for (int j = 0; j < lanes; ++j) {
        const double x = a[j], y = b[j];
        tv[j] += std::fabs(y - x);
        const double p = x < tiny ? tiny : x, q = y < tiny ? tiny : y, ratio = q / p;
        kl[j] += p * ((ratio - 1.0) - log_lane(ratio));
      }
    };
    std::int64_t i = 0;
    for (; i + lanes <= n; i += lanes) step(base + i, test + i);
    if (i < n) {
      float a[lanes] = {}, b[lanes] = {};  // equal zeros add nothing
      for (int j = 0; i < n; ++i, ++j) {
        a[j] = base[i];
        b[j] = test[i];
      }
      step(a, b);
    }
    RowSums sums;
    for (int j = 0; j < lanes; ++j) {
      sums.kl += kl[j];
      sums.tv += tv[j] / 2;
    }
    return sums;
  }
};

RowSums diverge(const float* p, const float* q, std::int64_t n) { return quant::dispatched(DivergeRow{}, p, q, n); }

double sink_mass(const float* row, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(row[i]);
  return std::max(1 - sum, least_sink_mass);
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

constexpr std::int64_t row_group = 8;  ///< of rows in L1

RowStats window_stats(const float* x, std::int64_t rows, std::int64_t n) {
  RowStats stats;
  quant::Moments window, group[row_group];
  for (std::int64_t r = 0; r < rows; ++r, x += n) {
    if (r % row_group == 0) quant::Moments::of_rows(x, std::min(row_group, rows - r), n, group);
    const quant::Moments& moments = group[r % row_group];
    stats.elements += n;
    ++stats.rows;
    if (!std::isfinite(moments.mean())) {  // a row with NaN or Inf has no moments; what is wrong in it is counted instead
      stats.non_finite += quant::dispatched(CountRow{}, x, n).bad;
      continue;
    }
    const double inf_norm = moments.inf_norm();
    window.merge(moments);
    stats.max_abs = std::max(stats.max_abs, inf_norm);
    stats.inf_norm_sum += inf_norm;
    stats.kurtosis_sum += moments.kurtosis();
    stats.sum += moments.mean() * static_cast<double>(n);
    if (moments.min() < 0 || moments.max() > 1) continue;  // not a gate's row
    const Counts counts = quant::dispatched(CountRow{}, x, n);
    stats.below_tenth += counts.below;
    stats.above_nine_tenths += counts.above;
  }
  if (window.count() > 0) stats.window_kurtosis = window.kurtosis();
  return stats;
}

}  // namespace

std::vector<quant::DistortionStats> HostReductions::distortion(const DeviceTensor& x, const DeviceTensor& y) {
  const Pair pair{x, y};
  return std::move(HostReductions::distortion_of({&pair, 1})[0]);
}

std::vector<std::vector<quant::DistortionStats>> HostReductions::distortion_of(std::span<const Pair> pairs) {
  struct Numbers {
    const float *x, *y;
    Grouped shape;
  };
  std::vector<std::vector<quant::DistortionStats>> all;
  std::vector<Numbers> numbers;  // nothing throws in the region
  std::vector<Part> parts;
  for (const auto& [x, y] : pairs) {
    quant::require(x.shape == y.shape, "distortion: shapes differ: " + x.shape.to_string() + " and " + y.shape.to_string());
    quant::require(x.dtype == DType::f32 && y.dtype == DType::f32, "distortion: tensors must be f32");
    const Grouped g = grouped(x.shape);
    numbers.push_back({view<float>(x).data(), view<float>(y).data(), g});
    for (std::int64_t i = 0; i < g.B * g.G; ++i) parts.push_back({all.size(), static_cast<std::size_t>(i)});
    all.emplace_back(static_cast<std::size_t>(g.B * g.G));
  }
#pragma omp parallel for schedule(dynamic)
  for (std::size_t n = 0; n < parts.size(); ++n) {
    const auto& [x, y, g] = numbers[parts[n].tensor];
    const auto i = static_cast<std::int64_t>(parts[n].index);
    const std::int64_t offset = i / g.G * g.T * g.G * g.D + i % g.G * g.D;
    all[parts[n].tensor][parts[n].index].add(x + offset, y + offset, g.T, g.D, g.G * g.D);
  }
  return all;
}

std::vector<RowDivergence> HostReductions::row_divergence(const DeviceTensor& base, const DeviceTensor& test, bool sink) {
  quant::require(base.shape == test.shape && base.shape.rank() == 4, "row_divergence: probabilities must be [B, H, Tq, Tk]");
  const std::int64_t rows = base.shape[0] * base.shape[1] * base.shape[2], n = base.shape[3];
  const float* p = view<float>(base).data();
  const float* q = view<float>(test).data();
  std::vector<RowDivergence> all(static_cast<std::size_t>(rows));
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t seen = quant::dispatched(SeenKeys{}, p + r * n, q + r * n, n);
    if (seen == 0) continue;
    const RowSums sums = diverge(p + r * n, q + r * n, seen);
    RowDivergence& out = all[static_cast<std::size_t>(r)];
    out = {sums.kl, sums.tv, 1};
    if (!sink) continue;
    const double from = sink_mass(p + r * n, seen), to = sink_mass(q + r * n, seen), ratio = to / from;
    out.kl += from * ((ratio - 1.0) - std::log(ratio));
    out.tv += std::fabs(to - from) / 2;
  }
  return all;
}

std::vector<RowStats> HostReductions::row_stats(const DeviceTensor& x) {
  return std::move(HostReductions::row_stats_of({&x, 1})[0]);
}

std::vector<std::vector<RowStats>> HostReductions::row_stats_of(std::span<const DeviceTensor> tensors) {
  std::vector<std::vector<RowStats>> all;
  std::vector<quant::View<const float>> views;
  std::vector<Part> parts;
  for (const DeviceTensor& x : tensors) {
    quant::require(x.dtype == DType::f32, "row_stats: tensors must be f32");
    views.push_back(view<float>(x));
    for (std::int64_t b = 0; b < x.shape[0]; ++b) parts.push_back({all.size(), static_cast<std::size_t>(b)});
    all.emplace_back(static_cast<std::size_t>(x.shape[0]));
  }
#pragma omp parallel for schedule(dynamic)
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& v = views[parts[i].tensor];
    const std::int64_t windows = v.shape()[0], n = v.columns(), rows = v.rows() / windows;
    all[parts[i].tensor][parts[i].index] =
        window_stats(v.data() + static_cast<std::int64_t>(parts[i].index) * rows * n, rows, n);
  }
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
