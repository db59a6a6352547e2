// Gates of an experiment: specs and a record in, verdicts out. Nothing is run; the statistics are eval/metrics/gate.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "eval/experiment/record.h"
#include "eval/experiment/saved_baseline.h"
#include "eval/experiment/spec.h"

namespace qfid::eval {

/// What a gated mean is by. Words and bytes: of text, where documents are the units that vary (protocol lmeval).
enum class GateUnit : std::uint8_t { token, word, byte, window };

/// A metric that can be gated: a mean over tokens whose window sums a record holds, or the same sums by unit of text.
struct GateMetric {
  std::string_view name;
  std::string_view sums;  ///< what is summed, as saved baselines name it: perplexity.ratio is exp of mean nll.difference
  SumKind kind;
  bool exponential;  ///< the metric is exp of the mean: gates work on the logarithm
  GateUnit unit = GateUnit::token;
  double scale = 1;  ///< of the sums, before the mean is taken
};
/// Whether it is by words or bytes of documents.
inline bool by_documents(const GateMetric& metric) { return metric.unit == GateUnit::word || metric.unit == GateUnit::byte; }
/// Whether it is of hidden states (protocol hidden); of scored tokens otherwise.
inline bool of_hidden_states(const GateMetric& metric) { return metric.sums.starts_with("hidden."); }
const std::vector<GateMetric>& gate_metrics();
/// Error{internal} for an unknown name (the key table has checked it).
const GateMetric& gate_metric(std::string_view name);

/// Whether the gate is meant for this target of this model: patterns match, and it isn't what the gate compares with.
bool concerns(const GateSpec& gate, const std::string& model, const std::string& target);
/// What the sums that the gate tests are: paired differences of counts where it is relative.
SumKind sum_kind(const GateSpec& gate);

/// Window sums of a metric of one run, paired with its model's baseline. Windows must match.
std::vector<double> gate_sums(const RunRecord& run, const RunRecord& baseline, const GateMetric& metric);

/// What a gate tests: a sum and a count of each window, or of each document.
struct GateUnits {
  std::vector<double> sums;
  std::vector<std::int64_t> counts;
};
/// Window sums of a run by the metric's unit. Nothing where a metric of text finds no documents whose windows these are.
std::optional<GateUnits> by_unit(const RunRecord& run, const GateMetric& metric, std::vector<double> window_sums);

/// Every gate on every model and target of the record that it matches, in order, with Holm's correction over all of them.
/// `saved` holds what load_baselines found. Error{usage} when a saved baseline isn't of the same data. A gate that matches
/// nothing gives no record.
std::vector<GateRecord> evaluate_gates(const ExperimentRecord& record, const std::vector<GateSpec>& gates,
                                       const SavedBaselines& saved, const std::string& day);

}  // namespace qfid::eval
