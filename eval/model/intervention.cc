#include "eval/model/intervention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "quant/core/counter_random.h"

namespace qfid::eval {

using kernels::DeviceTensor;
using quant::Shape;
using quant::Tensor;

namespace {

std::uint64_t place_of(std::string_view module) {
  constexpr std::array<std::string_view, 8> modules{"q_proj",    "k_proj",   "v_proj", "gate_proj",
                                                    "attention", "out_proj", "fc1",    "fc2"};
  const auto* const at = std::find(modules.begin(), modules.end(), module);
  quant::require(at != modules.end(), "module noise: an unknown module");
  return static_cast<std::uint64_t>(at - modules.begin());
}

/// The logit whose sigmoid is p; a sigmoid of 64 is 1 in f32, one of -200 is 0.
float logit_of(double p) {
  if (p >= 1) return 64.0F;
  return p <= 0 ? -200.0F : static_cast<float>(std::log(p / (1 - p)));
}

}  // namespace

DeviceTensor ModuleNoise::output(int l, std::string_view module, const DeviceTensor& y) {
  quant::require(y.shape[0] == 1, "module noise: one window at a time");
  Tensor host = on_.download(y).clone();
  std::uint64_t key = seed_;
  for (const std::uint64_t part : {static_cast<std::uint64_t>(window_), static_cast<std::uint64_t>(l), place_of(module)})
    key = quant::counter_random(key, part);
  float* const x = host.view<float>().data();
  for (std::int64_t i = 0; i < host.shape().elements(); ++i) {
    const double uniform = static_cast<double>(quant::counter_random(key, static_cast<std::uint64_t>(i)) >> 11) * 0x1p-53;
    x[i] = static_cast<float>(static_cast<double>(x[i]) * (1 + static_cast<double>(module_noise) * (2 * uniform - 1)));
  }
  return on_.upload(host);
}

void MaskKey0::attention(int l, kernels::AttentionInputs& inputs) {
  static_cast<void>(l);
  quant::require(!inputs.bias.defined(), "mask_key_0: the model has an additive mask of its own");
  const std::int64_t queries = inputs.q.shape[1], keys = inputs.k.shape[1];
  if (!bias_.defined() || bias_.shape[2] != queries || bias_.shape[3] != keys) {
    Tensor bias = Tensor::zeros(quant::DType::f32, Shape{1, 1, queries, keys});
    for (std::int64_t q = causal_ ? 1 : 0; q < queries; ++q)
      bias.view<float>().data()[q * keys] = -std::numeric_limits<float>::infinity();
    bias_ = on_.upload(bias);
  }
  inputs.bias = bias_;
}

void ZeroV0::attention(int l, kernels::AttentionInputs& inputs) {
  static_cast<void>(l);
  Tensor v = on_.download(inputs.v).clone();
  const std::int64_t windows = v.shape()[0], row = v.shape()[2] * v.shape()[3], window = v.shape()[1] * row;
  for (std::int64_t b = 0; b < windows; ++b) std::fill_n(v.view<float>().data() + b * window, row, 0.0F);
  inputs.v = on_.upload(v);
}

void ConstantGates::attention(int l, kernels::AttentionInputs& inputs) {
  quant::require(inputs.gate_logits.defined(), "a constant gate needs a model with gates");
  Tensor logits(quant::DType::f32, inputs.gate_logits.shape);
  const auto gates = static_cast<std::size_t>(logits.shape()[-1]);
  float* const x = logits.view<float>().data();
  for (std::int64_t i = 0; i < logits.shape().elements(); ++i)
    x[i] = logit_of(means_.empty() ? 1 : means_[static_cast<std::size_t>(l)][static_cast<std::size_t>(i) % gates]);
  inputs.gate_logits = on_.upload(logits);
}

}  // namespace qfid::eval
