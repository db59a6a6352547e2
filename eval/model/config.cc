#include <array>
#include <map>

#include "eval/json/json_file.h"
#include "eval/model/decoder_weights.h"
#include "quant/core/error.h"
#include "quant/core/input_file.h"
#include "quant/core/nearest.h"

namespace qfid::eval {

using nlohmann::json;

namespace {

class ConfigReader {
 public:
  ConfigReader(const json& object, std::string path) : object_(object), path_(std::move(path)) {}

  void problem(const std::string& key, const std::string& what) {
    problems_ += (problems_.empty() ? "" : "\n") + path_ + ": " + key + ": " + what;
  }

  std::int64_t whole(const char* key, std::int64_t low, std::int64_t high, std::optional<std::int64_t> fallback = {}) {
    if (!object_.contains(key)) {
      if (!fallback) problem(key, "missing, expected a whole number");
      if (fallback && (*fallback < low || *fallback > high))
        problem(key, "missing, and its default " + std::to_string(*fallback) + " is not from " + std::to_string(low) +
                         " to " + std::to_string(high));
      return fallback.value_or(low);
    }
    const json& value = object_[key];
    if (value.is_number_integer() && value.get<std::int64_t>() >= low && value.get<std::int64_t>() <= high)
      return value.get<std::int64_t>();
    problem(key, "expected a whole number from " + std::to_string(low) + " to " + std::to_string(high) + ", found " +
                     value.dump().substr(0, 40));
    return low;
  }

  /// Whether every whole number asked for so far was good: what is derived from them can be judged.
  bool sound() const { return problems_.empty(); }

  bool flag(const char* key, bool fallback) {
    if (!object_.contains(key)) return fallback;
    if (object_[key].is_boolean()) return object_[key].get<bool>();
    problem(key, "expected true or false, found " + object_[key].dump().substr(0, 40));
    return fallback;
  }

  float positive(const char* key, float fallback) {
    if (!object_.contains(key)) return fallback;
    const json& value = object_[key];
    if (value.is_number() && value.get<float>() > 0 && value.get<float>() < 1) return value.get<float>();
    problem(key, "expected a number above 0 and below 1, found " + value.dump().substr(0, 40));
    return fallback;
  }

  template <std::size_t n>
  std::string word(const json& from, const std::string& key, const std::array<std::string_view, n>& allowed,
                   const std::string& shown) {
    std::string list;
    for (std::string_view w : allowed) list += (list.empty() ? "" : ", ") + std::string(w);
    if (!from.contains(key)) {
      problem(shown, "missing, expected one of " + list);
      return {};
    }
    const std::string found = from[key].is_string() ? from[key].template get<std::string>() : from[key].dump().substr(0, 40);
    for (std::string_view w : allowed)
      if (found == w) return found;
    problem(shown, "expected one of " + list + ", found " + found.substr(0, 40) + quant::did_you_mean(found, allowed));
    return {};
  }

  const json& object() const { return object_; }
  void finish() const {
    if (!problems_.empty()) throw quant::Error(quant::ErrorKind::input, problems_);
  }

