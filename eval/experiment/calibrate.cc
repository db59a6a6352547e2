#include "eval/experiment/calibrate.h"

#include <optional>
#include <string>

#include "eval/experiment/spec.h"

namespace qfid::eval {

using kernels::DeviceTensor;
using kernels::TapPoint;

namespace {

/// Keeps V after a value-site gate: what the kernel quantizes.
class GatedValues : public kernels::TapSink {
 public:
  bool wants(TapPoint point) const override { return point == TapPoint::v_gated; }
  void take(TapPoint, const DeviceTensor& tensor) override { tensor_ = tensor; }
  const DeviceTensor& tensor() const { return tensor_; }

 private:
  DeviceTensor tensor_;
};

class SiteObserver {
 public:
  SiteObserver(kernels::Backend& backend, SiteRanges& ranges) : backend_(backend), ranges_(ranges) {}

  /// x [B, T, n] or [B, T, heads, d].
  void see(const std::string& site, const quant::QuantScheme& scheme, const DeviceTensor& x) {
    if (!needs_range(scheme)) return;
    const quant::Tensor host = backend_.download(x);
    const quant::Shape& s = host.shape();
    const quant::Shape four = s.rank() == 4 ? s : quant::Shape{s[0], s[1], 1, s[2]};
    ranges_[site] = quant::ranges(host.view<float>().reshaped(four), scheme, quant::Role::activation);
  }

 private:
  kernels::Backend& backend_;
  SiteRanges& ranges_;
};

void observe_layer(SiteObserver& observer, int l, const DecoderPrecision::Layer& p, const LayerTrace& trace,
                   const DeviceTensor& v_gated, const ModelConfig& config) {
  const std::string prefix = "layers." + std::to_string(l) + ".";
  const auto heads = [&](const DeviceTensor& x) {
    return x.reshaped(quant::Shape{x.shape[0], x.shape[1], config.num_attention_heads, config.head_dim()});
  };
  observer.see(prefix + "q_proj", p.q_proj.activations, trace.attn_in);
  observer.see(prefix + "k_proj", p.k_proj.activations, trace.attn_in);
  observer.see(prefix + "v_proj", p.v_proj.activations, trace.attn_in);
  if (config.gate)
    observer.see(prefix + "gate_proj", p.gate_proj.activations,
                 config.gate->input == kernels::GateInput::value ? trace.v : trace.attn_in);
  observer.see(prefix + "out_proj", p.out_proj.activations, trace.output.reshaped(trace.hidden_in.shape));
  observer.see(prefix + "fc1", p.fc1.activations, trace.ffn_in);
  observer.see(prefix + "fc2", p.fc2.activations, trace.ffn_act);
  observer.see(prefix + "attention.q", p.attention.q, heads(trace.q));
  observer.see(prefix + "attention.k", p.attention.k, heads(trace.k));
  observer.see(prefix + "attention.v", p.attention.v, v_gated.defined() ? v_gated : heads(trace.v));
  observer.see(prefix + "attention.output", p.attention.output, trace.output);
}

}  // namespace

std::vector<SiteRanges> calibrate(Decoder& baseline, const ModelConfig& config,
                                  const std::vector<DecoderPrecision>& precisions, const quant::Tensor& ids) {
  std::vector<SiteRanges> all(precisions.size());
  DeviceTensor hidden = baseline.embed(baseline.backend().upload(ids));
  const DeviceTensor key_mask = baseline.key_mask(ids);
  for (int l = 0; l < baseline.layers(); ++l) {
    GatedValues gated;
    const bool value_site = config.gate && config.gate->site == kernels::GateSite::value;
    const LayerTrace trace = baseline.layer(l, hidden, value_site ? &gated : nullptr, key_mask);
    for (std::size_t i = 0; i < precisions.size(); ++i) {
      SiteObserver observer(baseline.backend(), all[i]);
      observe_layer(observer, l, precisions[i].layers[static_cast<std::size_t>(l)], trace, gated.tensor(), config);
    }
    hidden = trace.residual;
  }
  if (!config.has_head) return all;
  NamedCounts none;
  const DeviceTensor last = baseline.final_hidden(hidden, none);
  for (std::size_t i = 0; i < precisions.size(); ++i) {
    SiteObserver observer(baseline.backend(), all[i]);
    if (!config.causal) observer.see("head_dense", precisions[i].head_dense.activations, hidden);
    observer.see("lm_head", precisions[i].lm_head.activations, last);
  }
  return all;
}

}  // namespace qfid::eval
