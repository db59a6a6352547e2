#include "eval/report/findings.h"

#include <algorithm>
#include <cmath>
#include <format>

#include "eval/report/format.h"
#include "eval/report/quality.h"

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

double damage(const Quality& quality, const RunRecord& run) {
  const Metric* distance = find_metric(run, quality.distance.metric);
  return distance != nullptr && distance->value ? *distance->value : 0;
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
  const Quality& quality = quality_of(record);
  std::stable_sort(all.begin(), all.end(), [&](const TargetFinding& a, const TargetFinding& b) {
    return a.shipping != b.shipping ? a.shipping < b.shipping : damage(quality, *a.run) > damage(quality, *b.run);
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

namespace {

/// Tensor cores' sums of FP8 and bf16 are narrower than f32; nothing else is.
KernelLimits limits_of(const RunRecord& run) {
  const auto has = [&](const char* format) { return run.description.find(format) != std::string::npos; };
  return run.backend == "gpu" && (has("e4m3") || has("e5m2") || has("bf16")) ? narrow_accumulator : KernelLimits{};
}

/// What a note says behind its last colon.
std::string place_of(const Metric& metric) {
  const std::size_t colon = metric.note.rfind(": ");
  return colon == std::string::npos ? metric.note : metric.note.substr(colon + 2);
}

std::string place_in_words(const BlamedPlace& place) {
  std::string text = place.layer == -1 ? "every layer" : std::format("layer {}", place.layer);
  if (place.head != -1) text += std::format(", head {}", place.head);
  return text + ", " + place.tap;
}

}  // namespace

Blame blame_of(const RunRecord& run) { return blame(run.layers, limits_of(run)); }

std::string whose_in_words(const RunRecord& run, const Blame& blame) {
  if (run.mode == "emulated" || blame.party == Party::format) return "the format's";
  return blame.party == Party::kernel ? "the kernel's" : "format or kernel not told apart";
}

std::string damage_in_words(const RunRecord& run) {
  const Blame found = blame_of(run);
  if (!found.damage) return "";
  const std::optional<double> sqnr = found.damage->sqnr_db;
  const std::string how_bad = sqnr && std::isfinite(*sqnr) ? std::format("{:.1f} dB", *sqnr) : "NaN";
  return std::format("{}: {}, {}", place_in_words(*found.damage), how_bad, whose_in_words(run, found));
}

std::string kernel_suspicion(const RunRecord& run) {
  const Blame found = blame_of(run);
  if (found.kernel) {
    const BlamedPlace& at = *found.kernel;
    return std::format(
        "{} against the emulated twin, fed the same inputs: {}{:.2g} times the limit; {} of {} places are beyond",
        place_in_words(at),
        at.tap == "probs"     ? std::format("KL {:.2g} nats, ", at.kl.value_or(0))
        : at.tap == "p_codes" ? std::format("{:.0f} % of its codes are others, ", 100 * at.histogram_distance.value_or(0))
                              : std::format("gain {:.6g}, NMSE {:.2g}, ", at.gain.value_or(0), at.nmse.value_or(0)),
        at.beyond, at.places, at.of);
  }
  const Metric* deviation = find_metric(run, "kernel.gain.deviation.max");
  if (deviation == nullptr || !deviation->value || *deviation->value <= kernel_gain_limit) return "";
  return std::format("{}: its gain against the emulated twin, fed the same inputs, is off by {:.1e} (limit {:.0e})",
                     place_of(*deviation), *deviation->value, kernel_gain_limit);
}

std::string format_or_kernel(const ExperimentRecord& record, const std::string& model) {
  const RunRecord* worst = nullptr;
  const Metric* deviation = nullptr;
  double share = 0;
  std::string suspects;
  for (const RunRecord& run : record.runs) {
    const Metric* found = find_metric(run, "kernel.gain.deviation.max");
    if (run.model != model || found == nullptr) continue;
    if (const std::string why = kernel_suspicion(run); !why.empty())
      suspects += (suspects.empty() ? "" : "; of ") + run.target + ": " + why;
    if (const Metric* part = find_metric(run, "kernel.damage.share.max")) share = std::max(share, part->value.value_or(0));
    if (deviation == nullptr || found->value > deviation->value) {
      worst = &run;
      deviation = found;
    }
  }
  if (!suspects.empty()) return "format or kernel: suspect the KERNEL of " + suspects;
  if (worst == nullptr) return "";
  return std::format(
      "format or kernel: the format. Fed the same inputs, real kernels keep the emulated ones' gain to {:.1e} ({}), and add "
      "at most {:.2g} % to the format's error",
      deviation->value.value_or(0), worst->target + ", " + place_of(*deviation), 100 * share);
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
