#include "eval/experiment/footprint.h"

#include "eval/model/decoder.h"
#include "quant/quantize.h"

namespace qfid::eval {

namespace {

double stored_bytes(const quant::QuantScheme& scheme, const quant::Shape& shape, quant::Role role) {
  const double codes =
      static_cast<double>(shape.elements()) * static_cast<double>(quant::info(quant::storage(scheme.format)).bytes);
  if (!quant::is_scaled(scheme.format)) return codes;
  return codes + 4.0 * static_cast<double>(quant::granules(shape, scheme, role).scale_shape.elements());
}

}  // namespace

double weight_bytes(const ModelConfig& config, const DecoderPrecision& precision) {
  const auto hidden = static_cast<double>(config.hidden_size), layers = static_cast<double>(config.num_hidden_layers);
  const std::int64_t rows = config.vocab_size + config.max_position_embeddings + config.position_offset;
  double bytes = 4 * hidden * static_cast<double>(rows + config.type_vocab_size);
  bytes += 4 * hidden * (4 * layers + (config.causal || !config.has_head ? 2 : 4));            // norms
  if (!config.causal && config.has_head) bytes += 4 * static_cast<double>(config.vocab_size);  // lm_head's bias
  if (config.learnable_sink) bytes += 4 * layers * static_cast<double>(config.num_attention_heads);
  for (const ModuleProblem& entry : linear_problems(config, precision)) {
    const kernels::LinearProblem& p = entry.problem;
    const bool head = entry.module == "lm_head";
    if (head && config.tie_word_embeddings && p.weights.format == quant::Format::f32) continue;
    bytes += stored_bytes(p.weights, quant::Shape{1, p.out, 1, p.in}, quant::Role::weight);
    if (!head && (config.enable_bias || entry.module.ends_with("gate_proj"))) bytes += 4 * static_cast<double>(p.out);
  }
  return bytes;
}

double kv_bytes_per_token(const ModelConfig& config, const DecoderPrecision& precision) {
  const quant::Shape all{1, config.max_position_embeddings, config.num_attention_heads, config.head_dim()};
  double bytes = 0;
  for (const DecoderPrecision::Layer& layer : precision.layers)
    for (const quant::QuantScheme* scheme : {&layer.attention.k, &layer.attention.v})
      bytes += stored_bytes(*scheme, all, quant::Role::activation);
  return bytes / static_cast<double>(config.max_position_embeddings);
}

std::vector<Metric> footprint_metrics(const ModelConfig& config, const DecoderPrecision& precision) {
  return {{"weights.bytes", weight_bytes(config, precision), {}, "bytes", ""},
          {"kv_cache.bytes_per_token", kv_bytes_per_token(config, precision), {}, "bytes", ""}};
}

}  // namespace qfid::eval
