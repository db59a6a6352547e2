// Which target should ship? Among those whose quality stays within a budget, the fastest or the smallest. Choosing after
// looking is biased: targets are selected on the first half of the windows, and what was selected is confirmed on the
// second. Mixed precisions are proposed apart (proposal.h). Speed has no interval, since a run times each target once.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/experiment/gate_spec.h"
#include "eval/experiment/record.h"

namespace qfid::eval {

enum class Objective : std::uint8_t { speed, memory };

struct Candidate {
  const RunRecord* run = nullptr;
  std::optional<double> tokens_per_second;  ///< forward passes alone; nothing where the run wasn't timed
  std::optional<double> weight_bytes;       ///< `weights.bytes`
  std::vector<GateRecord> selection;        ///< the budget's gates on the first half
  std::vector<GateRecord> confirmation;     ///< on the second half; only of the Pareto front
  bool selected = false;                    ///< every gate passes on the first half
  bool front = false;                       ///< selected, and no other selected one is both faster and smaller
  bool confirmed = false;                   ///< every gate passes on the second half
};

struct Recommendation {
  std::string model;
  int selection_windows = 0, confirmation_windows = 0;
  std::vector<Candidate> candidates;  ///< best first by the objective
  std::optional<std::size_t> choice;  ///< the first confirmed one
};

/// One for each model with a complete baseline. The chance that a choice breaks its budget stays below 1 - confidence of the
/// budget's gates: the front's k members are confirmed at 1 - (1 - confidence) / k each (Bonferroni), on windows that no
/// selection has seen. Error{usage} for a budget that a half of a result can't answer (relative_to: {file}), or that
/// matches nothing.
std::vector<Recommendation> recommend(const ExperimentRecord& record, const std::vector<GateSpec>& budget,
                                      Objective objective);

}  // namespace qfid::eval
