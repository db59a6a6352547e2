// The OPT family's tensor names (Hugging Face OPTForCausalLM and OPTModel; both prefixes), and the attention variants' own.
#include "eval/model/checkpoint.h"
#include "eval/model/decoder_weights.h"
#include "quant/core/error.h"

namespace qfid::eval {

using quant::Tensor;

namespace {

/// Loads tensors, or only checks that they could be; what is wrong is collected and thrown by finish().
class Loader {
 public:
  Loader(Checkpoint& checkpoint, std::string prefix, bool load)
      : checkpoint_(checkpoint), prefix_(std::move(prefix)), load_(load) {}

  Tensor get(const std::string& name, const std::vector<std::int64_t>& shape) { return get_full(prefix_ + name, shape); }
  Tensor get_full(const std::string& name, const std::vector<std::int64_t>& shape) {
    if (!checkpoint_.has(name)) {
      if (++missing_ <= most_named) names_ += (names_.empty() ? "" : ", ") + name;
      return {};
    }
    try {
      checkpoint_.check_f32(name, shape);
    } catch (const quant::Error& error) {
      if (++wrong_ <= most_named) lines_ += (lines_.empty() ? "" : "\n") + std::string(error.what());
      return {};
    }
    return load_ ? checkpoint_.load_f32(name, shape) : Tensor();
  }
  void finish() const {
    std::string text = lines_;
    if (wrong_ > most_named) text += "\nand " + std::to_string(wrong_ - most_named) + " more";
    if (missing_ > 0) text += (text.empty() ? "" : "\n") + checkpoint_.directory().string() + ": missing tensors: " + names_;
    if (missing_ > most_named) text += " and " + std::to_string(missing_ - most_named) + " more";
    if (!text.empty()) throw quant::Error(quant::ErrorKind::input, text);
  }

 private:
  static constexpr int most_named = 100;  // a configuration of 10,000 layers must not print a novel
  Checkpoint& checkpoint_;
  std::string prefix_;
  bool load_;
  std::string names_, lines_;
  int missing_ = 0, wrong_ = 0;
};

DecoderWeights::Layer load_layer(Loader& load, const ModelConfig& c, std::int64_t l) {
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

DecoderWeights read_opt(Checkpoint& checkpoint, const ModelConfig& config, bool with_data) {
  const bool bare = !checkpoint.has("model.decoder.embed_tokens.weight") && checkpoint.has("decoder.embed_tokens.weight");
  Loader load(checkpoint, bare ? "decoder." : "model.decoder.", with_data);
  DecoderWeights weights;
  weights.config = config;
  weights.embed_tokens = load.get("embed_tokens.weight", {config.vocab_size, config.hidden_size});
  weights.embed_positions = load.get("embed_positions.weight", {config.max_position_embeddings + 2, config.hidden_size});
  for (std::int64_t l = 0; l < config.num_hidden_layers; ++l) weights.layers.push_back(load_layer(load, config, l));
  weights.final_norm_gamma = load.get("final_layer_norm.weight", {config.hidden_size});
  weights.final_norm_beta = load.get("final_layer_norm.bias", {config.hidden_size});
  if (!config.tie_word_embeddings)
    weights.lm_head = load.get_full("lm_head.weight", {config.vocab_size, config.hidden_size});
  load.finish();
  weights.unused_tensors = checkpoint.unused();
  for (const std::string& name : weights.unused_tensors)
    if (name.find(".gate_proj.") != std::string::npos || name.ends_with("self_attn.sink"))
      throw quant::Error(quant::ErrorKind::input,
                         checkpoint.directory().string() + ": tensor \"" + name +
                             "\" changes the arithmetic, but config.json's attention object doesn't ask for it");
  return weights;
}

}  // namespace

DecoderWeights load_opt(Checkpoint& checkpoint, const ModelConfig& config) { return read_opt(checkpoint, config, true); }

std::vector<std::string> check_opt(Checkpoint& checkpoint, const ModelConfig& config) {
  return read_opt(checkpoint, config, false).unused_tensors;
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
