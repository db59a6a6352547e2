#include "tests/support/malformed.h"

namespace qfid::tests {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Two shards and their index; `change` gets the index before it is written.
MalformedModel index_case(const std::string& name, const std::function<void(const TemporaryDirectory&, json&)>& change,
                          const std::string& expected) {
  return {name,
          [change](const TemporaryDirectory& dir) {
            dir.write("m/config.json", tiny_config().dump());
            dir.write("m/one.safetensors", safetensors({{"a", {"U8", {1}, "x"}}, {"b", {"U8", {1}, "x"}}}));
            dir.write("m/two.safetensors", safetensors({{"c", {"U8", {1}, "x"}}}));
            json index{{"weight_map", {{"a", "one.safetensors"}, {"b", "one.safetensors"}, {"c", "two.safetensors"}}}};
            change(dir, index);
            dir.write("m/model.safetensors.index.json", index.is_binary() ? std::string() : index.dump());
          },
          "DIR/m/model.safetensors.index.json: " + expected};
}
MalformedModel index_text(const std::string& name, const std::string& text, const std::string& expected) {
  return {name,
          [text](const TemporaryDirectory& dir) {
            dir.write("m/config.json", tiny_config().dump());
            dir.write("m/model.safetensors.index.json", text);
          },
          "DIR/m/model.safetensors.index.json: " + expected};
}
MalformedModel shard_named(const std::string& shard, const std::string& shown) {
  return index_case(
      "shard " + shown, [shard](const TemporaryDirectory&, json& index) { index["weight_map"]["a"] = shard; },
      "weight_map: shard \"" + replaced(shard, std::string_view("\0", 1), "\\0") +
          "\" must be a file name inside the directory");
}

/// The tiny model after `change`; expected lines begin with DIR/m.
MalformedModel model_case(const std::string& name, const std::function<void(json&, RawTensors&)>& change,
                          const std::string& expected) {
  return {name,
          [change](const TemporaryDirectory& dir) {
            json config = tiny_config();
            RawTensors tensors = tiny_tensors();
            change(config, tensors);
            write_model(dir, "m", config, tensors);
          },
          "DIR/m" + expected};
}

}  // namespace

std::vector<MalformedModel> malformed_indices() {
  std::vector<MalformedModel> all{
      index_text("empty", "", "byte 0: not valid JSON"),
      index_text("cut", "{\"weight_map\": {", "byte 16: not valid JSON"),
      index_text("invalid UTF-8", "{\"weight_map\": {\"\xC3\": 1}}", "byte 18: invalid UTF-8"),
      index_text("list", "[]", "expected an object with an object \"weight_map\""),
      index_text("no map", "{\"metadata\": {}}", "expected an object with an object \"weight_map\""),
      index_text("map is a list", "{\"weight_map\": []}", "expected an object with an object \"weight_map\""),
      index_text("map is empty", "{\"weight_map\": {}}", "weight_map is empty"),
      index_text("duplicate tensor", R"({"weight_map": {"a": "x", "a": "y"}})", "duplicate key \"a\""),
      index_text("shard is a number", R"({"weight_map": {"a": 1}})", "weight_map: \"a\" must name a file"),
      shard_named("../m/one.safetensors", "that climbs"),
      shard_named("/etc/passwd", "that is absolute"),
      shard_named("sub/one.safetensors", "in a folder"),
      shard_named("..", "that is the folder above"),
      shard_named(".", "that is the folder"),
      shard_named("", "without a name"),
      shard_named(std::string("one.safetensors\0x", 17), "with a NUL"),
      index_case(
          "tensor not in its shard",
          [](const TemporaryDirectory&, json& index) { index["weight_map"]["d"] = "two.safetensors"; },
          "weight_map: tensor \"d\" is not in two.safetensors"),
      index_case(
          "tensor in the wrong shard",
          [](const TemporaryDirectory&, json& index) { index["weight_map"]["a"] = "two.safetensors"; },
          "weight_map: tensor \"a\" is not in two.safetensors"),
      index_case(
          "tensor not in the index", [](const TemporaryDirectory&, json& index) { index["weight_map"].erase("b"); },
          "tensor \"b\" of one.safetensors is not in weight_map"),
      index_case(
          "link out of the directory",
          [](const TemporaryDirectory& dir, json& index) {
            dir.write("elsewhere.safetensors", safetensors({{"d", {"U8", {1}, "x"}}}));
            fs::create_symlink("../elsewhere.safetensors", dir.path() / "m" / "link.safetensors");
            index["weight_map"]["d"] = "link.safetensors";
          },
          "weight_map: shard \"link.safetensors\" leaves the directory"),
      index_case(
          "link to itself",
          [](const TemporaryDirectory& dir, json& index) {
            fs::create_symlink("loop.safetensors", dir.path() / "m" / "loop.safetensors");
            index["weight_map"]["d"] = "loop.safetensors";
          },
          "weight_map: shard \"loop.safetensors\" leaves the directory"),
  };
  MalformedModel missing = index_case(
      "missing shard", [](const TemporaryDirectory&, json& index) { index["weight_map"]["d"] = "three.safetensors"; }, "");
  missing.expected = "DIR/m/three.safetensors: can't open: No such file or directory";
  all.push_back(missing);
  all.push_back({"index is a link to nothing",
                 [](const TemporaryDirectory& dir) {
                   write_model(dir, "m");
                   fs::create_symlink("nowhere", dir.path() / "m" / "model.safetensors.index.json");
                 },
                 "DIR/m/model.safetensors.index.json: can't open: No such file or directory"});
  return all;
}

