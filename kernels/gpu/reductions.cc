#include "kernels/gpu/reductions.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace qfid::kernels::gpu {

namespace {

RowStats finished(const StatsRow& window) {
  RowStats stats = window.stats;
  if (window.n == 0) return stats;
  const double variance = window.n > 1 ? window.m2 / (window.n - 1) : 0;
  stats.window_kurtosis = window.m4 / window.n / (variance * variance + 1e-6);
  return stats;
}

}  // namespace

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
  const Pair pair{x, y};
  return std::move(distortion_of({&pair, 1})[0]);
}

std::vector<std::vector<quant::DistortionStats>> GpuReductions::distortion_of(std::span<const Pair> pairs) {
  using Sums = quant::DistortionStats::Sums;
  const auto groups = [](const Shape& s) { return s[0] * (s.rank() == 4 ? s[2] : 1); };
  std::int64_t n = 0;
  for (const auto& [x, y] : pairs) {
    quant::require(x.shape == y.shape, "distortion: shapes differ: " + x.shape.to_string() + " and " + y.shape.to_string());
    quant::require(x.shape.rank() == 3 || x.shape.rank() == 4,
                   "reductions: expected [B, T, D] or [B, T, G, D], found " + x.shape.to_string());
    n += groups(x.shape);
  }
  const auto sums = c_.array<Sums>(n);
  Sums* next = sums.get();
  for (const auto& [x, y] : pairs) {
    const Shape& s = x.shape;
    const std::int64_t G = s.rank() == 4 ? s[2] : 1;
    const auto parts = c_.array<Sums>(s[0] * G * distortion_splits(s[1], s[-1]));
    distortion_parts(data<const float>(x), data<const float>(y), s[0], s[1], G, s[-1], parts.get(), next, c_.stream());
    next += groups(s);
  }
  const std::vector<Sums> fetched = c_.fetched(sums.get(), n);
  auto one = fetched.begin();
  std::vector<std::vector<quant::DistortionStats>> all;
  for (const auto& [x, y] : pairs) {
    all.emplace_back();
    for (std::int64_t i = 0; i < groups(x.shape); ++i) all.back().push_back(quant::DistortionStats::from(*one++));
  }
  return all;
}

std::vector<RowDivergence> GpuReductions::row_divergence(const DeviceTensor& base, const DeviceTensor& test, bool sink) {
  quant::require(base.shape == test.shape && base.shape.rank() == 4, "row_divergence: probabilities must be [B, H, Tq, Tk]");
  const std::int64_t rows = base.shape[0] * base.shape[1] * base.shape[2];
  const auto out = c_.array<RowDivergence>(rows);
  divergence_rows(data<const float>(base), data<const float>(test), rows, base.shape[3], sink, out.get(), c_.stream());
  return c_.fetched(out.get(), rows);
}

DeviceTensor GpuReductions::coded_weights(const DeviceTensor& probs, const DeviceTensor& codes, const ProbScheme& scheme,
                                          bool sink) {
  quant::require(probs.shape == codes.shape && probs.shape.rank() == 4,
                 "coded_weights: probabilities and codes must be [B, H, Tq, Tk] of one shape");
  quant::require(codes.dtype == quant::storage(scheme.format), "coded_weights: codes of another format than the scheme's");
  const Shape& s = probs.shape;
  DeviceTensor weights = c_.tensor(DType::f32, s);
  weight_rows(data<const float>(probs), codes.storage.get(), s[0] * s[1] * s[2], s[3], scheme, sink, data<float>(weights),
              c_.stream());
  return weights;
}

