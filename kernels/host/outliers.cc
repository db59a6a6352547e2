// Largest magnitudes, where the error lies beside outliers, and norms under a projection, over host memory.
#include <algorithm>
#include <cmath>

#include "kernels/host/host_memory.h"
#include "kernels/host/reductions.h"
#include "quant/core/dispatch.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::host {

namespace {

Magnitudes magnitudes_of(const float* x, std::int64_t n) {
  std::vector<float> sizes;
  sizes.reserve(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i)
    if (std::isfinite(x[i])) sizes.push_back(std::fabs(x[i]));
  Magnitudes m;
  m.elements = static_cast<std::int64_t>(sizes.size());
  if (sizes.empty()) return m;
  const auto middle = sizes.begin() + (m.elements - 1) / 2;
  std::nth_element(sizes.begin(), middle, sizes.end());
  m.median = static_cast<double>(*middle);
  if (m.elements % 2 == 0) m.median = (m.median + static_cast<double>(*std::min_element(middle + 1, sizes.end()))) / 2;
  const auto kept = sizes.begin() + std::min<std::int64_t>(3, m.elements);
  std::partial_sort(sizes.begin(), kept, sizes.end(), std::greater<>());
  for (auto it = sizes.begin(); it != kept; ++it) m.top[it - sizes.begin()] = static_cast<double>(*it);
  m.massive = std::count_if(sizes.begin(), sizes.end(), [&](float size) {
    return static_cast<double>(size) > 100 && static_cast<double>(size) > 1000 * m.median;
  });
  return m;
}

constexpr int lanes = 8;
constexpr double outlier_deviations = 6;

/// Mean and the distance from it beyond which a value is an outlier; no value is where nothing is finite.
struct OutlierRule {
  double mean = 0, distance = INFINITY;
  bool operator()(float x) const { return std::fabs(static_cast<double>(x) - mean) > distance; }
};

/// As row_stats: rows with NaN or Inf have no moments, and no outliers.
OutlierRule rule_of(const float* x, std::int64_t rows, std::int64_t n, std::vector<char>& finite) {
  quant::Moments window;
  for (std::int64_t r = 0; r < rows; ++r) {
    quant::Moments moments;
    moments.add(std::span(x + r * n, static_cast<std::size_t>(n)));
    finite[static_cast<std::size_t>(r)] = n > 0 && std::isfinite(moments.mean()) ? 1 : 0;
    if (finite[static_cast<std::size_t>(r)] != 0) window.merge(moments);
  }
  if (window.count() == 0) return {};
  return {window.mean(), outlier_deviations * std::sqrt(window.variance())};
}

OutlierSplit split_window(const float* x, const float* y, std::int64_t rows, std::int64_t n) {
  std::vector<char> finite(static_cast<std::size_t>(rows)), tokens(finite.size()), channels(static_cast<std::size_t>(n));
  const OutlierRule outlier = rule_of(x, rows, n, finite);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; finite[static_cast<std::size_t>(r)] != 0 && c < n; ++c)
      if (outlier(x[r * n + c])) tokens[static_cast<std::size_t>(r)] = channels[static_cast<std::size_t>(c)] = 1;
  OutlierSplit s;
  s.tokens = rows;
  s.channels = n;
  s.outlier_tokens = std::count(tokens.begin(), tokens.end(), 1);
  s.outlier_channels = std::count(channels.begin(), channels.end(), 1);
  for (std::int64_t r = 0; r < rows; ++r) {
    double energy = 0, product = 0, error = 0, in_channels = 0;
    for (std::int64_t c = 0; c < n; ++c) {
      const auto a = static_cast<double>(x[r * n + c]), b = static_cast<double>(y[r * n + c]), e = b - a;
      if (!std::isfinite(e)) continue;
      energy += a * a;
      product += a * b;
      error += e * e;
      in_channels += channels[static_cast<std::size_t>(c)] != 0 ? e * e : 0;
    }
    s.energy += energy;
    s.product += product;
    s.error += error;
    s.channel_error += in_channels;
    if (tokens[static_cast<std::size_t>(r)] != 0) s.token_error += error;
    if (r == 0) s.first_energy = energy, s.first_product = product, s.first_error = error;
  }
  return s;
}

/// |R x|^2 for an upper triangular R [n, n].
struct ProjectedSquare {
  __attribute__((always_inline)) double operator()(const float* x, const float* factor, std::int64_t n) const {
    double square = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const float* row = factor + i * n;
      double sum[lanes] = {};
      std::int64_t j = i;
      for (; j + lanes <= n; j += lanes)
        for (int k = 0; k < lanes; ++k) sum[k] += static_cast<double>(row[j + k]) * static_cast<double>(x[j + k]);
      double total = 0;
      for (double lane : sum) total += lane;
      for (; j < n; ++j) total += static_cast<double>(row[j]) * static_cast<double>(x[j]);
      square += total * total;
    }
    return square;
  }
};

}  // namespace

std::vector<Magnitudes> HostReductions::magnitudes(const DeviceTensor& x) {
  const std::int64_t windows = x.shape[0], n = windows == 0 ? 0 : x.shape.elements() / windows;
  const float* data = view<float>(x).data();
  std::vector<Magnitudes> all(static_cast<std::size_t>(windows));
  quant::FirstError error;
#pragma omp parallel for schedule(static)
  for (std::int64_t b = 0; b < windows; ++b)
    error.guard([&] { all[static_cast<std::size_t>(b)] = magnitudes_of(data + b * n, n); });
  error.rethrow();
  return all;
}

std::vector<OutlierSplit> HostReductions::outlier_split(const DeviceTensor& x, const DeviceTensor& y) {
  quant::require(x.shape.elements() == y.shape.elements() && x.shape.rank() >= 3 && y.shape[0] == x.shape[0] &&
                     y.shape[1] == x.shape[1],
                 "outlier_split: tensors must be [B, T, ...] of one size");
  const std::int64_t windows = x.shape[0], rows = x.shape[1];
  const std::int64_t n = windows * rows == 0 ? 0 : x.shape.elements() / (windows * rows);
  const float *a = view<float>(x).data(), *b = view<float>(y).data();
  std::vector<OutlierSplit> all(static_cast<std::size_t>(windows));
  quant::FirstError error;
#pragma omp parallel for schedule(static)
  for (std::int64_t w = 0; w < windows; ++w)
    error.guard([&] { all[static_cast<std::size_t>(w)] = split_window(a + w * rows * n, b + w * rows * n, rows, n); });
  error.rethrow();
  return all;
}

std::vector<double> HostReductions::projected_norms(const DeviceTensor& x, const DeviceTensor& factors) {
  const Shape& s = x.shape;
  quant::require(
      s.rank() == 4 && factors.shape == Shape{s[2], s[3], s[3]},
      "projected_norms: expected [B, T, G, D] and [G, D, D], found " + s.to_string() + " and " + factors.shape.to_string());
  const auto in = view<float>(x);
  const float* r = view<float>(factors).data();
  std::vector<double> all(static_cast<std::size_t>(in.rows()));
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < in.rows(); ++i)
    all[static_cast<std::size_t>(i)] =
        std::sqrt(quant::dispatched(ProjectedSquare{}, in.data() + i * s[3], r + i % s[2] * s[3] * s[3], s[3]));
  return all;
}

}  // namespace qfid::kernels::host
