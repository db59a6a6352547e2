// In which formats a decoder's modules run, module by module: what a precision target means for one model.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernels/attention.h"

namespace qfid::eval {

/// What a linear runs in. Absent schemes are f32.
struct LinearSchemes {
  quant::QuantScheme weights, activations;
  friend bool operator==(const LinearSchemes&, const LinearSchemes&) = default;
};

/// How products run, beside their schemes.
struct Execution {
  kernels::ExecutionMode mode = kernels::ExecutionMode::real;
  bool fast_accum = false;  ///< FP8 products on a GPU
};

/// Simulated W8A8 (simulation.h).
struct SimulationSpec {
  bool mse_weights = false;          ///< weights' ranges: of least squared error instead of the largest magnitude
  std::optional<double> percentile;  ///< activations' ranges: of this percentile and 100 less it; absent = the extremes
  double momentum = 0.9;             ///< what a batch's range leaves of the one before
};

struct DecoderPrecision {
  struct Layer {
    LinearSchemes q_proj, k_proj, v_proj, out_proj, fc1, fc2, gate_proj;
    kernels::AttentionSchemes attention;
    friend bool operator==(const Layer&, const Layer&) = default;
  };
  std::vector<Layer> layers;
  LinearSchemes lm_head, head_dense;  ///< head_dense: an encoder's
  kernels::ExecutionMode mode = kernels::ExecutionMode::real;
  bool fast_accum = false;
  Execution execution() const { return {mode, fast_accum}; }
};

/// Static ranges by site: "layers.3.fc1" (a linear's input), "layers.3.attention.q" (also .k, .v, .output), "lm_head",
/// "head_dense".
using SiteRanges = std::map<std::string, std::vector<quant::Range>>;

}  // namespace qfid::eval
