#include "eval/experiment/recommend.h"

#include <algorithm>
#include <numeric>

#include "eval/experiment/gates.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

template <class T>
std::vector<T> part(const std::vector<T>& all, std::size_t begin, std::size_t end) {
  if (all.empty()) return {};  // sums that the protocol doesn't have
  return {all.begin() + static_cast<std::ptrdiff_t>(begin), all.begin() + static_cast<std::ptrdiff_t>(end)};
}

/// What gates read of a model's runs, on the first or the second half of the windows.
ExperimentRecord half_of(const ExperimentRecord& record, const std::string& model, bool second) {
  ExperimentRecord half;
  half.provenance = record.provenance;
  half.models = record.models;
  for (const RunRecord& run : record.runs) {
    if (run.model != model) continue;
    RunRecord copy;
    copy.model = run.model;
    copy.target = run.target;
    copy.status = run.status;
    copy.message = run.message;
    const WindowSums& w = run.windows;
    const std::size_t n = w.tokens.size(), middle = n / 2, begin = second ? middle : 0, end = second ? n : middle;
    copy.windows = {part(w.tokens, begin, end),
                    part(w.nll, begin, end),
                    part(w.kl, begin, end),
                    part(w.kl_reverse, begin, end),
                    part(w.top1_agree, begin, end),
                    part(w.nmse, begin, end),
                    part(w.cosine_distance, begin, end),
                    part(w.pooled_cosine_distance, begin, end)};
    half.runs.push_back(std::move(copy));
  }
  return half;
}

std::vector<GateRecord> of_target(const std::vector<GateRecord>& gates, const std::string& target) {
  std::vector<GateRecord> own;
  std::copy_if(gates.begin(), gates.end(), std::back_inserter(own), [&](const GateRecord& g) { return g.target == target; });
  return own;
}

bool all_pass(const std::vector<GateRecord>& gates) {
  return !gates.empty() && std::all_of(gates.begin(), gates.end(),
                                       [](const GateRecord& g) { return g.statistics.outcome == GateOutcome::pass; });
}

/// Larger is better; what wasn't measured comes last.
double speed_of(const Candidate& c) { return c.tokens_per_second.value_or(0); }
double smallness_of(const Candidate& c) { return c.weight_bytes ? -*c.weight_bytes : -1e300; }

void mark_front(std::vector<Candidate>& candidates) {
  for (Candidate& c : candidates)
    c.front = c.selected && std::none_of(candidates.begin(), candidates.end(), [&](const Candidate& other) {
                const bool no_worse = speed_of(other) >= speed_of(c) && smallness_of(other) >= smallness_of(c);
                const bool better = speed_of(other) > speed_of(c) || smallness_of(other) > smallness_of(c);
                return other.selected && no_worse && better;
              });
}

Candidate candidate_of(const RunRecord& run, const std::vector<GateRecord>& selection) {
  Candidate c;
  c.run = &run;
  const double tokens = std::accumulate(run.windows.tokens.begin(), run.windows.tokens.end(), 0.0,
                                        [](double sum, std::int64_t n) { return sum + static_cast<double>(n); });
  if (run.seconds > 0) c.tokens_per_second = tokens / run.seconds;
  if (const Metric* bytes = find_metric(run, "weights.bytes")) c.weight_bytes = bytes->value;
  c.selection = of_target(selection, run.target);
  c.selected = all_pass(c.selection);
  return c;
}

std::vector<GateSpec> stricter(std::vector<GateSpec> budget, std::size_t members) {
  for (GateSpec& gate : budget) gate.confidence = 1 - (1 - gate.confidence) / static_cast<double>(members);
  return budget;
}

Recommendation recommend_for(const ExperimentRecord& record, const RunRecord& baseline, const std::vector<GateSpec>& budget,
                             Objective objective) {
  Recommendation r;
  r.model = baseline.model;
  const auto windows = static_cast<int>(baseline.windows.tokens.size());
  r.selection_windows = windows / 2;
  r.confirmation_windows = windows - windows / 2;
  const std::string day = today();
  const std::vector<GateRecord> selection = evaluate_gates(half_of(record, r.model, false), budget, {}, day);
  for (const RunRecord& run : record.runs)
    if (run.model == r.model && run.target != "baseline") r.candidates.push_back(candidate_of(run, selection));
  std::stable_sort(r.candidates.begin(), r.candidates.end(), [&](const Candidate& a, const Candidate& b) {
    return objective == Objective::speed ? speed_of(a) > speed_of(b) : smallness_of(a) > smallness_of(b);
  });
  mark_front(r.candidates);
  const auto members = static_cast<std::size_t>(
      std::count_if(r.candidates.begin(), r.candidates.end(), [](const Candidate& c) { return c.front; }));
  if (members == 0) return r;
  const std::vector<GateRecord> confirmation =
      evaluate_gates(half_of(record, r.model, true), stricter(budget, members), {}, day);
  for (std::size_t i = 0; i < r.candidates.size(); ++i) {
    Candidate& c = r.candidates[i];
    if (!c.front) continue;
    c.confirmation = of_target(confirmation, c.run->target);
    c.confirmed = all_pass(c.confirmation);
    if (c.confirmed && !r.choice) r.choice = i;
  }
  return r;
}

}  // namespace

std::vector<Recommendation> recommend(const ExperimentRecord& record, const std::vector<GateSpec>& budget,
                                      Objective objective) {
  for (const GateSpec& gate : budget) {
    if (!gate.exact.empty())
      throw quant::Error(
          quant::ErrorKind::usage,
          "budget \"" + gate.name + "\" is exact: a change of precision changes every bit, expected a metric");
    if (by_documents(gate_metric(gate.metric)))
      throw quant::Error(quant::ErrorKind::usage, "budget \"" + gate.name + "\": " + gate.metric +
                                                      " goes by documents, which halves of the windows cut; expected "
                                                      "perplexity.ratio or another metric by token");
    if (!gate.relative_written.empty())
      throw quant::Error(quant::ErrorKind::usage, "budget \"" + gate.name +
                                                      "\" is relative to a file, whose sums are of all windows; expected a "
                                                      "budget of the metric itself or relative to a target");
    const bool matched = std::any_of(record.runs.begin(), record.runs.end(), [&](const RunRecord& run) {
      return run.target != "baseline" && matches(gate.models, run.model) && matches(gate.targets, run.target);
    });
    if (!matched)
      throw quant::Error(quant::ErrorKind::usage, "budget \"" + gate.name + "\" matches no run (models " + gate.models +
                                                      ", targets " + gate.targets + ")");
  }
  std::vector<Recommendation> all;
  for (const RunRecord& run : record.runs)
    if (run.target == "baseline" && run.status == RunStatus::ok)
      all.push_back(recommend_for(record, run, budget, objective));
  if (all.empty()) throw quant::Error(quant::ErrorKind::usage, "no model has a complete baseline, nothing to choose from");
  return all;
}

}  // namespace qfid::eval
