#include "eval/experiment/budget_arms.h"

#include <cmath>
#include <format>
#include <functional>

namespace qfid::eval {

using kernels::AttentionSchemes;
using kernels::DeviceTensor;
using Layer = DecoderPrecision::Layer;

namespace {

/// Puts one part of `from` into `to`.
struct Part {
  const char* name;
  std::function<void(Layer& to, const Layer& from)> copy;
};

const std::vector<Part>& layer_parts() {
  static const std::vector<Part> parts{
      {"q_proj", [](Layer& to, const Layer& from) { to.q_proj = from.q_proj; }},
      {"k_proj", [](Layer& to, const Layer& from) { to.k_proj = from.k_proj; }},
      {"v_proj", [](Layer& to, const Layer& from) { to.v_proj = from.v_proj; }},
      {"gate_proj", [](Layer& to, const Layer& from) { to.gate_proj = from.gate_proj; }},
      {"q", [](Layer& to, const Layer& from) { to.attention.q = from.attention.q; }},
      {"k",
       [](Layer& to, const Layer& from) {
         to.attention.k = from.attention.k;
         to.attention.smooth_k = from.attention.smooth_k;
       }},
      {"scores", [](Layer& to, const Layer& from) { to.attention.scores_storage = from.attention.scores_storage; }},
      {"p", [](Layer& to, const Layer& from) { to.attention.p = from.attention.p; }},
      {"v", [](Layer& to, const Layer& from) { to.attention.v = from.attention.v; }},
      {"output", [](Layer& to, const Layer& from) { to.attention.output = from.attention.output; }},
      {"out_proj", [](Layer& to, const Layer& from) { to.out_proj = from.out_proj; }},
      {"fc1", [](Layer& to, const Layer& from) { to.fc1 = from.fc1; }},
      {"fc2", [](Layer& to, const Layer& from) { to.fc2 = from.fc2; }},
  };
  return parts;
}

DecoderPrecision full_of(const DecoderPrecision& whole) {
  DecoderPrecision full;
  full.layers.resize(whole.layers.size());
  full.mode = kernels::ExecutionMode::emulated;
  return full;
}

/// First layer in which the two differ; the number of layers when only the head may.
int first_difference(const DecoderPrecision& a, const DecoderPrecision& b) {
  return static_cast<int>(std::mismatch(a.layers.begin(), a.layers.end(), b.layers.begin()).first - a.layers.begin());
}

DecoderPrecision emulated(DecoderPrecision precision, bool has_gate) {
  precision.mode = kernels::ExecutionMode::emulated;
  precision.fast_accum = false;
  if (!has_gate)
    for (Layer& layer : precision.layers) layer.gate_proj = {};  // an override may name what the model lacks
  return precision;
}

}  // namespace

BudgetParts budget_parts(const DecoderPrecision& target, bool has_gate) {
  const DecoderPrecision whole = emulated(target, has_gate), full = full_of(whole);
  BudgetParts all;
  for (const Part& part : layer_parts()) {
    BudgetPart arm{part.name, full, whole};
    for (std::size_t l = 0; l < whole.layers.size(); ++l) {
      part.copy(arm.alone.layers[l], whole.layers[l]);
      part.copy(arm.without.layers[l], full.layers[l]);
    }
    if (arm.alone.layers != full.layers) all.parts.push_back(std::move(arm));
  }
  for (std::size_t l = 0; l < whole.layers.size(); ++l) {
    BudgetPart arm{std::format("layers.{}", l), full, whole};
    arm.alone.layers[l] = whole.layers[l];
    arm.without.layers[l] = full.layers[l];
    if (arm.alone.layers != full.layers) all.layers.push_back(std::move(arm));
  }
  for (const auto& [name, module] :
       {std::pair{"head_dense", &DecoderPrecision::head_dense}, std::pair{"lm_head", &DecoderPrecision::lm_head}}) {
    if (whole.*module == LinearSchemes{}) continue;
    BudgetPart arm{name, full, whole};
    arm.alone.*module = whole.*module;
    arm.without.*module = {};
    all.parts.push_back(arm);
    all.layers.push_back(std::move(arm));
  }
  return all;
}

double budget_forwards(const DecoderPrecision& whole, bool has_gate) {
  const BudgetParts all = budget_parts(whole, has_gate);
  // Full precision, the whole, two arms a part; a layer's two arms run the layers from it on.
  return 2 + 2.0 * static_cast<double>(all.parts.size()) + static_cast<double>(all.layers.size());
}

BudgetArms::BudgetArms(kernels::Backend& backend, const DecoderWeights& weights, DecoderPrecision whole, SiteRanges ranges)
    : backend_(backend), resources_(backend, weights), ranges_(std::move(ranges)) {
  const bool has_gate = weights.config.gate.has_value();
  whole_precision_ = emulated(std::move(whole), has_gate);
  full_ = full_of(whole_precision_);
  base_ = std::make_unique<Decoder>(resources_, full_, ranges_);
  whole_ = std::make_unique<Decoder>(resources_, whole_precision_, ranges_);
  const BudgetParts all = budget_parts(whole_precision_, has_gate);
  const auto add = [&](const std::vector<BudgetPart>& parts, BudgetGroup& group) {
    for (const BudgetPart& part : parts) {
      group.entries.push_back({part.name, {}, {}, {}, {}});
      arms_.push_back(arm_of(part.alone));
      arms_.push_back(arm_of(part.without));
    }
  };
  add(all.parts, budget_.parts);
  add(all.layers, budget_.layers);
  budget_.backend = backend.info().name;
}

BudgetArms::Arm BudgetArms::arm_of(const DecoderPrecision& precision) {
  Arm arm;
  arm.decoder = std::make_unique<Decoder>(resources_, precision, ranges_);
  const int from_full = first_difference(precision, full_), from_whole = first_difference(precision, whole_precision_);
  arm.from_whole = from_whole > from_full;
  arm.start = std::max(from_full, from_whole);
  return arm;
}

double BudgetArms::score(Decoder& decoder, DeviceTensor hidden, int from, const Chunk& window) {
  for (int l = from; l < decoder.layers(); ++l) hidden = decoder.layer(l, hidden, nullptr, key_mask_).residual;
  NamedCounts ignored;
  const DeviceTensor logits = decoder.logits(hidden, ignored);
  const std::vector<kernels::TokenComparison> tokens = backend_.reductions().compare_logits(base_logits_, logits, targets_);
  double kl = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t)
    if (window.scored[0][t]) kl += tokens[t].kl;
  if (!std::isfinite(kl))
    throw quant::Error(quant::ErrorKind::input,
                       std::format("error budget: non-finite logits in window {}", window.first_window));
  return kl;
}

