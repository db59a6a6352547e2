// Perplexity exp(mean NLL) under the protocol that chose the tokens; not comparable across protocols.
// Blind to: any change that leaves the target token's probability alone.
#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

std::vector<Metric> perplexity(const TokenData& data) {
  const Metric nll = mean_metric(data, "nll.mean", "nats", [](const kernels::TokenComparison& t) { return t.nll_test; });
  return {exponentiated(nll, "perplexity", ""), nll};
}

}  // namespace qfid::eval
