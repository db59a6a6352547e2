#include "eval/experiment/target_precision.h"

#include <algorithm>
#include <format>

namespace qfid::eval {

DecoderPrecision precision_of(const TargetSpec& target, const ModelConfig& config) {
  DecoderPrecision precision;
  precision.mode = target.mode;
  precision.fast_accum = target.fast_accum;
  for (std::int64_t l = 0; l < config.num_hidden_layers; ++l) {
    const std::string prefix = "layers." + std::to_string(l) + ".";
    DecoderPrecision::Layer layer;
    layer.q_proj = target.linear_at(prefix + "q_proj");
    layer.k_proj = target.linear_at(prefix + "k_proj");
    layer.v_proj = target.linear_at(prefix + "v_proj");
    layer.out_proj = target.linear_at(prefix + "out_proj");
    layer.fc1 = target.linear_at(prefix + "fc1");
    layer.fc2 = target.linear_at(prefix + "fc2");
    layer.gate_proj = target.linear_at(prefix + "gate_proj");
    layer.attention = target.attention_at(prefix + "attention");
    precision.layers.push_back(layer);
  }
  precision.lm_head = target.linear_at("lm_head");
  if (!config.causal) precision.head_dense = target.linear_at("head_dense");
  return precision;
}

bool is_full_precision(const DecoderPrecision& precision) {
  return std::all_of(precision.layers.begin(), precision.layers.end(),
                     [](const DecoderPrecision::Layer& layer) { return layer == DecoderPrecision::Layer{}; }) &&
         precision.lm_head == LinearSchemes{} && precision.head_dense == LinearSchemes{};
}

std::string mode_of(const TargetSpec& target) {
  return target.simulated ? "simulated" : std::string(kernels::to_string(target.mode));
}

std::string describe(const TargetSpec& target) {
  if (const auto& s = target.simulated)
    return std::format("simulated W8A8: weights {}, activations {} with momentum {}", s->mse_weights ? "mse" : "minmax",
                       s->percentile ? std::format("percentile {}", *s->percentile) : "minmax", s->momentum);
  std::string text = std::string(kernels::to_string(target.mode)) + "; linear: ";
  if (target.linear == LinearSchemes{}) {
    text += "f32";
  } else {
    text += "weights " + quant::to_string(target.linear.weights) + ", activations " +
            quant::to_string(target.linear.activations);
  }
  const kernels::AttentionSchemes& a = target.attention;
  text += "; attention: ";
  if (a == kernels::AttentionSchemes{}) {
    text += "f32";
  } else {
    text += "q " + quant::to_string(a.q) + ", k " + quant::to_string(a.k) + ", p " + kernels::to_string(a.p) + ", v " +
            quant::to_string(a.v);
    if (a.output != quant::QuantScheme{}) text += ", output " + quant::to_string(a.output);
    if (a.smooth_k) text += ", smooth_k";
    if (a.scores_storage == quant::DType::bf16) text += ", scores bf16";
  }
  if (target.fast_accum) text += "; fast_accum";
  if (!target.overrides.empty()) text += "; overrides: " + std::to_string(target.overrides.size());
  return text;
}

std::string variant_name(const ModelConfig& config) {
  std::string text;
  if (config.gate)
    text = std::string("gate ") + (config.gate->input == kernels::GateInput::value ? "value" : "hidden") + "->" +
           (config.gate->site == kernels::GateSite::value ? "value" : "output");
  if (config.learnable_sink) text += text.empty() ? "learnable sink" : ", learnable sink";
  return text.empty() ? "softmax" : text;
}

}  // namespace qfid::eval
