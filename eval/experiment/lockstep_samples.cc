// What Lockstep measures on samples of windows: metrics.sink_windows of a run's own tensors, metrics.local_windows of local
// errors.
#include <format>

#include "eval/experiment/lockstep.h"
#include "eval/metrics/head_projection.h"

namespace qfid::eval {

using kernels::DeviceTensor;
using quant::Shape;

kernels::ProbScheme Lockstep::prob_scheme(int l, const Arm& arm) const {
  return arm.target->attention_at(std::format("layers.{}.attention", l)).p;
}

bool Lockstep::codes_attention(int l, const Arm& arm) const {
  return arm.target->attention_at(std::format("layers.{}.attention", l)) != kernels::AttentionSchemes{};
}

const DeviceTensor& Lockstep::head_projections(int l, kernels::Backend& on) {
  DeviceTensor& factors = projections_[{&on, l}];
  if (!factors.defined())
    factors = on.upload(
        head_factors(weights_.layers[static_cast<std::size_t>(l)].out_w.view<float>(), config_.num_attention_heads));
  return factors;
}

void Lockstep::sample_self(int l, Arm& arm, const LayerTrace& trace, const TapCollector& taps, const Sample& sample) {
  kernels::Backend& b = *arm.backend;
  kernels::Reductions& reductions = b.reductions();
  if (l == 0)
    arm.tables.samples().add_magnitudes(-1, "embedding",
                                        reductions.magnitudes(first_windows(b, trace.hidden_in, sample.attention)));
  arm.tables.samples().add_magnitudes(l, "residual",
                                      reductions.magnitudes(first_windows(b, trace.residual, sample.attention)));
  if (task_ != nullptr) sample_backcopy(arm, trace, taps, sample);
  const std::int64_t length = trace.q.shape[1];
  for (std::int64_t w = 0; w < sample.attention; ++w) {
    const DeviceTensor probs = b.slice(taps.probs, w, w + 1);
    std::vector<double> q64, t64;
    if (length > 64) q64 = reductions.mean_attention_to(probs, 0, 64, length);
    if (length >= 64) t64 = reductions.mean_attention_to(probs, 0, 0, 64);
    arm.sinks.add_attention(l, q64, t64);
    arm.sinks.add_summary(l, reductions.attention_summary(probs, config_.causal));
    if (w == 0 && sample.first == 0) add_sketches(l, arm, probs);
    const DeviceTensor v = b.slice(heads(trace.v), w, w + 1);
    const DeviceTensor gated = taps.v_gated.defined() ? b.slice(heads(taps.v_gated), w, w + 1) : v;
    const std::vector<double> norms = reductions.norms(v);
    arm.sinks.add_norms(l, norms, taps.v_gated.defined() ? reductions.norms(gated) : norms);
    arm.sinks.add_projected(l, reductions.projected_norms(gated, head_projections(l, b)));
    if (!taps.gate.defined()) continue;
    // A gate is above 0: its norm is itself.
    const DeviceTensor gates = b.slice(taps.gate, w, w + 1);
    arm.sinks.add_gates(l, reductions.norms(gates.reshaped(Shape{1, length, gates.shape[2], 1})));
  }
}

/// By part of the task, which only the host knows: of a small model and short windows, whose attention is small.
void Lockstep::sample_backcopy(Arm& arm, const LayerTrace& trace, const TapCollector& taps, const Sample& sample) {
  kernels::Backend& b = *arm.backend;
  kernels::Reductions& reductions = b.reductions();
  const DeviceTensor& residual = trace.residual;
  for (std::int64_t w = 0; w < sample.attention; ++w) {
    const auto window = static_cast<std::size_t>(sample.first + w);
    const quant::Tensor probs = b.download(b.slice(taps.probs, w, w + 1));
    arm.backcopy.add_attention(window, {probs.view<float>().data(), static_cast<std::size_t>(probs.shape().elements())},
                               (*task_)[window]);
    const std::vector<double> v = reductions.norms(b.slice(heads(trace.v), w, w + 1));
    arm.backcopy.add_norms(
        window, v, taps.v_gated.defined() ? reductions.norms(b.slice(heads(taps.v_gated), w, w + 1)) : v,
        reductions.norms(b.slice(residual, w, w + 1).reshaped(Shape{1, residual.shape[1], 1, residual.shape[2]})));
  }
}

void Lockstep::add_sketches(int l, Arm& arm, const DeviceTensor& probs) {
  const std::int64_t n_heads = config_.num_attention_heads, length = probs.shape[2];
  if (config_.num_hidden_layers * n_heads > most_sketched / (length * length)) return;
  const DeviceTensor by_head = probs.reshaped(Shape{n_heads, length, length});
  for (std::int64_t h = 0; h < n_heads; ++h) {
    const quant::Tensor one = arm.backend->download(arm.backend->slice(by_head, h, h + 1));
    arm.sketches[{l, static_cast<int>(h)}] =
        attention_sketch({one.view<float>().data(), static_cast<std::size_t>(length * length)}, length);
  }
}

DeviceTensor Lockstep::compare_probabilities(int l, Arm& arm, kernels::Backend& on, const std::string& error,
                                             const DeviceTensor& base, const TapCollector& taps) {
  kernels::Reductions& reductions = on.reductions();
  LayerSamples& samples = arm.tables.samples();
  const bool sink = config_.learnable_sink;
  const std::int64_t windows = base.shape[0];
  const int n_heads = static_cast<int>(config_.num_attention_heads);
  samples.add_divergence(l, error, reductions.row_divergence(base, taps.probs, sink), windows, n_heads);
  if (!codes_attention(l, arm)) return {};
  const kernels::ProbScheme scheme = prob_scheme(l, arm);
  const DeviceTensor weights = reductions.coded_weights(taps.probs, taps.p_codes, scheme, sink);
  samples.add_coded(l, error, reductions.coded_divergence(base, taps.probs, weights, sink), windows, n_heads);
  if (error == "cumulative" && quant::is_scaled(scheme.format))
    samples.add_histogram(l, scheme, reductions.code_histogram(taps.p_codes, config_.causal));
  return weights;
}

std::vector<std::vector<std::int64_t>> Lockstep::head_histograms(kernels::Backend& on, const DeviceTensor& codes) const {
  const std::int64_t windows = codes.shape[0], n_heads = codes.shape[1];
  const DeviceTensor by_head = codes.reshaped(Shape{windows * n_heads, 1, codes.shape[2], codes.shape[3]});
  std::vector<std::vector<std::int64_t>> all(static_cast<std::size_t>(n_heads), std::vector<std::int64_t>(256));
  for (std::int64_t i = 0; i < windows * n_heads; ++i) {
    const std::vector<std::int64_t> counts = on.reductions().code_histogram(on.slice(by_head, i, i + 1), config_.causal);
    for (std::size_t code = 0; code < 256; ++code) all[static_cast<std::size_t>(i % n_heads)][code] += counts[code];
  }
  return all;
}

void Lockstep::split_output(int l, Arm& arm, const BaselineLayer& base, const LayerTrace& inputs, const DeviceTensor& probs,
                            const DeviceTensor& weights, const DeviceTensor& coded_v) {
  kernels::Backend& b = *arm.backend;
  kernels::Backend& full = *baseline_.backend;
  const DeviceTensor v =
      base.v_gated.defined() ? transferred(first_windows(full, base.v_gated, probs.shape[0]), full, b) : inputs.v;
  arm.tables.samples().add_parts(l, b.reductions().output_split(probs, weights, heads(v), heads(coded_v)),
                                 static_cast<int>(config_.num_attention_heads));
}

}  // namespace qfid::eval
