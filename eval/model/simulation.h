// Simulated post-training quantization to W8A8, as the literature on outliers measures it: the model runs in f32, and its
// weights and every intermediate tensor are rounded to 8-bit grids (Bondarenko et al. 2021, arXiv 2109.12948; 2023, arXiv
// 2306.12929, and that paper's code).
//   weights      of every linear, norm (its gamma) and embedding table: one symmetric grid a tensor; unsigned where nothing
//                in it is negative. Biases, gates and the head stay in full precision.
//   activations  one affine uint8 grid a site, with a range that calibration fixes: the running mean (0.9 old, 0.1 new) of
//                each batch's minimum and maximum, or of two percentiles. A batch is one calibration window; batches run
//                through the whole network with the quantizers on, so that a site sees what the sites before it left.
//   sites        embedding sums; outputs of every linear (fc1's behind its activation) and norm; scores before the mask;
//                probabilities; context (a decoder's before an output-site gate, an encoder's behind it, as the paper's
//                code has them); residual sums.
// Quantizers and attention run in host memory, whatever the backend. Left out: Lp ranges, other widths than 8, batches of
// several windows.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "eval/model/decoder_weights.h"
#include "eval/model/precision.h"
#include "kernels/backend.h"

namespace qfid::eval {

/// A copy of the weights, rounded; the head's are the originals. `mse`: the range absmax i / 100 of least error.
DecoderWeights simulated_weights(const DecoderWeights& weights, const SimulationSpec& spec);

class Simulation {
 public:
  Simulation(kernels::Backend& backend, const SimulationSpec& spec) : backend_(backend), spec_(spec) {}

  /// While estimating, a site's range takes in what it sees before it is used; otherwise it stays as it is.
  void estimate(bool on) { estimating_ = on; }
  /// x of any shape, rounded to the site's grid. Error{internal} for a site without a range.
  kernels::DeviceTensor at(const std::string& site, const kernels::DeviceTensor& x);
  /// Attention of a problem of full precision, its scores, probabilities and context rounded; taps hear probabilities before
  /// rounding, gates and gated values. `prefix`: "layers.3.".
  kernels::AttentionResult attention(const std::string& prefix, const kernels::AttentionProblem& problem,
                                     const kernels::AttentionInputs& inputs, kernels::TapSink* taps);
  /// The range of each site.
  const std::map<std::string, quant::Range>& ranges() const { return ranges_; }

 private:
  void round(const std::string& site, quant::View<float> x);

  kernels::Backend& backend_;
  SimulationSpec spec_;
  bool estimating_ = false;
  std::map<std::string, quant::Range> ranges_;
};

}  // namespace qfid::eval