 private:
  const json& object_;
  std::string path_, problems_;
};

constexpr std::array<std::string_view, 2> families{"opt", "bert"};
constexpr std::array<std::string_view, 1> position_kinds{"absolute"};
constexpr std::array<std::string_view, 5> activations{"relu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu"};
constexpr std::array<std::string_view, 2> inputs{"value", "hidden"}, sites{"value", "output"};
constexpr std::array<std::string_view, 1> sinks{"learnable"};

void read_attention(ConfigReader& reader, ModelConfig& config) {
  if (!reader.object().contains("attention")) return;
  const json& attention = reader.object()["attention"];
  if (!attention.is_object()) return reader.problem("attention", "expected an object with gate and/or sink");
  for (const auto& [key, value] : attention.items())
    if (key != "gate" && key != "sink")
      reader.problem("attention." + key, "unknown key, expected gate or sink" +
                                             quant::did_you_mean(key, std::array<std::string_view, 2>{"gate", "sink"}));
  if (attention.contains("sink")) {
    reader.word(attention, "sink", sinks, "attention.sink");
    config.learnable_sink = true;
  }
  if (!attention.contains("gate")) return;
  const json& gate = attention["gate"];
  if (!gate.is_object()) return reader.problem("attention.gate", "expected an object with input and site");
  for (const auto& [key, value] : gate.items())
    if (key != "input" && key != "site")
      reader.problem("attention.gate." + key,
                     "unknown key, expected input or site" +
                         quant::did_you_mean(key, std::array<std::string_view, 2>{"input", "site"}));
  config.gate =
      kernels::Gate{reader.word(gate, "input", inputs, "attention.gate.input") == "value" ? kernels::GateInput::value
                                                                                          : kernels::GateInput::hidden,
                    reader.word(gate, "site", sites, "attention.gate.site") == "value" ? kernels::GateSite::value
                                                                                       : kernels::GateSite::output};
}

kernels::Activation read_activation(ConfigReader& reader, const char* key) {
  const std::string name = reader.word(reader.object(), key, activations, key);
  return name == "relu"   ? kernels::Activation::relu
         : name == "gelu" ? kernels::Activation::gelu_erf
         : name == "silu" ? kernels::Activation::silu
                          : kernels::Activation::gelu_tanh;
}

constexpr std::int64_t large = 1 << 24;

void read_sizes(ConfigReader& reader, ModelConfig& config, const char* ffn_key) {
  config.vocab_size = reader.whole("vocab_size", 1, large);
  config.hidden_size = reader.whole("hidden_size", 1, 1 << 20);
  config.num_hidden_layers = reader.whole("num_hidden_layers", 1, 10000);
  config.ffn_dim = reader.whole(ffn_key, 1, large);
  config.num_attention_heads = reader.whole("num_attention_heads", 1, 1 << 16);
  config.max_position_embeddings = reader.whole("max_position_embeddings", 1, large);
  // What relates two numbers is judged where both are good.
  if (reader.sound() && config.hidden_size % config.num_attention_heads != 0)
    reader.problem("num_attention_heads", std::to_string(config.num_attention_heads) + " doesn't divide hidden_size " +
                                              std::to_string(config.hidden_size));
}

void read_opt_config(ConfigReader& reader, ModelConfig& config) {
  read_sizes(reader, config, "ffn_dim");
  if (reader.sound()) {
    config.bos_token_id = reader.whole("bos_token_id", 0, config.vocab_size - 1, 2);
    if (reader.whole("word_embed_proj_dim", 1, 1 << 20, config.hidden_size) != config.hidden_size)
      reader.problem("word_embed_proj_dim", "differs from hidden_size: projected embeddings are not supported");
  }
  config.enable_bias = reader.flag("enable_bias", true);
  if (!reader.flag("do_layer_norm_before", true))
    reader.problem("do_layer_norm_before", "must be true: post-norm decoders are not supported");
  if (!reader.flag("layer_norm_elementwise_affine", true)) reader.problem("layer_norm_elementwise_affine", "must be true");
  if (reader.flag("_remove_final_layer_norm", false)) reader.problem("_remove_final_layer_norm", "must be false");
  config.activation = read_activation(reader, "activation_function");
}

void read_bert_config(ConfigReader& reader, ModelConfig& config) {
  config.causal = false;
  config.post_norm = true;
  config.position_offset = 0;
  read_sizes(reader, config, "intermediate_size");
  config.type_vocab_size = reader.whole("type_vocab_size", 1, 1 << 16, 2);
  if (reader.sound()) config.pad_token_id = reader.whole("pad_token_id", 0, config.vocab_size - 1, 0);
  config.norm_eps = reader.positive("layer_norm_eps", 1e-12F);
  if (reader.flag("is_decoder", false)) reader.problem("is_decoder", "must be false: causal BERT models are not supported");
  if (reader.flag("add_cross_attention", false)) reader.problem("add_cross_attention", "must be false");
  if (reader.object().contains("position_embedding_type"))
    reader.word(reader.object(), "position_embedding_type", position_kinds, "position_embedding_type");
  config.activation = read_activation(reader, "hidden_act");
}

}  // namespace

ModelConfig read_config(const std::filesystem::path& directory) {
  return read_config(quant::FileContent(directory / "config.json"));
}

ModelConfig read_config(const quant::FileContent& file) {
  const std::string path = file.path().string();
  const json object = parse_strict_json(file.text(), path);
  if (!object.is_object()) throw quant::Error(quant::ErrorKind::input, path + ": expected an object");
  ConfigReader reader(object, path);
  ModelConfig config;
  config.family = reader.word(object, "model_type", families, "model_type");
  if (reader.sound()) {  // what else is expected depends on the family
    if (config.family == "bert")
      read_bert_config(reader, config);
    else
      read_opt_config(reader, config);
    config.tie_word_embeddings = reader.flag("tie_word_embeddings", true);
    read_attention(reader, config);
  }
  reader.finish();
  return config;
}

}  // namespace qfid::eval
