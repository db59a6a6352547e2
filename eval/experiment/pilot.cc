#include "eval/experiment/pilot.h"

#include <cmath>
#include <format>

#include "eval/experiment/gates.h"
#include "eval/experiment/session.h"
#include "eval/metrics/interval.h"
#include "eval/model/checkpoint.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

std::vector<GateSpec> gates_or_usual(const Spec& spec) {
  if (!spec.gates.empty()) return spec.gates;
  std::vector<GateSpec> usual;
  const std::vector<const char*> metrics =
      spec.data.protocol == Protocol::hidden
          ? std::vector{"hidden.nmse.mean", "hidden.cosine_distance.mean", "hidden.pooled.cosine_distance.mean"}
          : std::vector{"perplexity.ratio", "kl.mean", "top1.agreement"};
  for (const char* metric : metrics) {
    GateSpec gate;
    gate.name = gate.metric = metric;
    usual.push_back(gate);
  }
  return usual;
}

void require_alike(const Spec& spec, const ExperimentRecord& pilot, const std::string& name) {
  const auto refuse = [&](const std::string& what) {
    throw quant::Error(quant::ErrorKind::usage, "pilot " + name + " says nothing about this plan: " + what);
  };
  const std::string protocol = spec.data.protocol_spelling();
  if (pilot.provenance.protocol != protocol)
    refuse("the protocol differs (" + pilot.provenance.protocol + ", planned " + protocol + ")");
  const Corpus corpus = load_corpus(spec.data);
  for (const ModelSpec& model : spec.models) {
    const EvaluationSize size = evaluation_size(spec, read_config(model.path), corpus);
    for (const ModelRecord& other : pilot.models) {
      if (other.name != model.name) continue;
      const std::string hash = Checkpoint::open(model.path).content_hash();
      if (other.content_hash != hash)
        refuse("the checkpoint of model " + model.name + " differs (" + other.content_hash + ", planned " + hash + ")");
      if (pilot.models.size() == 1 && pilot.provenance.context != size.context)
        refuse(std::format("the context differs ({}, planned {})", pilot.provenance.context, size.context));
    }
  }
}

/// Window sums of what the gate bounds, or why there are none.
std::string sums_for(const ExperimentRecord& pilot, const RunRecord& run, const GateSpec& gate, std::vector<double>& sums) {
  if (!gate.exact.empty()) return "exact: one bit is enough";
  if (by_documents(gate_metric(gate.metric))) return "its units are documents, a plan counts windows";
  if (!gate.relative_written.empty()) return "relative to a file: the change isn't in the pilot";
  const RunRecord* baseline = pilot.find(run.model, "baseline");
  if (baseline == nullptr || run.status != RunStatus::ok) return "the pilot's run isn't complete";
  const GateMetric& metric = gate_metric(gate.metric);
  if (of_hidden_states(metric) == run.windows.nmse.empty()) return "the pilot has no " + gate.metric;
  sums = gate_sums(run, *baseline, metric);
  if (gate.relative_target.empty()) return "";
  const RunRecord* other = pilot.find(run.model, gate.relative_target);
  if (other == nullptr || other->status != RunStatus::ok) return "the pilot has no complete " + gate.relative_target;
  const std::vector<double> less = gate_sums(*other, *baseline, metric);
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] -= less[i];
  return "";
}

PilotEffect effect_of(const GateSpec& gate, const PlannedRun& planned, const ExperimentRecord& pilot, std::size_t tests) {
  PilotEffect effect{gate.name, planned.model, planned.target, gate.metric, 0, planned.windows, false, {}, ""};
  const RunRecord* run = pilot.find(planned.model, planned.target);
  if (run == nullptr) {
    effect.why_not = "the pilot has no such run";
    return effect;
  }
  std::vector<double> sums;
  effect.why_not = sums_for(pilot, *run, gate, sums);
  effect.pilot_windows = static_cast<std::int64_t>(run->windows.tokens.size());
  if (effect.why_not.empty() && std::min(effect.pilot_windows, planned.windows) < min_windows_for_interval)
    effect.why_not = std::format("pilot and plan need {} windows or more", min_windows_for_interval);
  if (!effect.why_not.empty()) return effect;
  const GateMetric& metric = gate_metric(gate.metric);
  const GateUnits units = *by_unit(*run, metric, std::move(sums));  // those of documents have been left out
  const double least = detectable_difference(units.sums, units.counts, sum_kind(gate), gate.confidence, planned.windows,
                                             resamples_for(tests, gate.confidence));
  effect.factor = metric.exponential;
  effect.least = metric.exponential ? std::exp(least) : least;
  return effect;
}

}  // namespace

std::vector<PilotEffect> effects_of_pilot(const Spec& spec, const Plan& plan, const ExperimentRecord& pilot,
                                          const std::string& pilot_name) {
  require_alike(spec, pilot, pilot_name);
  std::vector<std::pair<GateSpec, const PlannedRun*>> pairs;
  for (const GateSpec& gate : gates_or_usual(spec))
    for (const PlannedRun& run : plan.runs)
      if (concerns(gate, run.model, run.target)) pairs.emplace_back(gate, &run);
  std::vector<PilotEffect> effects;
  for (const auto& [gate, run] : pairs) effects.push_back(effect_of(gate, *run, pilot, pairs.size()));
  return effects;
}

}  // namespace qfid::eval
