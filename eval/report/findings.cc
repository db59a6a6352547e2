#include "eval/report/findings.h"

#include <algorithm>
#include <format>

#include "eval/report/format.h"

namespace qfid::eval {

namespace {

/// A pass needs a gate, and every gate; a fail outweighs a doubt.
Shipping shipping_of(const TargetFinding& finding) {
  if (finding.run->metrics.empty()) return Shipping::unmeasured;
  if (finding.gates.empty()) return Shipping::ungated;
  bool doubt = false;
  for (const GateRecord* gate : finding.gates) {
    if (!gate->blocks()) continue;
    if (gate->verdict != GateVerdict::inconclusive) return Shipping::blocked;
    doubt = true;
  }
  return doubt ? Shipping::undecided : Shipping::passes;
}

double damage(const RunRecord& run) {
  const Metric* kl = find_metric(run, "kl.mean");
  return kl != nullptr && kl->value ? *kl->value : 0;
}

}  // namespace

std::vector<const GateRecord*> TargetFinding::excused() const {
  std::vector<const GateRecord*> found;
  for (const GateRecord* gate : gates)
    if (!gate->blocks() && gate->verdict != GateVerdict::pass) found.push_back(gate);
  return found;
}

std::string_view to_string(Shipping shipping) {
  constexpr std::string_view names[] = {"blocked", "not measured", "undecided", "no gate", "may ship"};
  return names[static_cast<int>(shipping)];
}

std::vector<TargetFinding> worst_first(const ExperimentRecord& record, const std::string& model) {
  std::vector<TargetFinding> all;
  for (const RunRecord& run : record.runs) {
    if (run.model != model || run.target == "baseline") continue;
    TargetFinding finding{&run, Shipping::ungated, {}};
    for (const GateRecord& gate : record.gates)
      if (gate.model == model && gate.target == run.target) finding.gates.push_back(&gate);
    finding.shipping = shipping_of(finding);
    all.push_back(std::move(finding));
  }
  std::stable_sort(all.begin(), all.end(), [](const TargetFinding& a, const TargetFinding& b) {
    return a.shipping != b.shipping ? a.shipping < b.shipping : damage(*a.run) > damage(*b.run);
  });
  return all;
}

std::string in_words(const Place& place) {
  return std::format("layer {}, {}{}: {:.1f} dB", place.layer, place.head == -1 ? "" : std::format("head {}, ", place.head),
                     place.tap, place.sqnr_db);
}

std::optional<Place> worst_place(const RunRecord& run, const std::string& error) {
  std::optional<Place> worst;
  for (const LayerRow& row : run.layers) {
    if (row.error != error) continue;
    const std::optional<double> sqnr = column(row, "sqnr_db");
    if (sqnr && std::isfinite(*sqnr) && (!worst || *sqnr < worst->sqnr_db))
      worst = Place{row.layer, row.head, row.tap, *sqnr};
  }
  return worst;
}

std::optional<double> time_ratio(const ExperimentRecord& record, const RunRecord& run) {
  const RunRecord* base = record.find(run.model, "baseline");
  if (base == nullptr || !(base->seconds > 0) || !(run.seconds > 0)) return std::nullopt;
  return run.seconds / base->seconds;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return text;
}

LayerGrid layer_grid(const ExperimentRecord& record, const std::string& model) {
  LayerGrid grid;
  for (const RunRecord& run : record.runs) {
    if (run.model != model) continue;
    for (const LayerRow& row : run.layers) {
      grid.layers = std::max(grid.layers, row.layer + 1);
      grid.heads = std::max(grid.heads, row.head + 1);
    }
  }
  return grid;
}

}  // namespace qfid::eval
