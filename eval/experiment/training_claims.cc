#include "eval/experiment/training_claims.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace qfid::eval {

namespace {

TrainingVerdict verdict_of(const TrainingBound& bound, const Metric& metric) {
  const Interval around = metric.ci.value_or(Interval{*metric.value, *metric.value});
  const bool kept = bound.below ? around.high < bound.bound : around.low > bound.bound;
  const bool missed = bound.below ? !(around.low < bound.bound) : !(around.high > bound.bound);
  return kept ? TrainingVerdict::reproduced : missed ? TrainingVerdict::not_reproduced : TrainingVerdict::undecided;
}

}  // namespace

std::vector<Training> trainings(const ExperimentRecord& record) {
  std::vector<Training> all;
  for (const ModelRecord& model : record.models) {
    if (!model.step || !model.seed) continue;
    auto at = std::find_if(all.begin(), all.end(),
                           [&](const Training& t) { return t.group == model.group && t.seed == *model.seed; });
    if (at == all.end()) at = all.insert(all.end(), {model.group, *model.seed, {}});
    at->checkpoints.push_back(&model);
  }
  for (Training& training : all)
    std::stable_sort(training.checkpoints.begin(), training.checkpoints.end(),
                     [](const ModelRecord* a, const ModelRecord* b) { return *a->step < *b->step; });
  return all;
}

std::vector<std::pair<std::int64_t, double>> over_steps(const ExperimentRecord& record, const Training& training,
                                                        const std::string& target, const std::string& name) {
  std::vector<std::pair<std::int64_t, double>> points;
  for (const ModelRecord* model : training.checkpoints) {
    const RunRecord* run = record.find(model->name, target);
    const Metric* metric = run == nullptr || run->status != RunStatus::ok ? nullptr : find_metric(*run, name);
    if (metric != nullptr && metric->value && std::isfinite(*metric->value))
      points.emplace_back(*model->step, *metric->value);
  }
  return points;
}

const std::vector<TrainingBound>& training_bounds() {
  static const std::vector<TrainingBound> all{
      {"backcopy.excess_risk.bigram", "excess risk, bigram part", "Excess, bigram", true, 0.01},
      {"backcopy.excess_risk.copy", "excess risk, copy part", "Excess, copy", true, 0.01},
      {"backcopy.attention_to_first.bigram", "attention to <s>, non-trigger queries", "Attention to <s>", false, 0.8},
      {"backcopy.value_norm.ratio", "\xE2\x80\x96v\xE2\x80\x96 of <s> over the others'", "\xE2\x80\x96v\xE2\x80\x96 ratio",
       true, 0.1},
      {"backcopy.gated_value_norm.ratio", "\xE2\x80\x96g\xC2\xB7v\xE2\x80\x96 of <s> over the others'",
       "\xE2\x80\x96g\xC2\xB7v\xE2\x80\x96 ratio", true, 0.1}};
  return all;
}

std::vector<TrainingClaim> training_claims(const ExperimentRecord& record, const Training& training,
                                           const std::string& target) {
  std::vector<TrainingClaim> all;
  const RunRecord* last = record.find(training.checkpoints.back()->name, target);
  for (const TrainingBound& bound : training_bounds()) {
    TrainingClaim& claim = all.emplace_back();
    claim.bound = &bound;
    const Metric* metric = last == nullptr ? nullptr : find_metric(*last, bound.metric);
    if (metric == nullptr || !metric->value || !std::isfinite(*metric->value)) continue;
    claim.value = metric->value;
    claim.verdict = verdict_of(bound, *metric);
    const auto points = over_steps(record, training, target, bound.metric);
    for (std::size_t i = points.size(); i-- > 0;) {
      if (bound.below ? !(points[i].second < bound.bound) : !(points[i].second > bound.bound)) break;
      claim.since = points[i].first;
    }
  }
  return all;
}

bool has_trainings(const ExperimentRecord& record) {
  return std::any_of(record.models.begin(), record.models.end(), [](const ModelRecord& m) { return m.step && m.seed; });
}

ExperimentRecord without_earlier_checkpoints(const ExperimentRecord& record) {
  std::set<std::string> earlier;
  for (const Training& training : trainings(record))
    for (std::size_t i = 0; i + 1 < training.checkpoints.size(); ++i) earlier.insert(training.checkpoints[i]->name);
  ExperimentRecord kept = record;
  const auto drop = [&](auto& list, auto&& name_of) {
    std::erase_if(list, [&](const auto& entry) { return earlier.contains(name_of(entry)); });
  };
  const auto by_model = [](const auto& entry) -> const std::string& { return entry.model; };
  drop(kept.models, [](const ModelRecord& m) -> const std::string& { return m.name; });
  drop(kept.runs, by_model);
  drop(kept.pairs, by_model);
  drop(kept.attention, by_model);
  drop(kept.budgets, by_model);
  drop(kept.noise, by_model);
  drop(kept.interventions, by_model);
  return kept;  // gates stay: every one counts
}

}  // namespace qfid::eval