void BudgetArms::add(const Chunk& window) {
  targets_ = backend_.upload(window.targets);
  key_mask_ = base_->key_mask(window.inputs);
  const DeviceTensor embedded = base_->embed(backend_.upload(window.inputs));
  const auto hidden_states = [&](Decoder& decoder) {
    std::vector<DeviceTensor> states{embedded};
    for (int l = 0; l < decoder.layers(); ++l)
      states.push_back(decoder.layer(l, states.back(), nullptr, key_mask_).residual);
    return states;
  };
  const std::vector<DeviceTensor> base = hidden_states(*base_), whole = hidden_states(*whole_);
  NamedCounts ignored;
  base_logits_ = base_->logits(base.back(), ignored);
  std::int64_t tokens = 0;
  for (const bool scored : window.scored[0]) tokens += scored ? 1 : 0;
  budget_.tokens.push_back(tokens);
  budget_.whole_kl.push_back(score(*whole_, whole.back(), whole_->layers(), window));
  for (Arm& arm : arms_) {
    const auto start = static_cast<std::size_t>(arm.start);
    arm.kl.push_back(score(*arm.decoder, arm.from_whole ? whole[start] : base[start], arm.start, window));
  }
  std::size_t next = 0;
  for (BudgetGroup* group : {&budget_.parts, &budget_.layers})
    for (BudgetEntry& entry : group->entries) {
      entry.alone_kl = arms_[next++].kl;
      entry.without_kl = arms_[next++].kl;
    }
}

}  // namespace qfid::eval
