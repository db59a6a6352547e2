// How many of the baseline's five most likely tokens are still among the target's five, whatever their order.
// Blind to: order within the five, and everything below them.
#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

std::vector<Metric> top5_overlap(const TokenData& data) {
  return {mean_metric(data, "top5.overlap", "share",
                      [](const kernels::TokenComparison& t) { return static_cast<double>(t.top5_overlap); })};
}

}  // namespace qfid::eval
