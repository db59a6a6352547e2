// An arm: one precision of one model on its way through the windows, and everything measured about it so far.
#pragma once

#include <algorithm>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "eval/experiment/attention_heads.h"
#include "eval/experiment/footprint.h"
#include "eval/experiment/record.h"
#include "eval/experiment/simulated_model.h"
#include "eval/experiment/spec.h"
#include "eval/experiment/target_precision.h"
#include "eval/experiment/tensor_hasher.h"
#include "eval/metrics/attention_sinks.h"
#include "eval/metrics/backcopy.h"
#include "eval/metrics/hidden_states.h"
#include "eval/metrics/layer_tables.h"
#include "eval/metrics/token_metrics.h"
#include "eval/model/decoder.h"
#include "quant/core/out_of_memory.h"

namespace qfid::eval {

/// Keeps the taps an arm's measures want from inside attention. Each layer's tensors are dropped with the collector.
class TapCollector : public kernels::TapSink {
 public:
  struct Wants {
    bool probs = false, gate = false, v_gated = false, p_codes = false, v_dequantized = false;
  };
  explicit TapCollector(Wants wants) : wants_(wants) {}
  bool wants(kernels::TapPoint point) const override {
    return (point == kernels::TapPoint::probs && wants_.probs) || (point == kernels::TapPoint::gate && wants_.gate) ||
           (point == kernels::TapPoint::v_gated && wants_.v_gated) ||
           (point == kernels::TapPoint::p_codes && wants_.p_codes) ||
           (point == kernels::TapPoint::v_dequantized && wants_.v_dequantized);
  }
  void take(kernels::TapPoint point, const kernels::DeviceTensor& tensor) override {
    (point == kernels::TapPoint::probs           ? probs
     : point == kernels::TapPoint::gate          ? gate
     : point == kernels::TapPoint::p_codes       ? p_codes
     : point == kernels::TapPoint::v_dequantized ? v_dequantized
                                                 : v_gated) = tensor;
  }
  kernels::DeviceTensor probs, gate, v_gated, p_codes, v_dequantized;

 private:
  Wants wants_;
};

/// Where an arm is, for what goes wrong there.
struct Place {
  const char* step = "";
  int layer = -1;                       ///< -1: none
  std::int64_t window = -1, last = -1;  ///< the chunk's; -1: none
  void at(const char* now, int of_layer = -1) {
    step = now;
    layer = of_layer;
  }
  std::string text() const;  ///< " (local errors of layer 3, windows 8-11)"
};

/// NaN and infinite values of one window at a tap.
struct NonFinite {
  int layer;  ///< -1: of none
  const char* tap;
  std::int64_t values, elements;
};

struct Arm {
  Arm(const TargetSpec& spec, kernels::Backend& on, const ModelConfig& config, const MetricsSpec& metrics)
      : target(&spec),
        backend(&on),
        tables(std::max(metrics.sink_windows, metrics.local_windows), config.max_position_embeddings, config.causal),
        sinks(static_cast<int>(config.num_hidden_layers), static_cast<int>(config.num_attention_heads),
              metrics.sink_threshold),
        footprint(footprint_metrics(config, precision_of(spec, config))) {
    tokens.confidence = hidden_states.confidence = metrics.confidence;
  }
  bool alive() const { return status == RunStatus::ok; }
  void fail(RunStatus why, std::string what, bool may_pass = false) {
    status = why;
    message = std::move(what);
    passing = may_pass;
    decoder.reset();
    emulated.reset();
    simulated.reset();
    hidden = key_mask = {};
  }

  const TargetSpec* target;
  kernels::Backend* backend;
  std::unique_ptr<SimulatedModel> simulated;  ///< what decoder runs on, where the target is simulated
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<Decoder> emulated;  ///< the same schemes on the reference backend, products in f32; null = not asked for
  kernels::DeviceTensor hidden, key_mask;  ///< of the chunk under way
  TokenData tokens;
  HiddenData hidden_states;  ///< under protocol hidden, instead of tokens
  LayerTables tables;
  AttentionSinks sinks;
  BackcopyMeasures backcopy;  ///< where the data is bigram-backcopy
  std::vector<Metric> footprint;
  AttentionSketches sketches;
  std::map<std::string, std::string> implementations;  ///< what ran so far
  /// Takes tensors that are dumped, by name; not callable when none are.
  std::function<void(const std::string& name, const quant::Tensor& windows)> dump;
  std::optional<TensorHasher> hasher;  ///< where an exact gate asks for hashes
  RunStatus status = RunStatus::ok;
  std::string message;
  bool passing = false;  ///< failed for want of memory or a device: nothing is kept of that, another time it may succeed
  Place place;
  std::map<std::int64_t, NonFinite> non_finite;  ///< of the chunk under way: where each window's first ones are
  /// Looks for NaN and infinite values among the windows from `first` on of a tap (layer -1: of none). Taps come in the
  /// order in which a layer makes them, so that the first one found is where they come from.
  void look_at(int layer, const char* tap, const std::vector<kernels::RowStats>& windows, std::int64_t first);
  /// "; the first ones are in ffn_out of layer 3: 17 of 2048 values", or that every tap of that window is finite.
  std::string origin_of(std::int64_t window) const;
  double forward_seconds = 0, metric_seconds = 0, local_seconds = 0;
};

/// Runs work of one arm (whatever has alive() and fail()); what goes wrong is that arm's alone.
template <class AnyArm, class Work>
void attempt(AnyArm& arm, Work&& work) {
  if (!arm.alive()) return;
  try {
    work();
  } catch (const std::exception& error) {
    const bool passing = quant::is_passing(error);
    arm.fail(RunStatus::failed, quant::message_of(error) + (passing ? arm.place.text() : ""), passing);
  }
}

}  // namespace qfid::eval
