// KL(base||test) and its reverse over the full vocabulary, per token; mean, extremes, percentiles.
// Blind to: whether the change helps or hurts.
#include "eval/metrics/interval.h"
#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

std::vector<Metric> kl_divergence(const TokenData& data) {
  const auto forward = [](const kernels::TokenComparison& t) { return t.kl; };
  std::vector<Metric> all{
      mean_metric(data, "kl.mean", "nats", forward),
      mean_metric(data, "kl_reverse.mean", "nats", [](const kernels::TokenComparison& t) { return t.kl_reverse; })};
  std::vector<double> values = data.values(forward);
  const auto add = [&](const char* name, double q) { all.push_back({name, quantile(values, q), std::nullopt, "nats", ""}); };
  add("kl.median", 0.5);
  add("kl.p90", 0.9);
  add("kl.p99", 0.99);
  add("kl.p99.9", 0.999);
  add("kl.min", 0);
  add("kl.max", 1);
  return all;
}

}  // namespace qfid::eval
