#include "eval/metrics/error_budget.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "eval/metrics/interval.h"

namespace qfid::eval {

namespace {

using Sums = std::vector<double>;

Metric share_of(std::string name, const Sums& part, const Sums& whole, double confidence) {
  Metric metric{std::move(name), std::nullopt, std::nullopt, "share", ""};
  if (!(std::accumulate(whole.begin(), whole.end(), 0.0) > 0)) {
    metric.note = "the whole has no KL to share out";
    return metric;
  }
  const ClusteredMean ratio = clustered_ratio(part, whole, confidence);
  metric.value = ratio.mean;
  metric.ci = ratio.interval;
  if (!ratio.interval) metric.note = "fewer than " + std::to_string(min_windows_for_interval) + " windows: no interval";
  return metric;
}

Sums difference(const Sums& a, const Sums& b) {
  Sums all;
  std::transform(a.begin(), a.end(), b.begin(), std::back_inserter(all), std::minus<>());
  return all;
}

void add(Sums& into, const Sums& from) {
  std::transform(into.begin(), into.end(), from.begin(), into.begin(), std::plus<>());
}

void compute_group(BudgetGroup& group, const std::string& name, const Sums& whole, double confidence) {
  Sums alone(whole.size()), without(whole.size());
  for (BudgetEntry& entry : group.entries) {
    const Sums saved = difference(whole, entry.without_kl);
    entry.alone = share_of("budget.alone." + entry.name, entry.alone_kl, whole, confidence);
    entry.without = share_of("budget.without." + entry.name, saved, whole, confidence);
    add(alone, entry.alone_kl);
    add(without, saved);
  }
  group.alone = share_of("budget." + name + ".alone", alone, whole, confidence);
  group.without = share_of("budget." + name + ".without", without, whole, confidence);
}

}  // namespace

void compute_shares(ErrorBudget& budget, double confidence) {
  const ClusteredMean mean = clustered_mean(budget.whole_kl, budget.tokens, confidence);
  budget.whole = {"budget.kl", mean.mean, mean.interval, "nats", ""};
  if (!mean.interval) budget.whole.note = "fewer than " + std::to_string(min_windows_for_interval) + " windows: no interval";
  compute_group(budget.parts, "parts", budget.whole_kl, confidence);
  compute_group(budget.layers, "layers", budget.whole_kl, confidence);
}

std::vector<Metric> budget_metrics(const ErrorBudget& budget) {
  std::vector<Metric> all{budget.whole};
  for (const BudgetGroup* group : {&budget.parts, &budget.layers}) {
    all.push_back(group->alone);
    all.push_back(group->without);
    for (const BudgetEntry& entry : group->entries) {
      all.push_back(entry.alone);
      all.push_back(entry.without);
    }
  }
  return all;
}

}  // namespace qfid::eval
