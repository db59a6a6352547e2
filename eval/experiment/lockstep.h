// One model, all arms, chunk by chunk: the baseline's layer l, then each target's layer l on its own hidden state
// (cumulative) and, on the first local_windows windows, on the baseline's inputs (local); taps are compared and freed before
// layer l + 1. A target that fails drops out with its message; the others go on.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "eval/experiment/arm.h"
#include "eval/experiment/chunk.h"

namespace qfid::eval {

class Lockstep {
 public:
  /// `task`: what the data itself says of every window, where it is bigram-backcopy; else null.
  Lockstep(const DecoderWeights& weights, const MetricsSpec& metrics, Protocol protocol, Arm& baseline,
           std::vector<Arm>& arms, const std::vector<BackcopyWindow>* task)
      : weights_(weights),
        config_(weights.config),
        metrics_(metrics),
        hidden_states_(protocol == Protocol::hidden),
        baseline_(baseline),
        arms_(arms),
        task_(task) {}

  /// `running`: those of the arms that take part. What goes wrong in a target is recorded in its arm. The baseline's errors
  /// are thrown, but for logits that aren't finite: its arm is dead afterwards.
  void run(const Chunk& chunk, std::vector<std::reference_wrapper<Arm>> running);

 private:
  struct Sample {
    std::int64_t windows, attention, local, kernel;
    std::int64_t first;
  };  ///< of this chunk: all, with attention taps, with local errors, with the emulated twin; its first window's number
  struct BaselineLayer {
    LayerTrace trace;
    kernels::DeviceTensor probs, gate, v_gated;
  };

  static void embed(Arm& arm, const quant::Tensor& ids);
  void run_layer(int l, const Sample& sample);
  void run_arm_layer(int l, Arm& arm, const BaselineLayer& base, const Sample& sample);
  struct PlacedTensor {
    int layer;
    const char* tap;
    kernels::DeviceTensor tensor;
  };
  /// Statistics of taps' rows; `first`: the tensors' first window.
  static void add_rows(Arm& arm, std::int64_t first, const std::vector<PlacedTensor>& tensors);
  void measure_self(int l, Arm& arm, const LayerTrace& trace, const TapCollector& taps, const Sample& sample);
  // On samples of windows (lockstep_samples.cc).
  void sample_self(int l, Arm& arm, const LayerTrace& trace, const TapCollector& taps, const Sample& sample);
  void sample_backcopy(Arm& arm, const LayerTrace& trace, const TapCollector& taps, const Sample& sample);
  void add_sketches(int l, Arm& arm, const kernels::DeviceTensor& probs);
  /// P before and after coding against the baseline's probabilities, all on `on`; `taps` are of `arm`'s schemes. Returns the
  /// coded weights; undefined where attention is f32.
  kernels::DeviceTensor compare_probabilities(int l, Arm& arm, kernels::Backend& on, const std::string& error,
                                              const kernels::DeviceTensor& base, const TapCollector& taps);
  /// Attention's local error in P's and V's parts.
  void split_output(int l, Arm& arm, const BaselineLayer& base, const LayerTrace& inputs, const kernels::DeviceTensor& probs,
                    const kernels::DeviceTensor& weights, const kernels::DeviceTensor& coded_v);
  kernels::ProbScheme prob_scheme(int l, const Arm& arm) const;
  bool codes_attention(int l, const Arm& arm) const;
  /// R of each head's slice of layer l's output projection, on a backend.
  const kernels::DeviceTensor& head_projections(int l, kernels::Backend& on);

  void measure_local(int l, Arm& arm, const BaselineLayer& base, const Sample& sample);
  void measure_kernel(int l, Arm& arm, const BaselineLayer& base, const LayerTrace& local, const TapCollector& local_taps,
                      std::int64_t windows);
  /// How often each code of P occurs, by head, in all windows of codes [B, H, Tq, Tk].
  std::vector<std::vector<std::int64_t>> head_histograms(kernels::Backend& on, const kernels::DeviceTensor& codes) const;
  /// `base` and `test` lie on `on`.
  void compare(int l, Arm& arm, kernels::Backend& on, const std::string& error, const LayerTrace& base,
               const LayerTrace& test);
  void score(const Chunk& chunk);
  void compare_hidden_states(const Chunk& chunk);  // lockstep_hidden.cc
  static void add_hidden_windows(Arm& arm, const Chunk& chunk, const quant::Tensor& base, const quant::Tensor& test);
  void measure_final_norm(Arm& arm, std::int64_t first, std::int64_t begin, std::int64_t end);
  std::int64_t windows_at_once(std::int64_t windows, std::int64_t length) const;
  void score_arm(Arm& arm, const Chunk& chunk, std::int64_t b, const kernels::DeviceTensor& base_logits,
                 const kernels::DeviceTensor& logits);
  /// What is dumped of a layer, where that was asked for: "layer3.q", "layer3.local.q", "layer3.emulated.q".
  static void dump(const Arm& arm, kernels::Backend& on, const std::string& place, const LayerTrace& trace,
                   const TapCollector& taps, std::int64_t attention);
  kernels::DeviceTensor heads(const kernels::DeviceTensor& x) const;

  const DecoderWeights& weights_;
  const ModelConfig& config_;
  const MetricsSpec& metrics_;
  bool hidden_states_;  ///< are compared, and no tokens are scored
  Arm& baseline_;
  std::vector<Arm>& arms_;
  std::vector<std::reference_wrapper<Arm>> running_;  ///< on the chunk under way
  const std::vector<BackcopyWindow>* task_;
  kernels::DeviceTensor targets_;
  std::map<std::pair<kernels::Backend*, int>, kernels::DeviceTensor> projections_;
};

/// The first windows of a tensor.
kernels::DeviceTensor first_windows(kernels::Backend& backend, const kernels::DeviceTensor& x, std::int64_t windows);
/// A tensor of one backend in another's memory; the same tensor when they are one.
kernels::DeviceTensor transferred(const kernels::DeviceTensor& tensor, kernels::Backend& from, kernels::Backend& to);

}  // namespace qfid::eval
