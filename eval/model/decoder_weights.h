// What a model is made of: its configuration (config.json, checked) and its tensors in f32. Decoders (OPT) and encoders
// (BERT) differ in where norms stand, what is embedded, whether a query sees later keys, and in their head.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/backend.h"
#include "quant/core/input_file.h"
#include "quant/core/tensor.h"

namespace qfid::eval {

struct ModelConfig {
  std::string family = "opt";  ///< or "bert"
  std::int64_t vocab_size = 0, hidden_size = 0, num_hidden_layers = 0, ffn_dim = 0, num_attention_heads = 0,
               max_position_embeddings = 0, bos_token_id = 2;
  bool tie_word_embeddings = true, enable_bias = true;
  kernels::Activation activation = kernels::Activation::relu;
  bool causal = true;                ///< false: an encoder, every query sees every key
  bool post_norm = false;            ///< norms stand behind the residual sums instead of before attention and FFN
  float norm_eps = 1e-5F;            ///< OPT's, not in its config.json
  std::int64_t position_offset = 2;  ///< rows of the position table before position 0
  std::int64_t type_vocab_size = 0;  ///< token types; only type 0 is used. 0 = the family has none
  std::int64_t pad_token_id = 1;     ///< encoders: keys with this token are masked
  std::optional<kernels::Gate> gate;
  bool learnable_sink = false;
  bool has_head = true;  ///< false: an encoder that scores no tokens. No config.json says it: has_head(), load_weights do
  std::int64_t head_dim() const { return hidden_size / num_attention_heads; }
};

/// Reads DIRECTORY/config.json. Error{input} with every problem at once, each "PATH: key: what, expected ..., found ...".
ModelConfig read_config(const std::filesystem::path& directory);
ModelConfig read_config(const quant::FileContent& file);

/// Linear weights are [out, in]; an absent tensor (no bias, no gate, tied head) is empty.
struct DecoderWeights {
  ModelConfig config;
  quant::Tensor embed_tokens;                       ///< [vocab, hidden]
  quant::Tensor embed_positions;                    ///< [max_position_embeddings + position_offset, hidden]
  quant::Tensor token_types;                        ///< [type_vocab_size, hidden], encoders
  quant::Tensor embed_norm_gamma, embed_norm_beta;  ///< [hidden], encoders
  struct Layer {
    quant::Tensor attn_norm_gamma, attn_norm_beta, q_w, q_b, k_w, k_b, v_w, v_b, out_w, out_b, gate_w, gate_b, sink,
        ffn_norm_gamma, ffn_norm_beta, fc1_w, fc1_b, fc2_w, fc2_b;
  };
  std::vector<Layer> layers;
  /// What stands before the head: a decoder's final norm, or an encoder's norm behind head_dense and the activation.
  quant::Tensor final_norm_gamma, final_norm_beta;
  quant::Tensor head_dense_w, head_dense_b;  ///< [hidden, hidden], [hidden], encoders
  quant::Tensor lm_head, lm_head_b;
  std::vector<std::string> unused_tensors;
};

class Checkpoint;
/// Every tensor either used or named as unused; all missing ones named in one error. A model whose arithmetic would need an
/// unused tensor of a known kind (a gate, a sink) is an error too.
DecoderWeights load_weights(Checkpoint& checkpoint, const ModelConfig& config);
/// Refuses what load_weights refuses, without reading a tensor's data; returns the unused tensors.
std::vector<std::string> check_weights(Checkpoint& checkpoint, const ModelConfig& config);

/// Whether there is a head that scores tokens; a decoder always has one.
bool has_head(const Checkpoint& checkpoint, const ModelConfig& config);

/// What a tensor of the checkpoint is to the model: Hugging Face name -> module path ("layers.0.q_proj.weight") or "".
std::string tensor_role(const ModelConfig& config, const std::string& tensor);

}  // namespace qfid::eval
