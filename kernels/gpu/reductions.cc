#include "kernels/gpu/reductions.h"

#include <algorithm>
#include <numeric>

namespace qfid::kernels::gpu {

std::vector<TokenComparison> GpuReductions::compare_logits(const DeviceTensor& base, const DeviceTensor& test,
                                                           const DeviceTensor& targets) {
  quant::require(base.shape == test.shape && base.shape.rank() == 3,
                 "compare_logits: logits must be [B, T, V] of one shape");
  const std::int64_t n = base.shape[2], rows = base.shape[0] * base.shape[1];
  quant::require(targets.shape.elements() == rows, "compare_logits: one target a row");
  const auto *x = data<const float>(base), *y = data<const float>(test);
  if (!base_rows_ || base_.storage != base.storage || base_.shape != base.shape) {
    base_ = base;
    base_rows_ = c_.array<LogitRow>(rows);
    logit_rows(x, rows, n, base_rows_.get(), c_.stream());
  }
  std::shared_ptr<LogitRow> test_rows = base_rows_;
  if (x != y) {
    test_rows = c_.array<LogitRow>(rows);
    logit_rows(y, rows, n, test_rows.get(), c_.stream());
  }
  const auto out = c_.array<TokenComparison>(rows);
  compare_rows(x, y, base_rows_.get(), test_rows.get(), data<const std::int32_t>(targets), rows, n, out.get(), c_.stream());
  return c_.fetched(out.get(), rows);
}

std::vector<quant::DistortionStats> GpuReductions::distortion(const DeviceTensor& x, const DeviceTensor& y) {
  quant::require(x.shape == y.shape, "distortion: shapes differ: " + x.shape.to_string() + " and " + y.shape.to_string());
  const Shape& s = x.shape;
  quant::require(s.rank() == 3 || s.rank() == 4, "reductions: expected [B, T, D] or [B, T, G, D], found " + s.to_string());
  const std::int64_t B = s[0], T = s[1], G = s.rank() == 4 ? s[2] : 1, D = s[-1];
  const auto parts = c_.array<quant::DistortionStats::Sums>(B * G * distortion_splits(T, D));
  const auto sums = c_.array<quant::DistortionStats::Sums>(B * G);
  distortion_parts(data<const float>(x), data<const float>(y), B, T, G, D, parts.get(), sums.get(), c_.stream());
  std::vector<quant::DistortionStats> all;
  for (const quant::DistortionStats::Sums& one : c_.fetched(sums.get(), B * G))
    all.push_back(quant::DistortionStats::from(one));
  return all;
}

std::vector<RowDivergence> GpuReductions::row_divergence(const DeviceTensor& base, const DeviceTensor& test) {
  quant::require(base.shape == test.shape && base.shape.rank() == 4, "row_divergence: probabilities must be [B, H, Tq, Tk]");
  const std::int64_t heads = base.shape[0] * base.shape[1], rows = base.shape[2];
  const auto each = c_.array<DivergenceRow>(heads * rows);
  const auto out = c_.array<RowDivergence>(heads);
  divergence_rows(data<const float>(base), data<const float>(test), heads * rows, base.shape[3], each.get(), c_.stream());
  fold_divergence(each.get(), heads, rows, out.get(), c_.stream());
  return c_.fetched(out.get(), heads);
}

std::vector<RowStats> GpuReductions::row_stats(const DeviceTensor& x) {
  const std::int64_t windows = x.shape[0], n = x.shape[-1];
  const std::int64_t rows = windows == 0 || n == 0 ? 0 : x.shape.elements() / n / windows;
  const auto each = c_.array<StatsRow>(windows * rows);
  const auto out = c_.array<StatsRow>(windows);
  stats_rows(data<const float>(x), windows * rows, n, each.get(), c_.stream());
  fold_stats(each.get(), windows, rows, out.get(), c_.stream());
  std::vector<RowStats> all;
  for (const StatsRow& window : c_.fetched(out.get(), windows)) {
    all.push_back(window.stats);
    if (window.n == 0) continue;
    const double variance = window.n > 1 ? window.m2 / (window.n - 1) : 0;
    all.back().window_kurtosis = window.m4 / window.n / (variance * variance + 1e-6);
  }
  return all;
}

std::vector<AttentionSummary> GpuReductions::attention_summary(const DeviceTensor& probs, bool causal) {
  const Shape& s = probs.shape;
  quant::require(s.rank() == 4 && s[3] > 0, "attention_summary: probabilities must be [B, H, Tq, Tk]");
  const std::int64_t groups = s[0] * s[1], queries = s[2], keys = s[3];
  const auto rows = c_.array<SummaryRow>(groups * queries);
  const auto out = c_.array<AttentionSummary>(groups);
  const auto columns = c_.array<double>(groups * keys);
  summary_rows(data<const float>(probs), groups, queries, keys, causal, rows.get(), c_.stream());
  fold_summary(rows.get(), groups, queries, out.get(), c_.stream());
  column_sums(data<const float>(probs), groups, queries, keys, columns.get(), c_.stream());
  std::vector<AttentionSummary> all = c_.fetched(out.get(), groups);
  const std::vector<double> sums = c_.fetched(columns.get(), groups * keys);
  for (std::int64_t g = 0; g < groups; ++g) {
    const auto first = sums.begin() + g * keys, top = std::max_element(first, first + keys);
    const double given = std::accumulate(first, first + keys, 0.0);
    all[static_cast<std::size_t>(g)].top_key = top - first;
    if (given > 0) all[static_cast<std::size_t>(g)].top_key_share = *top / given;
  }
  return all;
}

std::vector<double> GpuReductions::norms(const DeviceTensor& x) {
  const std::int64_t n = x.shape[-1], rows = n == 0 ? 0 : x.shape.elements() / n;
  const auto out = c_.array<double>(rows);
  row_norms(data<const float>(x), rows, n, out.get(), c_.stream());
  return c_.fetched(out.get(), rows);
}

std::vector<double> GpuReductions::mean_attention_to(const DeviceTensor& probs, std::int64_t key, std::int64_t q0,
                                                     std::int64_t t_max) {
  const Shape& s = probs.shape;
  quant::require(s.rank() == 4 && key < s[3] && t_max <= s[2], "mean_attention_to: outside [B, H, Tq, Tk]");
  const std::int64_t first = std::max(key, q0), groups = s[0] * s[1];
  quant::require(first < t_max, "mean_attention_to: no query to average over");
  const auto out = c_.array<double>(groups);
  mean_column(data<const float>(probs), groups, s[2], s[3], key, first, t_max, out.get(), c_.stream());
  return c_.fetched(out.get(), groups);
}

}  // namespace qfid::kernels::gpu
