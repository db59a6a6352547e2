// Where does the damage fall: on tokens of which the reference was sure, or on those where it guessed? KL and the NLL
// difference by the reference's top probability, in buckets [0, .25) [.25, .5) [.5, .75) [.75, .95) [.95, 1].
// Blind to: whether the reference's top prediction was right.
#include <array>
#include <format>

#include "eval/metrics/interval.h"
#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

namespace {

constexpr std::array<double, 6> edges{0, 0.25, 0.5, 0.75, 0.95, 1};

bool inside(const kernels::TokenComparison& t, std::size_t bucket) {
  const double p = t.top_p_base;
  return p >= edges[bucket] && (p < edges[bucket + 1] || bucket + 2 == edges.size());
}

/// Mean of f over the bucket's tokens, a ratio of sums of windows: a window may have none.
Metric bucket_mean(const TokenData& data, const std::string& name, std::size_t bucket,
                   const std::function<double(const kernels::TokenComparison&)>& f) {
  std::vector<std::int64_t> counts;
  for (double count : data.sums([&](const auto& t) { return inside(t, bucket) ? 1.0 : 0.0; }))
    counts.push_back(static_cast<std::int64_t>(count));
  std::int64_t tokens = 0, windows = 0;
  for (std::int64_t count : counts) {
    tokens += count;
    windows += count > 0 ? 1 : 0;
  }
  Metric metric{name, std::nullopt, std::nullopt, "nats", "no tokens"};
  if (tokens == 0) return metric;
  const ClusteredMean mean =
      clustered_mean(data.sums([&](const auto& t) { return inside(t, bucket) ? f(t) : 0.0; }), counts, data.confidence);
  metric.value = mean.mean;
  metric.note = std::format("{} tokens", tokens);
  if (windows >= min_windows_for_interval)
    metric.ci = mean.interval;
  else
    metric.note += std::format(" in {} windows, no interval below {}", windows, min_windows_for_interval);
  return metric;
}

}  // namespace

std::vector<Metric> confidence_buckets(const TokenData& data) {
  std::vector<Metric> all;
  for (std::size_t bucket = 0; bucket + 1 < edges.size(); ++bucket) {
    const std::string range = std::format("top_p.{}-{}", edges[bucket], edges[bucket + 1]);
    all.push_back(mean_metric(data, range + ".share", "share",
                              [&](const kernels::TokenComparison& t) { return inside(t, bucket) ? 1.0 : 0.0; }));
    all.push_back(bucket_mean(data, range + ".kl", bucket, [](const kernels::TokenComparison& t) { return t.kl; }));
    all.push_back(bucket_mean(data, range + ".nll.difference", bucket,
                              [](const kernels::TokenComparison& t) { return t.nll_test - t.nll_base; }));
  }
  return all;
}

}  // namespace qfid::eval