std::vector<CodedDivergence> GpuReductions::coded_divergence(const DeviceTensor& base, const DeviceTensor& test,
                                                             const DeviceTensor& weights, bool sink) {
  quant::require(base.shape == test.shape && base.shape == weights.shape && base.shape.rank() == 4,
                 "coded_divergence: probabilities must be [B, H, Tq, Tk] of one shape");
  const std::int64_t rows = base.shape[0] * base.shape[1] * base.shape[2];
  const auto out = c_.array<CodedDivergence>(rows);
  coded_rows(data<const float>(base), data<const float>(test), data<const float>(weights), rows, base.shape[3], sink,
             out.get(), c_.stream());
  return c_.fetched(out.get(), rows);
}

std::vector<std::int64_t> GpuReductions::code_histogram(const DeviceTensor& codes, bool causal) {
  const Shape& s = codes.shape;
  quant::require(s.rank() == 4 && quant::info(codes.dtype).bytes == 1,
                 "code_histogram: codes must be bytes, [B, H, Tq, Tk]");
  const auto counts = c_.zeros<std::int64_t>(256);
  count_codes(static_cast<const std::uint8_t*>(codes.storage.get()), s[0] * s[1] * s[2], s[2], s[3], causal, counts.get(),
              c_.stream());
  return c_.fetched(counts.get(), 256);
}

std::vector<OutputSplit> GpuReductions::output_split(const DeviceTensor& base, const DeviceTensor& weights,
                                                     const DeviceTensor& v, const DeviceTensor& coded_v) {
  const Shape &s = base.shape, &values = v.shape;
  quant::require(s == weights.shape && s.rank() == 4, "output_split: probabilities must be [B, H, Tq, Tk] of one shape");
  quant::require(
      values == coded_v.shape && values.rank() == 4 && values[0] == s[0] && values[1] == s[3] && s[1] % values[2] == 0,
      "output_split: values must be [B, Tk, Hkv, D] of one shape, found " + values.to_string());
  const auto each = c_.array<OutputSplit>(s[0] * s[1] * s[2]);
  split_rows(data<const float>(base), data<const float>(weights), data<const float>(v), data<const float>(coded_v),
             {s[0], s[1], values[2], s[2], s[3], values[3]}, each.get(), c_.stream());
  const std::vector<OutputSplit> rows = c_.fetched(each.get(), s[0] * s[1] * s[2]);
  std::vector<OutputSplit> all(static_cast<std::size_t>(s[0] * s[1]));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    OutputSplit& head = all[r / static_cast<std::size_t>(s[2])];
    for (double OutputSplit::* part :
         {&OutputSplit::output, &OutputSplit::error, &OutputSplit::p, &OutputSplit::p_first, &OutputSplit::p_others,
          &OutputSplit::v, &OutputSplit::v_first, &OutputSplit::v_others})
      head.*part += rows[r].*part;
  }
  return all;
}

std::vector<Magnitudes> GpuReductions::magnitudes(const DeviceTensor& x) {
  const std::int64_t windows = x.shape[0], n = windows == 0 ? 0 : x.shape.elements() / windows;
  const auto out = c_.array<Magnitudes>(windows);
  window_magnitudes(data<const float>(x), windows, n, out.get(), c_.stream());
  return c_.fetched(out.get(), windows);
}

