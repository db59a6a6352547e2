// Checkpoints made byte by byte, independent of the reader: safetensors files and a decoder of one layer that runs in
// microseconds.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "quant/core/random.h"
#include "tests/support/temporary_directory.h"

namespace qfid::tests {

template <class T>
std::string little_endian(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// Header size, header, data: whatever they hold.
inline std::string raw_safetensors(const std::string& header, const std::string& data = "") {
  return little_endian(std::vector<std::uint64_t>{header.size()}) + header + data;
}

struct RawTensor {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string data;
};
using RawTensors = std::map<std::string, RawTensor>;

inline std::string safetensors(const RawTensors& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {data.size(), data.size() + tensor.data.size()}}};
    data += tensor.data;
  }
  return raw_safetensors(header.dump(), data);
}

/// f32 values whose low 16 bits are zero and which f16 holds too: the same in every loadable dtype.
inline std::vector<float> coarse_values(std::int64_t n, std::uint64_t seed) {
  quant::Random random(seed);
  std::vector<float> values;
  for (std::int64_t i = 0; i < n; ++i) values.push_back(static_cast<float>(static_cast<int>(random.normal() * 32)) / 64.0F);
  return values;
}

/// As tests/eval/model/golden/make_bert.py's values(): multiples of 1/4096 within [-1/8, 1/8), plus `offset`.
inline std::vector<float> formula_values(std::uint32_t index, std::int64_t n, float offset = 0) {
  std::vector<float> values;
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(n); ++i) {
    std::uint32_t u = i * 1103515245U + index * 12345U + 977U;
    u ^= u >> 16;
    u *= 2246822519U;
    u ^= u >> 13;
    values.push_back(static_cast<float>(static_cast<int>(u & 1023U) - 512) / 4096.0F + offset);
  }
  return values;
}

struct BertSizes {
  std::int64_t vocab, hidden, heads, ffn;
};
inline nlohmann::json bert_config(const BertSizes& s) {
  return {{"model_type", "bert"},          {"vocab_size", s.vocab},          {"hidden_size", s.hidden},
          {"num_hidden_layers", 2},        {"num_attention_heads", s.heads}, {"intermediate_size", s.ffn},
          {"max_position_embeddings", 16}, {"hidden_act", "gelu"},           {"pad_token_id", 0}};
}

/// Two layers in f32, weights by formula in the order of the names; with `head` those of BertForMaskedLM.
inline RawTensors bert_tensors(const BertSizes& s, bool head) {
  std::map<std::string, std::vector<std::int64_t>> shapes;
  const std::string p = head ? "bert." : "";
  const auto norm = [&](const std::string& name) { shapes[name + ".weight"] = shapes[name + ".bias"] = {s.hidden}; };
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    shapes[name + ".weight"] = {out, in};
    shapes[name + ".bias"] = {out};
  };
  shapes[p + "embeddings.word_embeddings.weight"] = {s.vocab, s.hidden};
  shapes[p + "embeddings.position_embeddings.weight"] = {16, s.hidden};
  shapes[p + "embeddings.token_type_embeddings.weight"] = {2, s.hidden};
  norm(p + "embeddings.LayerNorm");
  for (int l = 0; l < 2; ++l) {
    const std::string layer = p + "encoder.layer." + std::to_string(l) + ".";
    for (const char* name : {"query", "key", "value"}) linear(layer + "attention.self." + name, s.hidden, s.hidden);
    linear(layer + "attention.output.dense", s.hidden, s.hidden);
    norm(layer + "attention.output.LayerNorm");
    linear(layer + "intermediate.dense", s.ffn, s.hidden);
    linear(layer + "output.dense", s.hidden, s.ffn);
    norm(layer + "output.LayerNorm");
  }
  if (head) {
    linear("cls.predictions.transform.dense", s.hidden, s.hidden);
    norm("cls.predictions.transform.LayerNorm");
    shapes["cls.predictions.bias"] = {s.vocab};
  }
  RawTensors all;
  std::uint32_t index = 0;
  for (const auto& [name, shape] : shapes) {
    std::int64_t n = 1;
    for (std::int64_t dim : shape) n *= dim;
    const bool gamma = name.find("LayerNorm.weight") != std::string::npos;
    all[name] = {"F32", shape, little_endian(formula_values(index++, n, gamma ? 1 : 0))};
  }
  return all;
}

inline nlohmann::json tiny_config() {
  return {{"model_type", "opt"},
          {"vocab_size", 16},
          {"hidden_size", 8},
          {"num_hidden_layers", 1},
          {"ffn_dim", 16},
          {"num_attention_heads", 2},
          {"max_position_embeddings", 8},
          {"activation_function", "relu"}};
}

inline RawTensors tiny_tensors(const std::string& prefix = "model.decoder.") {
  RawTensors all;
  std::uint64_t seed = 1;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    std::int64_t n = 1;
    for (std::int64_t dim : shape) n *= dim;
    all[prefix + name] = {"F32", shape, little_endian(coarse_values(n, seed++))};
  };
  add("embed_tokens.weight", {16, 8});
  add("embed_positions.weight", {10, 8});
  const std::string layer = "layers.0.", attention = layer + "self_attn.";
  for (const char* norm : {"self_attn_layer_norm", "final_layer_norm"}) {
    add(layer + norm + ".weight", {8});
    add(layer + norm + ".bias", {8});
  }
  for (const char* linear : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
    add(attention + linear + ".weight", {8, 8});
    add(attention + linear + ".bias", {8});
  }
  add(layer + "fc1.weight", {16, 8});
  add(layer + "fc1.bias", {16});
  add(layer + "fc2.weight", {8, 16});
  add(layer + "fc2.bias", {8});
  add("final_layer_norm.weight", {8});
  add("final_layer_norm.bias", {8});
  return all;
}

inline void write_model(const TemporaryDirectory& dir, const std::string& folder,
                        const nlohmann::json& config = tiny_config(), const RawTensors& tensors = tiny_tensors()) {
  dir.write(folder + "/config.json", config.dump());
  dir.write(folder + "/model.safetensors", safetensors(tensors));
}

/// A .npy file of version `major`.0 with this dict literal.
inline std::string npy(const std::string& dict, const std::string& data, int major = 1) {
  std::string file = "\x93NUMPY";
  file += static_cast<char>(major);
  file += '\0';
  const auto n = static_cast<std::uint32_t>(dict.size());
  file += major == 1 ? little_endian(std::vector<std::uint16_t>{static_cast<std::uint16_t>(n)})
                     : little_endian(std::vector<std::uint32_t>{n});
  return file + dict + data;
}
inline std::string npy_dict(const std::string& descr, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
}
/// Tokens as uint16.
inline std::string npy_tokens(const std::vector<std::uint16_t>& tokens) {
  return npy(npy_dict("<u2", "(" + std::to_string(tokens.size()) + ",)"), little_endian(tokens));
}

}  // namespace qfid::tests
