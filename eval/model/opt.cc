// The OPT family's tensor names (Hugging Face OPTForCausalLM and OPTModel; both prefixes), and the attention variants' own.
#include "eval/model/family.h"
#include "eval/model/tensor_loader.h"

namespace qfid::eval {

using quant::Tensor;

namespace {

DecoderWeights::Layer load_layer(TensorLoader& load, const ModelConfig& c, std::int64_t l) {
  const std::string p = "layers." + std::to_string(l) + ".", a = p + "self_attn.";
  const std::int64_t H = c.hidden_size, F = c.ffn_dim, heads = c.num_attention_heads;
  const auto bias = [&](const std::string& name, std::int64_t n) { return c.enable_bias ? load.get(name, {n}) : Tensor(); };
  DecoderWeights::Layer layer;
  layer.attn_norm_gamma = load.get(p + "self_attn_layer_norm.weight", {H});
  layer.attn_norm_beta = load.get(p + "self_attn_layer_norm.bias", {H});
  layer.q_w = load.get(a + "q_proj.weight", {H, H});
  layer.q_b = bias(a + "q_proj.bias", H);
  layer.k_w = load.get(a + "k_proj.weight", {H, H});
  layer.k_b = bias(a + "k_proj.bias", H);
  layer.v_w = load.get(a + "v_proj.weight", {H, H});
  layer.v_b = bias(a + "v_proj.bias", H);
  layer.out_w = load.get(a + "out_proj.weight", {H, H});
  layer.out_b = bias(a + "out_proj.bias", H);
  if (c.gate) {
    layer.gate_w = load.get(a + "gate_proj.weight", {heads, H});
    layer.gate_b = load.get(a + "gate_proj.bias", {heads});
  }
  if (c.learnable_sink) layer.sink = load.get(a + "sink", {heads});
  layer.ffn_norm_gamma = load.get(p + "final_layer_norm.weight", {H});
  layer.ffn_norm_beta = load.get(p + "final_layer_norm.bias", {H});
  layer.fc1_w = load.get(p + "fc1.weight", {F, H});
  layer.fc1_b = bias(p + "fc1.bias", F);
  layer.fc2_w = load.get(p + "fc2.weight", {H, F});
  layer.fc2_b = bias(p + "fc2.bias", H);
  return layer;
}

}  // namespace

DecoderWeights read_opt(Checkpoint& checkpoint, const ModelConfig& config, bool with_data) {
  const bool bare = !checkpoint.has("model.decoder.embed_tokens.weight") && checkpoint.has("decoder.embed_tokens.weight");
  TensorLoader load(checkpoint, bare ? "decoder." : "model.decoder.", with_data);
  DecoderWeights weights;
  weights.config = config;
  weights.embed_tokens = load.get("embed_tokens.weight", {config.vocab_size, config.hidden_size});
  weights.embed_positions =
      load.get("embed_positions.weight", {config.max_position_embeddings + config.position_offset, config.hidden_size});
  for (std::int64_t l = 0; l < config.num_hidden_layers; ++l) weights.layers.push_back(load_layer(load, config, l));
  weights.final_norm_gamma = load.get("final_layer_norm.weight", {config.hidden_size});
  weights.final_norm_beta = load.get("final_layer_norm.bias", {config.hidden_size});
  if (!config.tie_word_embeddings)
    weights.lm_head = load.get_full("lm_head.weight", {config.vocab_size, config.hidden_size});
  load.finish();
  return weights;
}

std::string opt_role(const std::string& tensor) {
  std::string name = tensor;
  for (const char* prefix : {"model.decoder.", "decoder."})
    if (name.starts_with(prefix)) {
      name.erase(0, std::string(prefix).size());
      break;
    }
  if (const std::size_t at = name.find("self_attn."); at != std::string::npos) name.erase(at, 10);
  return name == tensor && !name.starts_with("lm_head") ? "" : name;
}

}  // namespace qfid::eval
