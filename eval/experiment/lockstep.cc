#include "eval/experiment/lockstep.h"

#include <algorithm>
#include <cmath>
#include <format>

#include "eval/experiment/stopwatch.h"

namespace qfid::eval {

using kernels::DeviceTensor;
using quant::Shape;

namespace {

constexpr DeviceTensor LayerTrace::* trace_fields[] = {
    &LayerTrace::key_mask, &LayerTrace::hidden_in,   &LayerTrace::attn_in, &LayerTrace::q,        &LayerTrace::k,
    &LayerTrace::v,        &LayerTrace::gate_logits, &LayerTrace::output,  &LayerTrace::attn_out, &LayerTrace::ffn_in,
    &LayerTrace::ffn_act,  &LayerTrace::ffn_out,     &LayerTrace::residual};

LayerTrace first_windows(kernels::Backend& b, const LayerTrace& t, std::int64_t n) {
  LayerTrace part = t;
  for (DeviceTensor LayerTrace::* field : trace_fields)
    if ((t.*field).defined()) part.*field = eval::first_windows(b, t.*field, n);
  return part;
}

LayerTrace transferred(const LayerTrace& t, kernels::Backend& from, kernels::Backend& to) {
  LayerTrace copy = t;
  if (&from == &to) return copy;
  for (DeviceTensor LayerTrace::* field : trace_fields) copy.*field = eval::transferred(t.*field, from, to);
  return copy;
}

}  // namespace

DeviceTensor first_windows(kernels::Backend& backend, const DeviceTensor& x, std::int64_t windows) {
  return x.shape[0] == windows ? x : backend.slice(x, 0, windows);
}

DeviceTensor transferred(const DeviceTensor& tensor, kernels::Backend& from, kernels::Backend& to) {
  if (&from == &to || !tensor.defined()) return tensor;
  return to.upload(from.download(tensor));
}

DeviceTensor Lockstep::heads(const DeviceTensor& x) const {
  return x.reshaped(Shape{x.shape[0], x.shape[1], config_.num_attention_heads, config_.head_dim()});
}

void Lockstep::embed(Arm& arm, const quant::Tensor& ids) {
  arm.hidden = arm.decoder->embed(arm.backend->upload(ids));
  arm.key_mask = arm.decoder->key_mask(ids);
}

void Lockstep::run(const Chunk& chunk, std::vector<std::reference_wrapper<Arm>> running) {
  running_ = std::move(running);
  const std::int64_t windows = chunk.inputs.shape()[0];
  const auto left = [&](std::int64_t sample) { return std::clamp<std::int64_t>(sample - chunk.first_window, 0, windows); };
  const Sample sample{windows, left(metrics_.sink_windows), left(metrics_.local_windows),
                      left(std::min(metrics_.kernel_windows, metrics_.local_windows)), chunk.first_window};
  const auto begin = [&](Arm& arm) {
    arm.non_finite.clear();
    arm.place = {"embedding", -1, chunk.first_window, chunk.first_window + windows - 1};
  };
  begin(baseline_);
  {
    const Stopwatch watch(baseline_.forward_seconds, *baseline_.backend);
    embed(baseline_, chunk.inputs);
  }
  for (Arm& arm : running_)
    attempt(arm, [&] {
      begin(arm);
      const Stopwatch watch(arm.forward_seconds, *arm.backend);
      embed(arm, chunk.inputs);
    });
  for (int l = 0; l < baseline_.decoder->layers(); ++l) run_layer(l, sample);
  if (hidden_states_)
    compare_hidden_states(chunk);
  else
    score(chunk);
}

void Lockstep::dump(const Arm& arm, kernels::Backend& on, const std::string& place, const LayerTrace& trace,
                    const TapCollector& taps, std::int64_t attention) {
  if (!arm.dump) return;
  const auto keep = [&](const char* tap, const DeviceTensor& tensor) {
    if (tensor.defined()) arm.dump(place + "." + tap, on.download(tensor));
  };
  keep("attn_in", trace.attn_in);
  keep("q", trace.q);
  keep("k", trace.k);
  keep("v", trace.v);
  keep("gate", taps.gate);
  keep("p_codes", taps.p_codes);
  keep("output", trace.output);
  keep("attn_out", trace.attn_out);
  keep("ffn_in", trace.ffn_in);
  keep("ffn_act", trace.ffn_act);
  keep("ffn_out", trace.ffn_out);
  keep("residual", trace.residual);
  if (attention == 0) return;
  keep("probs", taps.probs.defined() ? first_windows(on, taps.probs, attention) : taps.probs);
  keep("v_gated", taps.v_gated.defined() ? first_windows(on, taps.v_gated, attention) : taps.v_gated);
}

void Lockstep::run_layer(int l, const Sample& sample) {
  baseline_.place.at("", l);
  const bool gated = config_.gate.has_value();
  TapCollector taps({.probs = sample.attention > 0 || sample.local > 0,
                     .gate = gated,
                     .v_gated = gated,
                     .p_codes = static_cast<bool>(baseline_.dump)});
  BaselineLayer base;
  {
    const Stopwatch watch(baseline_.forward_seconds, *baseline_.backend);
    base.trace = baseline_.decoder->layer(l, baseline_.hidden, &taps, baseline_.key_mask);
  }
  dump(baseline_, *baseline_.backend, std::format("layer{}", l), base.trace, taps, std::max(sample.attention, sample.local));
  base.probs = taps.probs;
  base.gate = taps.gate;
  base.v_gated = taps.v_gated;
  measure_self(l, baseline_, base.trace, taps, sample);
  for (Arm& arm : running_) {
    attempt(arm, [&] { run_arm_layer(l, arm, base, sample); });
  }
  baseline_.hidden = base.trace.residual;
}

void Lockstep::run_arm_layer(int l, Arm& arm, const BaselineLayer& base, const Sample& sample) {
  const bool sampled = sample.attention > 0;
  arm.place.at("", l);
  TapCollector taps({.probs = sampled,
                     .gate = config_.gate.has_value(),
                     .v_gated = config_.gate.has_value() && sampled,
                     .p_codes = arm.dump || (sampled && codes_attention(l, arm))});
  LayerTrace trace;
  {
    const Stopwatch watch(arm.forward_seconds, *arm.backend);
    trace = arm.decoder->layer(l, arm.hidden, &taps, arm.key_mask);
  }
  arm.hidden = trace.residual;
  arm.place.at("comparison", l);
  if (arm.hasher) arm.hasher->add_layer(l, trace, *arm.backend, sample.local, config_.num_attention_heads);
  dump(arm, *arm.backend, std::format("layer{}", l), trace, taps, sample.attention);
  {
    measure_self(l, arm, trace, taps, sample);
    const Stopwatch watch(arm.metric_seconds, *arm.backend);
    compare(l, arm, *arm.backend, "cumulative", transferred(base.trace, *baseline_.backend, *arm.backend), trace);
    if (sampled) {
      TapCollector own = taps;
      own.probs = first_windows(*arm.backend, taps.probs, sample.attention);
      if (taps.p_codes.defined()) own.p_codes = first_windows(*arm.backend, taps.p_codes, sample.attention);
      const DeviceTensor probs =
          transferred(first_windows(*baseline_.backend, base.probs, sample.attention), *baseline_.backend, *arm.backend);
      compare_probabilities(l, arm, *arm.backend, "cumulative", probs, own);
    }
  }
  if (sample.local > 0) measure_local(l, arm, base, sample);
}

void Lockstep::add_rows(Arm& arm, std::int64_t first, const std::vector<PlacedTensor>& tensors) {
  std::vector<DeviceTensor> all;
  for (const PlacedTensor& t : tensors) all.push_back(t.tensor);
  const std::vector<std::vector<kernels::RowStats>> stats = arm.backend->reductions().row_stats_of(all);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    arm.look_at(tensors[i].layer, tensors[i].tap, stats[i], first);
    arm.tables.add_rows(tensors[i].layer, tensors[i].tap, stats[i]);
  }
}