std::vector<OutlierSplit> GpuReductions::outlier_split(const DeviceTensor& x, const DeviceTensor& y) {
  quant::require(x.shape.elements() == y.shape.elements() && x.shape.rank() >= 3 && y.shape[0] == x.shape[0] &&
                     y.shape[1] == x.shape[1],
                 "outlier_split: tensors must be [B, T, ...] of one size");
  const std::int64_t B = x.shape[0], T = x.shape[1], n = B * T == 0 ? 0 : x.shape.elements() / (B * T);
  const auto stats = c_.array<StatsRow>(B * T), windows = c_.array<StatsRow>(B);
  const auto tokens = c_.zeros<std::uint8_t>(B * T), channels = c_.zeros<std::uint8_t>(B * n);
  const auto out = c_.array<OutlierRow>(B * T);
  const auto *a = data<const float>(x), *b = data<const float>(y);
  stats_rows(a, B * T, n, stats.get(), c_.stream());
  fold_stats(stats.get(), B, T, windows.get(), c_.stream());
  outlier_flags(a, stats.get(), windows.get(), B, T, n, tokens.get(), channels.get(), c_.stream());
  outlier_rows(a, b, tokens.get(), channels.get(), B, T, n, out.get(), c_.stream());
  const std::vector<OutlierRow> rows = c_.fetched(out.get(), B * T);
  const std::vector<std::uint8_t> flags = c_.fetched(channels.get(), B * n);
  std::vector<OutlierSplit> all(static_cast<std::size_t>(B));
  for (std::int64_t w = 0; w < B; ++w) {
    OutlierSplit& s = all[static_cast<std::size_t>(w)];
    s.tokens = T;
    s.channels = n;
    s.outlier_channels = std::count(flags.begin() + w * n, flags.begin() + (w + 1) * n, 1);
    for (std::int64_t t = 0; t < T; ++t) {
      const OutlierRow& row = rows[static_cast<std::size_t>(w * T + t)];
      s.energy += row.energy;
      s.product += row.product;
      s.error += row.error;
      s.channel_error += row.channel_error;
      s.outlier_tokens += row.outlier;
      if (row.outlier != 0) s.token_error += row.error;
      if (t == 0) s.first_energy = row.energy, s.first_product = row.product, s.first_error = row.error;
    }
  }
  return all;
}

std::vector<double> GpuReductions::projected_norms(const DeviceTensor& x, const DeviceTensor& factors) {
  const Shape& s = x.shape;
  quant::require(
      s.rank() == 4 && factors.shape == Shape{s[2], s[3], s[3]},
      "projected_norms: expected [B, T, G, D] and [G, D, D], found " + s.to_string() + " and " + factors.shape.to_string());
  const std::int64_t rows = s[0] * s[1] * s[2];
  const auto out = c_.array<double>(rows);
  projected_row_norms(data<const float>(x), data<const float>(factors), rows, s[2], s[3], out.get(), c_.stream());
  return c_.fetched(out.get(), rows);
}

std::vector<RowStats> GpuReductions::row_stats(const DeviceTensor& x) { return std::move(row_stats_of({&x, 1})[0]); }

std::vector<std::vector<RowStats>> GpuReductions::row_stats_of(std::span<const DeviceTensor> tensors) {
  const auto rows_of = [](const DeviceTensor& x) {
    return x.shape[0] == 0 || x.shape[-1] == 0 ? 0 : x.shape.elements() / x.shape[-1] / x.shape[0];
  };
  std::int64_t rows = 0, windows = 0;
  for (const DeviceTensor& x : tensors) rows += x.shape[0] * rows_of(x), windows += x.shape[0];
  const auto each = c_.array<StatsRow>(rows), out = c_.array<StatsRow>(windows);
  StatsRow *row = each.get(), *window = out.get();
  for (std::size_t i = 0; i < tensors.size();) {
    // Windows of as many rows are folded together, whatever their tensor: a fold waits more than it works.
    const std::int64_t per_window = rows_of(tensors[i]);
    std::int64_t groups = 0;
    const StatsRow* first = row;
    for (; i < tensors.size() && rows_of(tensors[i]) == per_window; ++i) {
      const DeviceTensor& x = tensors[i];
      stats_rows(data<const float>(x), x.shape[0] * per_window, x.shape[-1], row, c_.stream());
      row += x.shape[0] * per_window;
      groups += x.shape[0];
    }
    fold_stats(first, groups, per_window, window, c_.stream());
    window += groups;
  }
  const std::vector<StatsRow> fetched = c_.fetched(out.get(), windows);
  auto next = fetched.begin();
  std::vector<std::vector<RowStats>> all;
  for (const DeviceTensor& x : tensors) {
    all.emplace_back();
    for (std::int64_t b = 0; b < x.shape[0]; ++b) all.back().push_back(finished(*next++));
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
