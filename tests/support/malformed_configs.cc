#include "tests/support/malformed.h"

namespace qfid::tests {

namespace {

using nlohmann::json;

MalformedModel text_case(const std::string& name, const std::string& text, const std::string& expected) {
  return {name,
          [text](const TemporaryDirectory& dir) {
            write_model(dir, "m");
            dir.write("m/config.json", text);
          },
          replaced("@" + replaced(expected, "\n", "\n@"), "@", "DIR/m/config.json: ")};
}
MalformedModel config_case(const std::string& name, const std::function<void(json&)>& change, const std::string& expected) {
  json config = tiny_config();
  change(config);
  return text_case(name, config.dump(), expected);
}
/// The key has this value (null: it is missing).
MalformedModel value_case(const std::string& key, const json& value, const std::string& expected) {
  return config_case(
      key + " = " + value.dump(),
      [&](json& c) {
        if (value.is_null()) {
          c.erase(key);
        } else {
          c[key] = value;
        }
      },
      key + ": " + expected);
}

void add_whole_numbers(std::vector<MalformedModel>& all) {
  struct Key {
    const char* name;
    const char* highest;
    std::int64_t above;
  };
  for (const Key& key : {Key{"vocab_size", "16777216", 16777217}, Key{"hidden_size", "1048576", 1048577},
                         Key{"num_hidden_layers", "10000", 10001}, Key{"ffn_dim", "16777216", 16777217},
                         Key{"num_attention_heads", "65536", 65537}, Key{"max_position_embeddings", "16777216", 16777217}}) {
    const std::string range = std::string("expected a whole number from 1 to ") + key.highest + ", found ";
    all.push_back(value_case(key.name, nullptr, "missing, expected a whole number"));
    for (const json& value : {json("8"), json(0), json(-1), json(8.5), json(true), json(key.above)})
      all.push_back(value_case(key.name, value, range + value.dump()));
    all.push_back(value_case(key.name, json(18446744073709551615ULL), range + "18446744073709551615"));
  }
}

void add_words(std::vector<MalformedModel>& all) {
  all.push_back(value_case("model_type", nullptr, "missing, expected one of opt, bert"));
  all.push_back(value_case("model_type", "opd", "expected one of opt, bert, found opd, did you mean \"opt\"?"));
  all.push_back(value_case("model_type", 1, "expected one of opt, bert, found 1"));
  const std::string list = "relu, gelu, gelu_new, gelu_pytorch_tanh, silu";
  all.push_back(value_case("activation_function", nullptr, "missing, expected one of " + list));
  all.push_back(
      value_case("activation_function", "rellu", "expected one of " + list + ", found rellu, did you mean \"relu\"?"));
  for (const char* key : {"tie_word_embeddings", "enable_bias"}) {
    all.push_back(value_case(key, "yes", "expected true or false, found \"yes\""));
    all.push_back(value_case(key, 1, "expected true or false, found 1"));
  }
  all.push_back(value_case("do_layer_norm_before", false, "must be true: post-norm decoders are not supported"));
  all.push_back(value_case("layer_norm_elementwise_affine", false, "must be true"));
  all.push_back(value_case("_remove_final_layer_norm", true, "must be false"));
  all.push_back(value_case("bos_token_id", 16, "expected a whole number from 0 to 15, found 16"));
  all.push_back(value_case("bos_token_id", -1, "expected a whole number from 0 to 15, found -1"));
  all.push_back(value_case("num_attention_heads", 3, "3 doesn't divide hidden_size 8"));
  all.push_back(value_case("word_embed_proj_dim", 1048577,
                           "expected a whole number from 1 to 1048576, found 1048577\n"
                           "word_embed_proj_dim: differs from hidden_size: projected embeddings are not supported"));
  all.push_back(value_case("word_embed_proj_dim", 4, "differs from hidden_size: projected embeddings are not supported"));
  all.push_back(config_case(
      "default BOS outside a small vocabulary", [](json& c) { c["vocab_size"] = 2; },
      "bos_token_id: missing, and its default 2 is not from 0 to 1"));
}

void add_attention(std::vector<MalformedModel>& all) {
  const auto attention = [&](const json& value, const std::string& expected) {
    all.push_back(config_case("attention " + value.dump(), [&](json& c) { c["attention"] = value; }, expected));
  };
  const json gate{{"input", "value"}, {"site", "output"}};
  attention(nullptr, "attention: expected an object with gate and/or sink");
  attention("softmax", "attention: expected an object with gate and/or sink");
  attention({{"gat", gate}}, "attention.gat: unknown key, expected gate or sink, did you mean \"gate\"?");
  attention({{"gate", "value"}}, "attention.gate: expected an object with input and site");
  attention({{"gate", json::object()}},
            "attention.gate.input: missing, expected one of value, hidden\n"
            "attention.gate.site: missing, expected one of value, output");
  attention({{"gate", {{"input", "values"}, {"site", "output"}}}},
            "attention.gate.input: expected one of value, hidden, found values, did you mean \"value\"?");
  attention({{"gate", {{"input", "value"}, {"site", "query"}}}},
            "attention.gate.site: expected one of value, output, found query");
  attention({{"gate", {{"input", "value"}, {"site", "output"}, {"cite", 1}}}},
            "attention.gate.cite: unknown key, expected input or site, did you mean \"site\"?");
  attention({{"sink", "fixed"}}, "attention.sink: expected one of learnable, found fixed");
  attention({{"sink", true}}, "attention.sink: expected one of learnable, found true");
}

}  // namespace

std::vector<MalformedModel> malformed_configs() {
  std::vector<MalformedModel> all{
      text_case("empty", "", "byte 0: not valid JSON"),
      text_case("not JSON", "model_type: opt", "byte 0: not valid JSON"),
      text_case("a trailing comma", "{\"model_type\": \"opt\",}", "byte 21: not valid JSON"),
      text_case("invalid UTF-8", "{\"model_type\": \"\xC0\x80\"}", "byte 16: invalid UTF-8"),
      text_case("a list", "[]", "expected an object"),
      text_case("null", "null", "expected an object"),
      text_case("duplicate key", "{\"vocab_size\": 1, \"vocab_size\": 2}", "duplicate key \"vocab_size\""),
      text_case("deep", "{\"a\": " + std::string(100, '[') + std::string(100, ']') + "}", "nested deeper than 16 levels"),
      text_case("an empty object", "{}", "model_type: missing, expected one of opt, bert"),
      text_case("nothing but the family", "{\"model_type\": \"opt\"}",
                "vocab_size: missing, expected a whole number\nhidden_size: missing, expected a whole number\n"
                "num_hidden_layers: missing, expected a whole number\nffn_dim: missing, expected a whole number\n"
                "num_attention_heads: missing, expected a whole number\n"
                "max_position_embeddings: missing, expected a whole number\n"
                "activation_function: missing, expected one of relu, gelu, gelu_new, gelu_pytorch_tanh, silu"),
      config_case(
          "several at once",
          [](json& c) {
            c["hidden_size"] = "wide";
            c["activation_function"] = "tanh";
            c["attention"] = {{"sinks", 1}};
          },
          "hidden_size: expected a whole number from 1 to 1048576, found \"wide\"\n"
          "activation_function: expected one of relu, gelu, gelu_new, gelu_pytorch_tanh, silu, found tanh\n"
          "attention.sinks: unknown key, expected gate or sink, did you mean \"sink\"?"),
  };
  add_whole_numbers(all);
  add_words(all);
  add_attention(all);
  all.push_back({"no config.json", [](const TemporaryDirectory& dir) { dir.write("m/model.safetensors", ""); },
                 "DIR/m/config.json: can't open: No such file or directory"});
  all.push_back({"config.json is a directory", [](const TemporaryDirectory& dir) { dir.write("m/config.json/x", ""); },
                 "DIR/m/config.json: expected a regular file, found a directory"});
  return all;
}

}  // namespace qfid::tests