void Lockstep::measure_self(int l, Arm& arm, const LayerTrace& trace, const TapCollector& taps, const Sample& sample) {
  const Stopwatch watch(arm.metric_seconds, *arm.backend);
  kernels::Backend& b = *arm.backend;
  const int n_heads = static_cast<int>(config_.num_attention_heads);
  std::vector<PlacedTensor> tensors;
  const auto add = [&](int layer, const char* tap, const DeviceTensor& x) {
    if (x.defined()) tensors.push_back({layer, tap, x});
  };
  if (l == 0) {
    add(-1, "embedding", trace.hidden_in);
    if (arm.dump) arm.dump("embedding", b.download(trace.hidden_in));
  }
  add(l, "attn_in", trace.attn_in);
  add(l, "gate", taps.gate);
  add(l, "attn_out", trace.attn_out);
  add(l, "ffn_in", trace.ffn_in);
  add(l, "ffn_out", trace.ffn_out);
  add(l, "residual", trace.residual);
  add_rows(arm, sample.first, tensors);
  arm.tables.add_prob_counts(l, trace.attention.probs(), n_heads);
  for (const auto& [site, counts] : trace.codes) arm.tables.add_codes(l, site, counts.get());

  if (sample.attention > 0) sample_self(l, arm, trace, taps, sample);
}

