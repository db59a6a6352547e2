// KL(base||test), its reverse and the Jensen-Shannon divergence (not its root) over the full vocabulary, per token; means,
// extremes, percentiles. Blind to: whether the change helps or hurts.
#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

std::vector<Metric> kl_divergence(const TokenData& data) {
  const auto forward = [](const kernels::TokenComparison& t) { return t.kl; };
  std::vector<Metric> all{
      mean_metric(data, "kl.mean", "nats", forward),
      mean_metric(data, "kl_reverse.mean", "nats", [](const kernels::TokenComparison& t) { return t.kl_reverse; }),
      mean_metric(data, "jsd.mean", "nats", [](const kernels::TokenComparison& t) { return t.jsd; })};
  add_percentiles(all, "kl", "nats", data, forward);
  return all;
}

}  // namespace qfid::eval
