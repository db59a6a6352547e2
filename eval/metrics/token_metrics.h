// Model-level measures from per-token comparisons with the full-precision run (docs/metrics.md, "Model level").
// A measure is one file and one line in the registry; each gets everything and returns its named numbers.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "eval/metrics/metric.h"
#include "kernels/reductions.h"

namespace qfid::eval {

/// The scored tokens of one window.
using WindowTokens = std::vector<kernels::TokenComparison>;

struct TokenData {
  std::vector<WindowTokens> windows;  ///< in order
  double confidence = 0.95;
  std::vector<ScoredDocument> documents{};  ///< whose windows `windows` holds one after the other; empty but for lmeval
  bool is_baseline = false;                 ///< the run is the baseline itself: paired measures don't apply

  std::vector<std::int64_t> counts() const;
  /// Per-window sums of f(token), formed in token order.
  std::vector<double> sums(const std::function<double(const kernels::TokenComparison&)>& f) const;
  /// f of every token, in order.
  std::vector<double> values(const std::function<double(const kernels::TokenComparison&)>& f) const;
};

struct TokenMeasure {
  std::string_view name;
  bool paired;  ///< needs a baseline to differ from
  std::vector<Metric> (*compute)(const TokenData&);
};
/// Every registered measure, in the order of reports.
const std::vector<TokenMeasure>& token_measures();
std::vector<Metric> compute_token_metrics(const TokenData& data);

/// Window-clustered mean as a metric; the note says why an interval is missing.
Metric mean_metric(std::string name, std::string unit, const std::vector<double>& sums,
                   const std::vector<std::int64_t>& counts, double confidence);
Metric mean_metric(const TokenData& data, std::string name, std::string unit,
                   const std::function<double(const kernels::TokenComparison&)>& f);
/// Extremes, median and percentiles .1 1 5 10 25 75 90 95 99 99.9 of f(token) (linear at q (n - 1)) as NAME.min, NAME.p0.1,
/// ...; the percentiles with intervals over windows (percentiles.cc).
void add_percentiles(std::vector<Metric>& all, const std::string& name, const std::string& unit, const TokenData& data,
                     const std::function<double(const kernels::TokenComparison&)>& f);
/// The same of numbers by window and token.
void add_percentiles(std::vector<Metric>& all, const std::string& name, const std::string& unit,
                     std::vector<std::vector<double>> windows, double confidence);
/// exp of a mean metric and of its endpoints.
Metric exponentiated(const Metric& mean, std::string name, std::string unit);

// The measures, a file each.
std::vector<Metric> perplexity(const TokenData& data);          // perplexity.cc
std::vector<Metric> text_perplexity(const TokenData& data);     // text_perplexity.cc
std::vector<Metric> paired_nll(const TokenData& data);          // paired_nll.cc
std::vector<Metric> kl_divergence(const TokenData& data);       // kl_divergence.cc
std::vector<Metric> top1_agreement(const TokenData& data);      // top1_agreement.cc
std::vector<Metric> top5_overlap(const TokenData& data);        // top5_overlap.cc
std::vector<Metric> probability_shift(const TokenData& data);   // probability_shift.cc
std::vector<Metric> confidence_buckets(const TokenData& data);  // confidence_buckets.cc

WindowSums window_sums(const TokenData& data);
TokenSeries token_series(const TokenData& data);
/// Mean over tokens of NLL_b - NLL_a, of hidden states of NMSE_b - NMSE_a, with its window-clustered interval; windows must
/// match.
Metric paired_difference(const WindowSums& a, const WindowSums& b, double confidence);

}  // namespace qfid::eval