void Lockstep::measure_local(int l, Arm& arm, const BaselineLayer& base, const Sample& sample) {
  const Stopwatch watch(arm.local_seconds, *arm.backend);
  arm.place.at("local errors", l);
  kernels::Backend& b = *arm.backend;
  const LayerTrace inputs = transferred(first_windows(*baseline_.backend, base.trace, sample.local), *baseline_.backend, b);
  const bool coded = codes_attention(l, arm);
  TapCollector taps({.probs = true, .p_codes = coded, .v_dequantized = coded});
  const LayerTrace local = arm.decoder->local(l, inputs, &taps);
  dump(arm, b, std::format("layer{}.local", l), local, taps, sample.local);
  compare(l, arm, b, "local", inputs, local);
  const DeviceTensor probs = transferred(first_windows(*baseline_.backend, base.probs, sample.local), *baseline_.backend, b);
  const DeviceTensor weights = compare_probabilities(l, arm, b, "local", probs, taps);
  if (coded) split_output(l, arm, base, inputs, probs, weights, taps.v_dequantized);
  if (arm.emulated && sample.kernel > 0) measure_kernel(l, arm, base, local, taps, sample.kernel);
}

/// The same operations, fed with the same inputs, by the emulated twin: emulated against full precision is the format's
/// damage, real against emulated the kernel's.
void Lockstep::measure_kernel(int l, Arm& arm, const BaselineLayer& base, const LayerTrace& local,
                              const TapCollector& local_taps, std::int64_t windows) {
  kernels::Backend& full = *baseline_.backend;
  kernels::Backend& b = arm.emulated->backend();
  const int n_heads = static_cast<int>(config_.num_attention_heads);
  const LayerTrace inputs = transferred(first_windows(full, base.trace, windows), full, b);
  TapCollector taps({.probs = true, .p_codes = codes_attention(l, arm)});
  const LayerTrace emulated = arm.emulated->local(l, inputs, &taps);
  dump(arm, b, std::format("layer{}.emulated", l), emulated, taps, windows);
  const LayerTrace real = transferred(first_windows(*arm.backend, local, windows), *arm.backend, b);
  compare(l, arm, b, "format", inputs, emulated);
  compare(l, arm, b, "kernel", emulated, real);
  const DeviceTensor probs = eval::transferred(first_windows(full, base.probs, windows), full, b);
  const DeviceTensor real_probs = eval::transferred(first_windows(*arm.backend, local_taps.probs, windows), *arm.backend, b);
  compare_probabilities(l, arm, b, "format", probs, taps);
  arm.tables.samples().add_divergence(
      l, "kernel", b.reductions().row_divergence(taps.probs, real_probs, config_.learnable_sink), windows, n_heads);
  if (taps.p_codes.defined() && quant::is_scaled(prob_scheme(l, arm).format))
    arm.tables.samples().add_recoded(l,
                                     head_histograms(*arm.backend, first_windows(*arm.backend, local_taps.p_codes, windows)),
                                     head_histograms(b, taps.p_codes));
}

void Lockstep::compare(int l, Arm& arm, kernels::Backend& on, const std::string& error, const LayerTrace& base,
                       const LayerTrace& test) {
  kernels::Reductions& reductions = on.reductions();
  const int n_heads = static_cast<int>(config_.num_attention_heads);
  std::vector<kernels::Reductions::Pair> pairs;
  std::vector<const char*> taps;
  const auto add = [&](const char* tap, DeviceTensor LayerTrace::* field, bool by_head) {
    const DeviceTensor& x = base.*field;
    const DeviceTensor& y = test.*field;
    if (!x.defined() || !y.defined()) return;
    taps.push_back(tap);
    pairs.emplace_back(by_head ? heads(x) : x, by_head ? heads(y) : y);
  };
  add("q", &LayerTrace::q, true);
  add("k", &LayerTrace::k, true);
  add("v", &LayerTrace::v, true);
  add("output", &LayerTrace::output, true);
  add("attn_out", &LayerTrace::attn_out, false);
  if (error != "cumulative") add("ffn_act", &LayerTrace::ffn_act, false);  // fc1's own damage; ffn_out holds it cumulatively
  add("ffn_out", &LayerTrace::ffn_out, false);
  add("residual", &LayerTrace::residual, false);
  const std::vector<std::vector<quant::DistortionStats>> all = reductions.distortion_of(pairs);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    arm.tables.add_distortion(l, taps[i], error, all[i], pairs[i].first.shape.rank() == 4 ? n_heads : 1);
    if (error == "local")
      arm.tables.samples().add_outliers(l, taps[i], reductions.outlier_split(pairs[i].first, pairs[i].second));
  }
}

