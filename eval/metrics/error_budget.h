// Where a target's KL comes from: shares of its parts (operands, linears, layers). Each part is quantized alone, and
// everything but the part is; both are KL(baseline||.) over the same windows, so a share is a ratio of two sums and has the
// interval of one (interval.h). Shares need not add up, and by how much they miss 1 is part of the answer: alone above 1 and
// without below 1 means that errors partly cancel or saturate, the other way round that they feed each other.
#pragma once

#include <string>
#include <vector>

#include "eval/metrics/metric.h"

namespace qfid::eval {

/// One part: "q", "k", "p", "v", "scores", "output" of attention, a linear's role ("fc1", "lm_head", ...) over all layers,
/// or all of one layer ("layers.3").
struct BudgetEntry {
  std::string name;
  std::vector<double> alone_kl, without_kl;  ///< sums of each window, nats: the part alone; everything but the part
  Metric alone;                              ///< share: KL(part alone) / KL(whole)
  Metric without;  ///< share: (KL(whole) - KL(all but the part)) / KL(whole), what leaving the part in f32 saves
};

struct BudgetGroup {
  std::vector<BudgetEntry> entries;
  Metric alone, without;  ///< sums of the entries' shares: 1 when they add up
};

struct ErrorBudget {
  std::string model, target;
  std::string backend;               ///< where the arms ran, in mode emulated
  std::vector<std::int64_t> tokens;  ///< of each window
  std::vector<double> whole_kl;      ///< sums of each window, nats: everything quantized
  Metric whole;                      ///< mean over tokens, nats
  BudgetGroup parts, layers;
};

/// Fills whole, every share and the sums from the window sums. Without any KL to share out the shares are null.
void compute_shares(ErrorBudget& budget, double confidence);

/// Every number of a budget by name: "budget.kl", "budget.alone.q", "budget.without.layers.3", "budget.parts.alone", ...
std::vector<Metric> budget_metrics(const ErrorBudget& budget);

}  // namespace qfid::eval
