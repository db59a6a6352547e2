// The noise floor of a gated metric: how far rounding noise of other arithmetic, or another backend, moves it in full
// precision, where nothing is wrong. A bound below that tells nothing about a target: it is a mistake in the configuration.
// Free-running runs of two devices differ by this much, and that is no one's fault.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/experiment/gates.h"
#include "eval/experiment/record.h"

namespace qfid::eval {

struct NoiseFloor {
  double distance = 0;  ///< from where nothing happened, on the scale on which gates work (ln of ratios)
  double shown = 0;     ///< the value that far on the bad side, on the metric's own scale
  std::string source;   ///< which noise reaches so far
};
/// The farthest that any noise of this model moves the metric: the farther end of its interval, or its value below 16
/// windows. Nothing where no floor was measured.
std::optional<NoiseFloor> noise_floor(const ExperimentRecord& record, const std::string& model, const GateMetric& metric);

/// Whether a bound lies within the floor. Gates that compare with another result are never: what noise does to a difference
/// of two targets isn't measured.
bool within_noise(const GateSpec& gate, const NoiseFloor& floor);

/// Error{usage}, a line for each gate and model, when bounds lie within the floor.
void require_above_noise(const ExperimentRecord& record, const std::vector<GateSpec>& gates);

}  // namespace qfid::eval
