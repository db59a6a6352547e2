// The BERT family's tensor names (Hugging Face BertForMaskedLM and BertModel; older files say gamma and beta for a norm's
// weight and bias), and the attention variants' own. The pooler and the next-sentence head aren't used.
#include <array>

#include "eval/model/family.h"
#include "eval/model/tensor_loader.h"

namespace qfid::eval {

using quant::Tensor;

namespace {

void load_norm(TensorLoader& load, const std::string& name, std::int64_t n, bool prefixed, Tensor& gamma, Tensor& beta) {
  const auto has = [&](const std::string& part) { return prefixed ? load.has(name + part) : load.has_full(name + part); };
  const auto get = [&](const std::string& part) {
    return prefixed ? load.get(name + part, {n}) : load.get_full(name + part, {n});
  };
  const bool old = !has(".weight") && has(".gamma");
  gamma = get(old ? ".gamma" : ".weight");
  beta = get(old ? ".beta" : ".bias");
}

DecoderWeights::Layer load_layer(TensorLoader& load, const ModelConfig& c, std::int64_t l) {
  const std::string p = "encoder.layer." + std::to_string(l) + ".", self = p + "attention.self.",
                    after = p + "attention.output.";
  const std::int64_t H = c.hidden_size, F = c.ffn_dim, heads = c.num_attention_heads;
  DecoderWeights::Layer layer;
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in, Tensor& w, Tensor& b) {
    w = load.get(name + ".weight", {out, in});
    b = load.get(name + ".bias", {out});
  };
  linear(self + "query", H, H, layer.q_w, layer.q_b);
  linear(self + "key", H, H, layer.k_w, layer.k_b);
  linear(self + "value", H, H, layer.v_w, layer.v_b);
  if (c.gate) linear(self + "gate_proj", heads, H, layer.gate_w, layer.gate_b);
  if (c.learnable_sink) layer.sink = load.get(self + "sink", {heads});
  linear(after + "dense", H, H, layer.out_w, layer.out_b);
  load_norm(load, after + "LayerNorm", H, true, layer.attn_norm_gamma, layer.attn_norm_beta);
  linear(p + "intermediate.dense", F, H, layer.fc1_w, layer.fc1_b);
  linear(p + "output.dense", H, F, layer.fc2_w, layer.fc2_b);
  load_norm(load, p + "output.LayerNorm", H, true, layer.ffn_norm_gamma, layer.ffn_norm_beta);
  return layer;
}

/// decoder(LayerNorm(act(dense(x)))), decoder tied to the word embeddings or its own. False: the checkpoint has no head.
void load_head(TensorLoader& load, const ModelConfig& c, DecoderWeights& weights) {
  const std::string head = "cls.predictions.";
  const std::int64_t H = c.hidden_size;
  weights.head_dense_w = load.get_full(head + "transform.dense.weight", {H, H});
  weights.head_dense_b = load.get_full(head + "transform.dense.bias", {H});
  load_norm(load, head + "transform.LayerNorm", H, false, weights.final_norm_gamma, weights.final_norm_beta);
  const std::string bias = load.has_full(head + "bias") ? head + "bias" : head + "decoder.bias";
  weights.lm_head_b = load.get_full(load.has_full(bias) ? bias : head + "bias", {c.vocab_size});
  if (!c.tie_word_embeddings) weights.lm_head = load.get_full(head + "decoder.weight", {c.vocab_size, H});
}

}  // namespace

bool bert_has_head(const Checkpoint& checkpoint) {
  for (const std::string& name : checkpoint.names())
    if (name.starts_with("cls.predictions.")) return true;
  return false;
}

DecoderWeights read_bert(Checkpoint& checkpoint, const ModelConfig& config, bool with_data) {
  const bool bare =
      !checkpoint.has("bert.embeddings.word_embeddings.weight") && checkpoint.has("embeddings.word_embeddings.weight");
  TensorLoader load(checkpoint, bare ? "" : "bert.", with_data);
  const std::int64_t H = config.hidden_size;
  DecoderWeights weights;
  weights.embed_tokens = load.get("embeddings.word_embeddings.weight", {config.vocab_size, H});
  weights.embed_positions = load.get("embeddings.position_embeddings.weight", {config.max_position_embeddings, H});
  weights.token_types = load.get("embeddings.token_type_embeddings.weight", {config.type_vocab_size, H});
  load_norm(load, "embeddings.LayerNorm", H, true, weights.embed_norm_gamma, weights.embed_norm_beta);
  for (std::int64_t l = 0; l < config.num_hidden_layers; ++l) weights.layers.push_back(load_layer(load, config, l));
  if (bert_has_head(checkpoint)) load_head(load, config, weights);
  load.finish();
  return weights;
}

std::string bert_role(const std::string& tensor) {
  std::string name = tensor.starts_with("bert.") ? tensor.substr(5) : tensor;
  // Longest first; a name that holds one of the left is called the right.
  constexpr std::array<std::array<const char*, 2>, 20> names{{{"cls.predictions.transform.dense", "head_dense"},
                                                              {"cls.predictions.transform.LayerNorm", "head_norm"},
                                                              {"cls.predictions.decoder", "lm_head"},
                                                              {"cls.predictions.bias", "lm_head.bias"},
                                                              {"embeddings.word_embeddings", "embed_tokens"},
                                                              {"embeddings.position_embeddings", "embed_positions"},
                                                              {"embeddings.token_type_embeddings", "token_types"},
                                                              {"embeddings.LayerNorm", "embed_norm"},
                                                              {"encoder.layer.", "layers."},
                                                              {"attention.self.query", "q_proj"},
                                                              {"attention.self.key", "k_proj"},
                                                              {"attention.self.value", "v_proj"},
                                                              {"attention.self.gate_proj", "gate_proj"},
                                                              {"attention.self.sink", "sink"},
                                                              {"attention.output.dense", "out_proj"},
                                                              {"attention.output.LayerNorm", "attn_norm"},
                                                              {"intermediate.dense", "fc1"},
                                                              {"output.dense", "fc2"},
                                                              {"output.LayerNorm", "ffn_norm"},
                                                              {"LayerNorm", "norm"}}};
  bool known = false;
  for (const auto& [theirs, ours] : names)
    if (const std::size_t at = name.find(theirs); at != std::string::npos) {
      name.replace(at, std::string(theirs).size(), ours);
      known = true;
    }
  if (!known) return "";
  for (const auto& [old, now] : {std::pair{".gamma", ".weight"}, std::pair{".beta", ".bias"}})
    if (name.ends_with(old)) name.replace(name.size() - std::string(old).size(), std::string::npos, now);
  return name;
}

}  // namespace qfid::eval
