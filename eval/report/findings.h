// What a record says, before anyone words it: which targets pass, in which order to show them, where damage is worst.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/experiment/record.h"
#include "eval/metrics/blame.h"

namespace qfid::eval {

/// Whether a target may ship, as far as its gates say. Worst first.
enum class Shipping : std::uint8_t { blocked, unmeasured, undecided, ungated, passes };
/// "blocked", "not measured", "undecided", "no gate", "may ship".
std::string_view to_string(Shipping shipping);

struct TargetFinding {
  const RunRecord* run = nullptr;
  Shipping shipping = Shipping::ungated;
  std::vector<const GateRecord*> gates;

  /// Gates that didn't pass and yet don't block: expected failures and warnings.
  std::vector<const GateRecord*> excused() const;
};
/// The targets of a model without its baseline: by shipping, then by mean KL, the largest first.
std::vector<TargetFinding> worst_first(const ExperimentRecord& record, const std::string& model);

/// A place in a layer and how bad it is there.
struct Place {
  int layer = 0, head = -1;
  std::string tap;
  double sqnr_db = 0;
};
/// "layer 2, head 1, v: 24.7 dB"
std::string in_words(const Place& place);
/// The least SQNR over layers, taps and, where a tap has them, single heads; nothing when every row is exact or absent.
std::optional<Place> worst_place(const RunRecord& run, const std::string& error);

/// Where a run's damage sits, whose it is, and whether its kernel is suspect: by the limits of its backend.
Blame blame_of(const RunRecord& run);
/// "the format's", "the kernel's", "format or kernel not told apart".
std::string whose_in_words(const RunRecord& run, const Blame& blame);
/// "layer 2, head 1, v: 24.7 dB, the format's"; empty when no local error was measured, or none was found.
std::string damage_in_words(const RunRecord& run);
/// Where and why a run's kernel is suspect; empty when it isn't, or no twin ran.
std::string kernel_suspicion(const RunRecord& run);
/// One sentence: is the damage the format's or the kernel's? Empty when no target of the model had a twin.
std::string format_or_kernel(const ExperimentRecord& record, const std::string& model);

/// Forward time over the baseline's; nothing when either wasn't measured.
std::optional<double> time_ratio(const ExperimentRecord& record, const RunRecord& run);

/// "a", "a and b", "a, b and c".
std::string listed(const std::vector<std::string>& names);

/// How often a per-layer column exists: layers and heads of one model's rows.
struct LayerGrid {
  int layers = 0, heads = 0;
};
LayerGrid layer_grid(const ExperimentRecord& record, const std::string& model);

}  // namespace qfid::eval
