// What a decoder is made of: its configuration (config.json, checked) and its tensors in f32.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/backend.h"
#include "quant/core/tensor.h"

namespace qfid::eval {

struct ModelConfig {
  std::string family = "opt";
  std::int64_t vocab_size = 0, hidden_size = 0, num_hidden_layers = 0, ffn_dim = 0, num_attention_heads = 0,
               max_position_embeddings = 0, bos_token_id = 2;
  bool tie_word_embeddings = true, enable_bias = true;
  kernels::Activation activation = kernels::Activation::relu;
  std::optional<kernels::Gate> gate;
  bool learnable_sink = false;
  std::int64_t head_dim() const { return hidden_size / num_attention_heads; }
};

/// Reads DIRECTORY/config.json. Error{input} with every problem at once, each "PATH: key: what, expected ..., found ...".
ModelConfig read_config(const std::filesystem::path& directory);

/// Linear weights are [out, in]; an absent tensor (no bias, no gate, tied head) is empty.
struct DecoderWeights {
  ModelConfig config;
  quant::Tensor embed_tokens;     ///< [vocab, hidden]
  quant::Tensor embed_positions;  ///< [max_position_embeddings + 2, hidden]
  struct Layer {
    quant::Tensor attn_norm_gamma, attn_norm_beta, q_w, q_b, k_w, k_b, v_w, v_b, out_w, out_b, gate_w, gate_b, sink,
        ffn_norm_gamma, ffn_norm_beta, fc1_w, fc1_b, fc2_w, fc2_b;
  };
  std::vector<Layer> layers;
  quant::Tensor final_norm_gamma, final_norm_beta, lm_head;
  std::vector<std::string> unused_tensors;
};

class Checkpoint;
/// Every tensor either used or named as unused; all missing ones named in one error. A model whose arithmetic would need an
/// unused tensor of a known kind (a gate, a sink) is an error too.
DecoderWeights load_opt(Checkpoint& checkpoint, const ModelConfig& config);
/// Refuses what load_opt refuses, without reading a tensor's data; returns the unused tensors.
std::vector<std::string> check_opt(Checkpoint& checkpoint, const ModelConfig& config);

/// What each tensor of the checkpoint is to the model: HF name -> module path ("layers.0.q_proj.weight") or "".
std::string opt_role(const std::string& tensor);

}  // namespace qfid::eval
