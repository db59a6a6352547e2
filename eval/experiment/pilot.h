// Before a long run: the smallest effect that the planned windows can see, from the windows of a short one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/experiment/record.h"
#include "eval/experiment/runner.h"
#include "eval/experiment/spec.h"

namespace qfid::eval {

struct PilotEffect {
  std::string gate, model, target, metric;
  std::int64_t pilot_windows = 0, windows = 0;
  bool factor = false;          ///< `least` is a factor (perplexity.ratio), otherwise a difference
  std::optional<double> least;  ///< what is off a bound by this is shown 8 times of 10; nothing where the pilot can't say
  std::string why_not;
};

/// For every gate of the spec (without gates: perplexity.ratio, kl.mean and top1.agreement at 0.99) and every planned run it
/// is meant for. Error{usage} naming what differs when the pilot has another protocol, context or checkpoint: windows of
/// those aren't alike.
std::vector<PilotEffect> effects_of_pilot(const Spec& spec, const Plan& plan, const ExperimentRecord& pilot,
                                          const std::string& pilot_name);

}  // namespace qfid::eval