std::vector<MalformedModel> malformed_checkpoints() {
  const std::string file = "/model.safetensors: ", p = "model.decoder.", q = p + "layers.0.self_attn.q_proj.weight";
  return {
      {"no tensor file", [](const TemporaryDirectory& dir) { dir.write("m/config.json", tiny_config().dump()); },
       "DIR/m: neither model.safetensors nor model.safetensors.index.json"},
      model_case(
          "one tensor missing", [=](json&, RawTensors& t) { t.erase(p + "layers.0.fc1.bias"); },
          ": missing tensors: model.decoder.layers.0.fc1.bias"),
      model_case(
          "several missing, the head among them",
          [=](json& c, RawTensors& t) {
            c["tie_word_embeddings"] = false;
            t.erase(q);
            t.erase(p + "final_layer_norm.bias");
          },
          ": missing tensors: model.decoder.layers.0.self_attn.q_proj.weight, model.decoder.final_layer_norm.bias, "
          "lm_head.weight"),
      model_case(
          "no tensors",
          [](json& c, RawTensors& t) {
            t.clear();
            c["enable_bias"] = false;
          },
          ": missing tensors: model.decoder.embed_tokens.weight, model.decoder.embed_positions.weight, "
          "model.decoder.layers.0.self_attn_layer_norm.weight, model.decoder.layers.0.self_attn_layer_norm.bias, "
          "model.decoder.layers.0.self_attn.q_proj.weight, model.decoder.layers.0.self_attn.k_proj.weight, "
          "model.decoder.layers.0.self_attn.v_proj.weight, model.decoder.layers.0.self_attn.out_proj.weight, "
          "model.decoder.layers.0.final_layer_norm.weight, model.decoder.layers.0.final_layer_norm.bias, "
          "model.decoder.layers.0.fc1.weight, model.decoder.layers.0.fc2.weight, model.decoder.final_layer_norm.weight, "
          "model.decoder.final_layer_norm.bias"),
      model_case(
          "gate asked for, tensors missing",
          [](json& c, RawTensors&) { c["attention"] = {{"gate", {{"input", "value"}, {"site", "output"}}}}; },
          ": missing tensors: model.decoder.layers.0.self_attn.gate_proj.weight, "
          "model.decoder.layers.0.self_attn.gate_proj.bias"),
      model_case(
          "sink asked for, tensor missing", [](json& c, RawTensors&) { c["attention"] = {{"sink", "learnable"}}; },
          ": missing tensors: model.decoder.layers.0.self_attn.sink"),
      model_case(
          "gate tensors, not asked for",
          [=](json&, RawTensors& t) { t[p + "layers.0.self_attn.gate_proj.weight"] = {"F32", {2, 8}, std::string(64, 0)}; },
          ": tensor \"model.decoder.layers.0.self_attn.gate_proj.weight\" changes the arithmetic, but config.json's "
          "attention object doesn't ask for it"),
      model_case(
          "sink tensor, not asked for",
          [=](json&, RawTensors& t) { t[p + "layers.0.self_attn.sink"] = {"F32", {2}, std::string(8, 0)}; },
          ": tensor \"model.decoder.layers.0.self_attn.sink\" changes the arithmetic, but config.json's attention object "
          "doesn't ask for it"),
      model_case(
          "wrong shape", [=](json&, RawTensors& t) { t[q].shape = {4, 16}; },
          file + "tensor \"" + q + "\": shape [4, 16], expected [8, 8]"),
      model_case(
          "transposed", [=](json&, RawTensors& t) { t[p + "layers.0.fc1.weight"].shape = {8, 16}; },
          file + "tensor \"model.decoder.layers.0.fc1.weight\": shape [8, 16], expected [16, 8]"),
      model_case(
          "a dimension too many", [=](json&, RawTensors& t) { t[q].shape = {1, 1, 1, 1, 8, 8}; },
          file + "tensor \"" + q + "\": shape [1, 1, 1, 1, 8, 8], expected [8, 8]"),
      model_case(
          "F64", [=](json&, RawTensors& t) { t[q] = {"F64", {8, 8}, std::string(512, 0)}; },
          file + "tensor \"" + q + "\": dtype F64 can't be read as f32, expected F32, BF16 or F16"),
      model_case(
          "I64", [=](json&, RawTensors& t) { t[q] = {"I64", {8, 8}, std::string(512, 0)}; },
          file + "tensor \"" + q + "\": dtype I64 can't be read as f32, expected F32, BF16 or F16"),
      model_case(
          "F8_E4M3", [=](json&, RawTensors& t) { t[q] = {"F8_E4M3", {8, 8}, std::string(64, 0)}; },
          file + "tensor \"" + q + "\": dtype F8_E4M3 can't be read as f32, expected F32, BF16 or F16"),
      model_case(
          "a wrong shape and a missing tensor",
          [=](json&, RawTensors& t) {
            t[q].shape = {64};
            t.erase(p + "layers.0.fc2.bias");
          },
          file + "tensor \"" + q +
              "\": shape [64], expected [8, 8]\nDIR/m: missing tensors: model.decoder.layers.0.fc2.bias"),
  };
}

}  // namespace qfid::tests
