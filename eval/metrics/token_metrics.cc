#include "eval/metrics/token_metrics.h"

#include <algorithm>
#include <cmath>

#include "eval/metrics/interval.h"
#include "quant/core/error.h"

namespace qfid::eval {

std::vector<std::int64_t> TokenData::counts() const {
  std::vector<std::int64_t> all;
  for (const WindowTokens& window : windows) all.push_back(static_cast<std::int64_t>(window.size()));
  return all;
}

std::vector<double> TokenData::sums(const std::function<double(const kernels::TokenComparison&)>& f) const {
  std::vector<double> all;
  for (const WindowTokens& window : windows) {
    double sum = 0;
    for (const kernels::TokenComparison& token : window) sum += f(token);
    all.push_back(sum);
  }
  return all;
}

std::vector<double> TokenData::values(const std::function<double(const kernels::TokenComparison&)>& f) const {
  std::vector<double> all;
  for (const WindowTokens& window : windows)
    for (const kernels::TokenComparison& token : window) all.push_back(f(token));
  return all;
}

const std::vector<TokenMeasure>& token_measures() {
  static const std::vector<TokenMeasure> all{
      {"perplexity", false, perplexity},
      {"text_perplexity", false, text_perplexity},
      {"paired_nll", true, paired_nll},
      {"kl_divergence", true, kl_divergence},
      {"top1_agreement", true, top1_agreement},
      {"top5_overlap", true, top5_overlap},
      {"probability_shift", true, probability_shift},
      {"confidence_buckets", true, confidence_buckets},
  };
  return all;
}

std::vector<Metric> compute_token_metrics(const TokenData& data) {
  std::vector<Metric> all;
  for (const TokenMeasure& measure : token_measures()) {
    if (measure.paired && data.is_baseline) continue;
    for (Metric& metric : measure.compute(data)) all.push_back(std::move(metric));
  }
  return all;
}

Metric mean_metric(std::string name, std::string unit, const std::vector<double>& sums,
                   const std::vector<std::int64_t>& counts, double confidence) {
  const ClusteredMean mean = clustered_mean(sums, counts, confidence);
  Metric metric{std::move(name), mean.mean, mean.interval, std::move(unit), ""};
  if (!metric.ci) metric.note = "no interval below " + std::to_string(min_windows_for_interval) + " windows";
  return metric;
}

Metric mean_metric(const TokenData& data, std::string name, std::string unit,
                   const std::function<double(const kernels::TokenComparison&)>& f) {
  return mean_metric(std::move(name), std::move(unit), data.sums(f), data.counts(), data.confidence);
}

Metric exponentiated(const Metric& mean, std::string name, std::string unit) {
  Metric metric{std::move(name), std::nullopt, std::nullopt, std::move(unit), mean.note};
  if (mean.value) metric.value = std::exp(*mean.value);
  if (mean.ci) metric.ci = Interval{std::exp(mean.ci->low), std::exp(mean.ci->high)};
  return metric;
}

WindowSums window_sums(const TokenData& data) {
  WindowSums sums;
  sums.tokens = data.counts();
  sums.nll = data.sums([](const kernels::TokenComparison& t) { return t.nll_test; });
  sums.kl = data.sums([](const kernels::TokenComparison& t) { return t.kl; });
  sums.kl_reverse = data.sums([](const kernels::TokenComparison& t) { return t.kl_reverse; });
  for (const WindowTokens& window : data.windows) {
    std::int64_t agree = 0;
    for (const kernels::TokenComparison& token : window) agree += token.top1_base == token.top1_test;
    sums.top1_agree.push_back(agree);
  }
  return sums;
}

TokenSeries token_series(const TokenData& data) {
  TokenSeries series;
  for (const WindowTokens& window : data.windows)
    for (const kernels::TokenComparison& token : window) {
      series.nll.push_back(static_cast<float>(token.nll_test));
      series.kl.push_back(static_cast<float>(token.kl));
      series.top1.push_back(token.top1_test);
    }
  return series;
}

Metric paired_difference(const WindowSums& a, const WindowSums& b, double confidence) {
  quant::require(a.tokens == b.tokens, "paired_difference: the runs scored different windows");
  std::vector<double> difference;
  if (!a.nmse.empty()) {
    for (std::size_t i = 0; i < a.nmse.size(); ++i) difference.push_back(b.nmse[i] - a.nmse[i]);
    return mean_metric("hidden.nmse.difference", "", difference, a.tokens, confidence);
  }
  for (std::size_t i = 0; i < a.nll.size(); ++i) difference.push_back(b.nll[i] - a.nll[i]);
  return mean_metric("nll.difference", "nats", difference, a.tokens, confidence);
}

}  // namespace qfid::eval
