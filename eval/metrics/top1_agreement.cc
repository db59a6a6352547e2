// Does the most likely token stay the same (ties: lowest index), and when it flips, for better or worse?
// Decided flips: the reference's margin ln p1 - ln p2 was above ln 2, so the flip overturned a decision.
// Right and wrong are about the token that came. Blind to: everything below the top of the distribution.
#include <cmath>

#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

std::vector<Metric> top1_agreement(const TokenData& data) {
  const auto flipped = [](const kernels::TokenComparison& t) { return t.top1_base != t.top1_test; };
  const auto flag = [](bool value) { return value ? 1.0 : 0.0; };
  return {mean_metric(data, "top1.agreement", "share", [&](const kernels::TokenComparison& t) { return flag(!flipped(t)); }),
          mean_metric(data, "top1.flips", "share", [&](const kernels::TokenComparison& t) { return flag(flipped(t)); }),
          mean_metric(data, "top1.decided_flips.m2", "share",
                      [&](const kernels::TokenComparison& t) {
                        return flag(flipped(t) && t.margin_base > static_cast<float>(std::log(2.0)));
                      }),
          mean_metric(data, "top1.correct_to_wrong", "share",
                      [&](const kernels::TokenComparison& t) { return flag(t.top1_base == t.target && flipped(t)); }),
          mean_metric(data, "top1.wrong_to_correct", "share",
                      [&](const kernels::TokenComparison& t) { return flag(t.top1_test == t.target && flipped(t)); })};
}

}  // namespace qfid::eval