/// Windows whose logits are made together: logits are the largest tensors of an evaluation (T x vocabulary).
std::int64_t Lockstep::windows_at_once(std::int64_t windows, std::int64_t length) const {
  std::int64_t bytes = baseline_.backend->logits_at_once();
  for (const Arm& arm : arms_) bytes = std::min(bytes, arm.backend->logits_at_once());
  return std::clamp<std::int64_t>(bytes / (4 * length * config_.vocab_size), 1, windows);
}

void Lockstep::score(const Chunk& chunk) {
  const std::int64_t windows = chunk.inputs.shape()[0], step = windows_at_once(windows, chunk.inputs.shape()[1]);
  const quant::Tensor& targets = chunk.targets;
  baseline_.place.at("logits");
  if (baseline_.dump) {
    baseline_.dump("targets", targets);
    quant::Tensor scored(quant::DType::u8, targets.shape());
    std::uint8_t* flag = scored.view<std::uint8_t>().data();
    for (const std::vector<bool>& window : chunk.scored) flag = std::copy(window.begin(), window.end(), flag);
    baseline_.dump("scored", scored);
  }
  for (std::int64_t b = 0; b < windows; b += step) {
    const std::int64_t end = std::min(b + step, windows);
    DeviceTensor base_logits;
    {
      const Stopwatch watch(baseline_.forward_seconds, *baseline_.backend);
      NamedCounts none;
      base_logits = baseline_.decoder->logits(baseline_.backend->slice(baseline_.hidden, b, end), none);
    }
    const auto upload_targets = [&](kernels::Backend& backend) { return backend.slice(backend.upload(targets), b, end); };
    {
      const Stopwatch watch(baseline_.metric_seconds, *baseline_.backend);
      measure_final_norm(baseline_, chunk.first_window, b, end);
      targets_ = upload_targets(*baseline_.backend);
      score_arm(baseline_, chunk, b, base_logits, base_logits);
    }
    if (!baseline_.alive()) return;
    for (Arm& arm : running_)
      attempt(arm, [&] {
        arm.place.at("logits");
        DeviceTensor logits;
        NamedCounts counts;
        {
          const Stopwatch watch(arm.forward_seconds, *arm.backend);
          logits = arm.decoder->logits(arm.backend->slice(arm.hidden, b, end), counts);
        }
        for (const auto& [site, cast] : counts) arm.tables.add_codes(-1, site, cast.get());
        if (arm.hasher) {
          const std::int64_t left = metrics_.local_windows - chunk.first_window - b;
          arm.hasher->add_last("logits", logits, *arm.backend, std::clamp<std::int64_t>(left, 0, end - b));
        }
        const Stopwatch watch(arm.metric_seconds, *arm.backend);
        measure_final_norm(arm, chunk.first_window, b, end);
        targets_ = upload_targets(*arm.backend);
        score_arm(arm, chunk, b, transferred(base_logits, *baseline_.backend, *arm.backend), logits);
      });
  }
}

/// The norm that lm_head reads, of windows [begin, end): made again, as it is small beside the logits.
void Lockstep::measure_final_norm(Arm& arm, std::int64_t first, std::int64_t begin, std::int64_t end) {
  NamedCounts counted;  // already, with the logits
  const DeviceTensor norm = arm.decoder->final_hidden(arm.backend->slice(arm.hidden, begin, end), counted);
  add_rows(arm, first + begin, {{-1, "final_norm", norm}});
  if (arm.dump) arm.dump("final_norm", arm.backend->download(norm));
}

/// Windows from b on, as many as there are logits of.
void Lockstep::score_arm(Arm& arm, const Chunk& chunk, std::int64_t b, const DeviceTensor& base_logits,
                         const DeviceTensor& logits) {
  const std::vector<kernels::TokenComparison> all = arm.backend->reductions().compare_logits(base_logits, logits, targets_);
  if (arm.dump) arm.dump("logits", arm.backend->download(logits));
  const std::size_t length = static_cast<std::size_t>(logits.shape[1]);
  for (std::int64_t w = 0; w < logits.shape[0]; ++w) {
    WindowTokens scored;
    scored.reserve(length);
    const std::int64_t window = chunk.first_window + b + w;
    const std::vector<bool>& mask = chunk.scored[static_cast<std::size_t>(b + w)];
    for (std::size_t t = 0; t < length; ++t) {
      const kernels::TokenComparison& token = all[static_cast<std::size_t>(w) * length + t];
      if (!mask[t]) continue;
      if (!std::isfinite(token.nll_test) || !std::isfinite(token.kl))
        return arm.fail(RunStatus::failed, std::format("non-finite logits: window {}, position {}: NLL {}, KL {}{}", window,
                                                       t, token.nll_test, token.kl, arm.origin_of(window)));
      scored.push_back(token);
    }
    arm.tokens.windows.push_back(std::move(scored));
  }
}

}  // namespace qfid::eval
