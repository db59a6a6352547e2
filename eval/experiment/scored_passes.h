// Passes that only score: no tensor of theirs is measured, and a window goes through alone, changed and unchanged.
#pragma once

#include <functional>
#include <optional>

#include "eval/experiment/chunk.h"
#include "eval/experiment/scored_change.h"
#include "eval/experiment/session.h"
#include "eval/metrics/token_metrics.h"
#include "eval/model/decoder.h"

namespace qfid::eval {

/// The windows of a pass and who is told of each that is done; false stops the pass.
struct ScoredWindows {
  const std::vector<Window>& windows;
  std::size_t count;
  double confidence;
  const std::vector<ScoredDocument>& documents;
  std::function<bool(std::size_t done)> done;
};

/// What noise alone does to full precision: module outputs off by 2^-9 (ModuleNoise, seed 2026), and, with a `twin`, the
/// same model on another backend. Nothing when stopped. Error{input} for logits that aren't finite.
std::optional<std::vector<ScoredChange>> measure_noise(const std::string& model, Decoder& baseline, Decoder* twin,
                                                       const ScoredWindows& windows);

/// Interventions by name ("mask_key_0", "zero_v_0", "gate_one", "gate_mean") on one run. Those of gates say that there are
/// none where `gate_means` (mean_gates of the full-precision run) is empty.
std::optional<std::vector<ScoredChange>> measure_interventions(const std::vector<std::string>& names,
                                                               const std::string& model, const std::string& target,
                                                               Decoder& decoder, bool causal,
                                                               const std::vector<std::vector<double>>& gate_means,
                                                               const ScoredWindows& windows);

/// [layer][gate]: the mean gate over all positions of the windows; empty for a model without gates.
std::vector<std::vector<double>> mean_gates(const ModelConfig& config, Decoder& baseline, const ScoredWindows& windows);

/// The backend on which the noise floor's twin runs: another one that is here, devices first; null when there is none.
kernels::Backend* noise_twin(Backends& backends, const TargetSpec& baseline);

}  // namespace qfid::eval
