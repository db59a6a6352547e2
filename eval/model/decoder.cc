#include "eval/model/decoder.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "eval/model/simulation.h"

namespace qfid::eval {

using kernels::DeviceTensor;
using kernels::ExecutionMode;
using quant::Error;
using quant::ErrorKind;
using quant::Shape;
using quant::Tensor;

namespace {

quant::View<const float> view_or_empty(const Tensor& tensor) {
  return tensor.empty() ? quant::View<const float>() : tensor.view<float>();
}

std::string layer_module(int l, const char* name) { return "layers." + std::to_string(l) + "." + name; }

const std::vector<quant::Range>& ranges_at(const SiteRanges& ranges, const std::string& site) {
  static const std::vector<quant::Range> none;
  const auto found = ranges.find(site);
  return found == ranges.end() ? none : found->second;
}

void add_implementation(std::map<std::string, std::string>& all, const std::string& kind, const std::string& name) {
  std::string& entry = all[kind];
  if (name.empty() || entry.find(name) != std::string::npos) return;
  entry += (entry.empty() ? "" : " | ") + name;
}

}  // namespace

kernels::AttentionProblem attention_problem(const ModelConfig& config, const kernels::AttentionSchemes& schemes,
                                            Execution execution) {
  kernels::AttentionProblem problem;
  problem.q_heads = problem.kv_heads = config.num_attention_heads;
  problem.head_dim = problem.v_head_dim = config.head_dim();
  problem.causal = config.causal;
  problem.gate = config.gate;
  problem.learnable_sink = config.learnable_sink;
  problem.schemes = schemes;
  const bool full = schemes == kernels::AttentionSchemes{};  // f32 has nothing to emulate
  problem.mode = full ? ExecutionMode::real : execution.mode;
  problem.fast_accum = !full && execution.fast_accum;
  return problem;
}

std::vector<ModuleProblem> linear_problems(const ModelConfig& config, const DecoderPrecision& precision) {
  std::vector<ModuleProblem> all;
  const std::int64_t hidden = config.hidden_size;
  const auto add = [&](const std::string& module, std::int64_t in, std::int64_t out, const LinearSchemes& schemes) {
    const bool full = schemes == LinearSchemes{};
    all.push_back({module,
                   {in, out, schemes.weights, schemes.activations, full ? ExecutionMode::real : precision.mode,
                    !full && precision.fast_accum}});
  };
  for (int l = 0; l < static_cast<int>(precision.layers.size()); ++l) {
    const DecoderPrecision::Layer& layer = precision.layers[static_cast<std::size_t>(l)];
    add(layer_module(l, "q_proj"), hidden, hidden, layer.q_proj);
    add(layer_module(l, "k_proj"), hidden, hidden, layer.k_proj);
    add(layer_module(l, "v_proj"), hidden, hidden, layer.v_proj);
    add(layer_module(l, "out_proj"), hidden, hidden, layer.out_proj);
    add(layer_module(l, "fc1"), hidden, config.ffn_dim, layer.fc1);
    add(layer_module(l, "fc2"), config.ffn_dim, hidden, layer.fc2);
    if (config.gate) add(layer_module(l, "gate_proj"), hidden, config.num_attention_heads, layer.gate_proj);
  }
  if (!config.has_head) return all;
  if (!config.causal) add("head_dense", hidden, hidden, precision.head_dense);
  add("lm_head", hidden, config.vocab_size, precision.lm_head);
  return all;
}

DecoderResources::DecoderResources(kernels::Backend& backend, const DecoderWeights& weights)
    : backend_(backend), weights_(weights) {
  for (const DecoderWeights::Layer& layer : weights.layers) {
    layers_.push_back({upload_norm(layer.attn_norm_gamma, layer.attn_norm_beta),
                       upload_norm(layer.ffn_norm_gamma, layer.ffn_norm_beta),
                       layer.sink.empty() ? DeviceTensor{} : backend.upload(layer.sink)});
  }
  if (weights.config.has_head) final_norm_ = upload_norm(weights.final_norm_gamma, weights.final_norm_beta);
  if (!weights.token_types.empty()) {
    token_types_ = backend.upload(weights.token_types);
    embed_norm_ = upload_norm(weights.embed_norm_gamma, weights.embed_norm_beta);
  }
  tokens_ = backend.upload(weights.embed_tokens);
  positions_ = backend.upload(weights.embed_positions);
}

DecoderResources::Norm DecoderResources::upload_norm(const Tensor& gamma, const Tensor& beta) {
  return {backend_.upload(gamma), backend_.upload(beta)};
}

std::shared_ptr<kernels::PreparedLinear> DecoderResources::linear(const std::string& module, const LinearSchemes& schemes,
                                                                  Execution execution, const Tensor& weight,
                                                                  const Tensor& bias, const SiteRanges& ranges, bool keep) {
  const bool full = schemes == LinearSchemes{};
  if (full) execution = {};  // f32 has nothing to emulate
  static const SiteRanges none;
  const std::vector<quant::Range>& site = ranges_at(full ? none : ranges, module);
  std::string key = module + " " + quant::to_string(schemes.weights) + " " + quant::to_string(schemes.activations) + " " +
                    std::string(kernels::to_string(execution.mode)) + (execution.fast_accum ? " fast_accum" : "");
  for (const quant::Range& range : site) key += " " + std::to_string(range.min) + ":" + std::to_string(range.max);
  if (const auto found = packed_.find(key); found != packed_.end()) return found->second;
  const kernels::LinearProblem problem{weight.shape()[1],   weight.shape()[0], schemes.weights,
                                       schemes.activations, execution.mode,    execution.fast_accum};
  if (const kernels::Support support = backend_.supports(problem); !support)
    throw Error(ErrorKind::unavailable, module + ": " + problem.to_string() + " is not supported by backend " +
                                            backend_.info().name + ": " + support.reason);
  std::shared_ptr<kernels::PreparedLinear> linear =
      backend_.prepare(problem, {weight.view<float>(), view_or_empty(bias), site});
  if (keep) packed_.emplace(std::move(key), linear);
  return linear;
}

Decoder::Decoder(DecoderResources& resources, const DecoderPrecision& precision, const SiteRanges& ranges, Packing packing)
    : resources_(resources), precision_(precision), ranges_(ranges), packing_(packing) {
  const DecoderWeights& weights = resources.weights();
  quant::require(precision.layers.size() == weights.layers.size(), "decoder: precision names another number of layers");
  if (packing == Packing::by_layer) return;
  for (int l = 0; l < layers(); ++l) layers_.push_back(packed_layer(l));
  if (!weights.config.has_head) return;
  const Tensor& head = weights.lm_head.empty() ? weights.embed_tokens : weights.lm_head;
  lm_head_ = resources.linear("lm_head", precision.lm_head, precision.execution(), head, weights.lm_head_b, ranges, true);
  if (!weights.head_dense_w.empty())
    head_dense_ = resources.linear("head_dense", precision.head_dense, precision.execution(), weights.head_dense_w,
                                   weights.head_dense_b, ranges, true);
}

Decoder::Layer& Decoder::use(int l) {
  if (packing_ == Packing::ahead) return layers_[static_cast<std::size_t>(l)];
  if (in_use_ != l) {
    layers_.clear();
    layers_.push_back(packed_layer(l));
    in_use_ = l;
  }
  return layers_[0];
}

Decoder::Layer Decoder::packed_layer(int l) const {
  const DecoderPrecision::Layer& precision = precision_.layers[static_cast<std::size_t>(l)];
  const Execution execution = precision_.execution();
  const SiteRanges& ranges = ranges_;
  const DecoderWeights::Layer& w = resources_.weights().layers[static_cast<std::size_t>(l)];
  const auto linear = [&](const char* name, const LinearSchemes& schemes, const Tensor& weight, const Tensor& bias) {
    return resources_.linear(layer_module(l, name), schemes, execution, weight, bias, ranges, packing_ == Packing::ahead);
  };
  Layer layer;
  layer.q = linear("q_proj", precision.q_proj, w.q_w, w.q_b);
  layer.k = linear("k_proj", precision.k_proj, w.k_w, w.k_b);
  layer.v = linear("v_proj", precision.v_proj, w.v_w, w.v_b);
  layer.out = linear("out_proj", precision.out_proj, w.out_w, w.out_b);
  layer.fc1 = linear("fc1", precision.fc1, w.fc1_w, w.fc1_b);
  layer.fc2 = linear("fc2", precision.fc2, w.fc2_w, w.fc2_b);
  if (!w.gate_w.empty()) layer.gate = linear("gate_proj", precision.gate_proj, w.gate_w, w.gate_b);

  const kernels::AttentionProblem problem = attention_problem(resources_.weights().config, precision.attention, execution);
  const std::string site = layer_module(l, "attention");
  if (const kernels::Support support = backend().supports(problem); !support)
    throw Error(ErrorKind::unavailable, site + ": " + problem.to_string() + " is not supported by backend " +
                                            backend().info().name + ": " + support.reason);
  layer.attention = backend().prepare(problem, {ranges_at(ranges, site + ".q"), ranges_at(ranges, site + ".k"),
                                                ranges_at(ranges, site + ".v"), ranges_at(ranges, site + ".output")});
  return layer;
}

DeviceTensor Decoder::run(const char* name, const std::shared_ptr<kernels::PreparedLinear>& linear, const DeviceTensor& src,
                          NamedCounts& counts) {
  return run(name, linear, src, {}, counts).y;
}

kernels::LinearResult Decoder::run(const char* name, const std::shared_ptr<kernels::PreparedLinear>& linear,
                                   const DeviceTensor& src, const kernels::LinearTail& tail, NamedCounts& counts) {
  kernels::LinearResult result = backend().linear_then(*linear, src, tail);
  if (quant::is_scaled(linear->problem().activations.format)) counts.emplace_back(name, result.counts);
  return result;
}

DeviceTensor Decoder::activated(int l, const DeviceTensor& ffn_in, NamedCounts& counts) {
  const std::shared_ptr<kernels::PreparedLinear>& fc1 = use(l).fc1;
  const kernels::Activation kind = resources_.weights().config.activation;
  if (undisturbed()) return run("fc1", fc1, ffn_in, {.activation = kind}, counts).y;
  return rounded(l, "fc1", backend().activation(module(l, "fc1", fc1, ffn_in, counts), kind));
}

kernels::LinearResult Decoder::added(int l, const char* name, const std::shared_ptr<kernels::PreparedLinear>& linear,
                                     const DeviceTensor& src, const DeviceTensor& residual, const char* sum_site,
                                     NamedCounts& counts) {
  if (undisturbed()) return run(name, linear, src, {.residual = residual}, counts);
  kernels::LinearResult result;
  result.y = rounded(l, name, module(l, name, linear, src, counts));
  result.sum = rounded(l, sum_site, backend().add(residual, result.y));
  return result;
}

DeviceTensor Decoder::heads(const DeviceTensor& x) const {
  const ModelConfig& config = resources_.weights().config;
  return x.reshaped(Shape{x.shape[0], x.shape[1], config.num_attention_heads, config.head_dim()});
}

DeviceTensor Decoder::embed(const DeviceTensor& ids) {
  const std::int64_t batch = ids.shape[0], length = ids.shape[1];
  Tensor positions(quant::DType::i32, Shape{batch, length});
  auto rows = positions.view<std::int32_t>();
  const ModelConfig& config = resources_.weights().config;
  for (std::int64_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int32_t>(i % length + config.position_offset);
  kernels::Backend& b = backend();
  DeviceTensor hidden = b.embedding(ids, resources_.token_table());
  if (resources_.token_types().defined()) {
    const Tensor type_0 = Tensor::zeros(quant::DType::i32, Shape{batch, length});
    hidden = rounded("embed_type_sum", b.add(hidden, b.embedding(b.upload(type_0), resources_.token_types())));
  }
  hidden = rounded("embed_sum", b.add(hidden, b.embedding(b.upload(positions), resources_.position_table())));
  const DecoderResources::Norm& norm = resources_.embed_norm();
  return norm.gamma.defined() ? rounded("embed_norm", b.layer_norm(hidden, norm.gamma, norm.beta, config.norm_eps)) : hidden;
}

DeviceTensor Decoder::rounded(const std::string& site, DeviceTensor x) const {
  return simulation_ == nullptr ? x : simulation_->at(site, x);
}

DeviceTensor Decoder::rounded(int l, const char* name, DeviceTensor x) const {
  return simulation_ == nullptr ? x : simulation_->at(layer_module(l, name), x);
}

DeviceTensor Decoder::module(int l, const char* name, const std::shared_ptr<kernels::PreparedLinear>& linear,
                             const DeviceTensor& src, NamedCounts& counts) {
  const DeviceTensor y = run(name, linear, src, counts);
  return intervention_ == nullptr ? y : intervention_->output(l, name, y);
}

void Decoder::attend(int l, const DeviceTensor& attn_in, LayerTrace& trace, kernels::TapSink* taps) {
  Layer& layer = use(l);
  const auto& gate = resources_.weights().config.gate;
  kernels::AttentionInputs inputs;
  inputs.q = heads(trace.q);
  inputs.k = heads(trace.k);
  inputs.v = heads(trace.v);
  if (gate) {
    trace.gate_logits =
        module(l, "gate_proj", layer.gate, gate->input == kernels::GateInput::value ? trace.v : attn_in, trace.codes);
    inputs.gate_logits = trace.gate_logits;
  }
  inputs.sink = resources_.layer(l).sink;
  inputs.key_mask = trace.key_mask;
  if (intervention_ != nullptr) intervention_->attention(l, inputs);
  trace.attention =
      simulation_ == nullptr
          ? backend().attention_later(*layer.attention, inputs, taps)
          : kernels::PendingAttention(simulation_->attention(layer_module(l, ""), layer.attention->problem(), inputs, taps));
  const DeviceTensor& output = trace.attention.output();
  trace.output = intervention_ == nullptr ? output : intervention_->output(l, "attention", output);
  const kernels::AttentionSchemes& schemes = layer.attention->problem().schemes;
  for (const auto& [name, scheme, operand] : {std::tuple{"attention.q", &schemes.q, &kernels::AttentionResult::q},
                                              {"attention.k", &schemes.k, &kernels::AttentionResult::k},
                                              {"attention.v", &schemes.v, &kernels::AttentionResult::v}})
    if (quant::is_scaled(scheme->format)) trace.codes.emplace_back(name, trace.attention.counts(operand));
}

LayerTrace Decoder::layer(int l, const DeviceTensor& hidden, kernels::TapSink* taps, const DeviceTensor& key_mask) {
  Layer& layer = use(l);
  const DecoderResources::Layer& norms = resources_.layer(l);
  const ModelConfig& config = resources_.weights().config;
  kernels::Backend& b = backend();
  const auto normed = [&](const DeviceTensor& x, const DecoderResources::Norm& norm, const char* name, bool here) {
    return here ? rounded(l, name, b.layer_norm(x, norm.gamma, norm.beta, config.norm_eps)) : x;
  };
  LayerTrace trace;
  trace.key_mask = key_mask;
  trace.hidden_in = hidden;
  trace.attn_in = normed(hidden, norms.attn_norm, "attn_norm", !config.post_norm);
  project(l, trace.attn_in, trace);
  attend(l, trace.attn_in, trace, taps);
  const kernels::LinearResult attn =
      added(l, "out_proj", layer.out, trace.output.reshaped(hidden.shape), hidden, "attn_residual", trace.codes);
  trace.attn_out = attn.y;
  const DeviceTensor middle = normed(attn.sum, norms.attn_norm, "attn_norm", config.post_norm);
  trace.ffn_in = normed(middle, norms.ffn_norm, "ffn_norm", !config.post_norm);
  trace.ffn_act = activated(l, trace.ffn_in, trace.codes);
  const kernels::LinearResult ffn = added(l, "fc2", layer.fc2, trace.ffn_act, middle, "ffn_residual", trace.codes);
  trace.ffn_out = ffn.y;
  trace.residual = normed(ffn.sum, norms.ffn_norm, "ffn_norm", config.post_norm);
  return trace;
}

void Decoder::project(int l, const DeviceTensor& attn_in, LayerTrace& trace) {
  Layer& layer = use(l);
  trace.q = rounded(l, "q_proj", module(l, "q_proj", layer.q, attn_in, trace.codes));
  trace.k = rounded(l, "k_proj", module(l, "k_proj", layer.k, attn_in, trace.codes));
  trace.v = rounded(l, "v_proj", module(l, "v_proj", layer.v, attn_in, trace.codes));
}

LayerTrace Decoder::local(int l, const LayerTrace& baseline, kernels::TapSink* taps) {
  Layer& layer = use(l);
  LayerTrace trace;
  // Attention is fed with the baseline's q, k, v; the projections' own local errors are measured beside it.
  trace.q = baseline.q;
  trace.k = baseline.k;
  trace.v = baseline.v;
  trace.key_mask = baseline.key_mask;
  attend(l, baseline.attn_in, trace, taps);
  project(l, baseline.attn_in, trace);
  trace.attn_out =
      rounded(l, "out_proj", run("out_proj", layer.out, baseline.output.reshaped(baseline.hidden_in.shape), trace.codes));
  trace.ffn_act = rounded(
      l, "fc1",
      backend().activation(run("fc1", layer.fc1, baseline.ffn_in, trace.codes), resources_.weights().config.activation));
  trace.ffn_out = rounded(l, "fc2", run("fc2", layer.fc2, baseline.ffn_act, trace.codes));
  return trace;
}

DeviceTensor Decoder::final_hidden(const DeviceTensor& hidden, NamedCounts& counts) {
  quant::require(has_head(), "decoder: the model has no head");
  const ModelConfig& config = resources_.weights().config;
  const DecoderResources::Norm& norm = resources_.final_norm();
  if (!head_dense_) return rounded("final_norm", backend().layer_norm(hidden, norm.gamma, norm.beta, config.norm_eps));
  const DeviceTensor transformed = backend().activation(run("head_dense", head_dense_, hidden, counts), config.activation);
  return backend().layer_norm(transformed, norm.gamma, norm.beta, config.norm_eps);
}

DeviceTensor Decoder::last_hidden(const DeviceTensor& hidden) {
  if (!resources_.weights().config.causal) return hidden;
  NamedCounts none;  // a decoder's final norm casts nothing
  return final_hidden(hidden, none);
}

DeviceTensor Decoder::logits(const DeviceTensor& hidden, NamedCounts& counts) {
  quant::require(lm_head_ != nullptr, "decoder: without a head, or packed by layer, it has no logits");
  return run("lm_head", lm_head_, final_hidden(hidden, counts), counts);
}

DeviceTensor Decoder::key_mask(const Tensor& ids) const {
  const ModelConfig& config = resources_.weights().config;
  const auto all = ids.view<std::int32_t>().span();
  const auto pad = static_cast<std::int32_t>(config.pad_token_id);
  if (config.causal || std::find(all.begin(), all.end(), pad) == all.end()) return {};
  Tensor mask(quant::DType::u8, ids.shape());
  std::transform(all.begin(), all.end(), mask.view<std::uint8_t>().data(),
                 [&](std::int32_t id) { return static_cast<std::uint8_t>(id != pad); });
  return backend().upload(mask);
}

std::map<std::string, std::string> Decoder::implementations() const {
  std::map<std::string, std::string> all;
  for (const Layer& layer : layers_) {
    add_implementation(all, "q_proj", layer.q->implementation());
    add_implementation(all, "k_proj", layer.k->implementation());
    add_implementation(all, "v_proj", layer.v->implementation());
    add_implementation(all, "out_proj", layer.out->implementation());
    add_implementation(all, "fc1", layer.fc1->implementation());
    add_implementation(all, "fc2", layer.fc2->implementation());
    if (layer.gate) add_implementation(all, "gate_proj", layer.gate->implementation());
    add_implementation(all, "attention", layer.attention->implementation());
  }
  if (head_dense_) add_implementation(all, "head_dense", head_dense_->implementation());
  if (lm_head_) add_implementation(all, "lm_head", lm_head_->implementation());
  return all;
}

}  // namespace qfid::eval
