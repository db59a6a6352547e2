// What a simulated target's arm runs on: the model with rounded weights on the arm's backend, and quantizers whose ranges
// calibration has fixed.
#pragma once

#include <memory>
#include <vector>

#include "eval/data/windows.h"
#include "eval/model/decoder.h"
#include "eval/model/simulation.h"

namespace qfid::eval {

class SimulatedModel {
 public:
  /// `calibration`: a batch each, in order. Error{input} when a range isn't finite.
  SimulatedModel(kernels::Backend& backend, const DecoderWeights& weights, const SimulationSpec& spec,
                 const std::vector<Window>& calibration);

  /// A decoder over this model, which must outlive it.
  std::unique_ptr<Decoder> decoder();
  const std::map<std::string, quant::Range>& ranges() const { return simulation_.ranges(); }

 private:
  DecoderWeights weights_;
  DecoderResources resources_;
  Simulation simulation_;
};

}  // namespace qfid::eval
