// What a config.json says and what it leaves to the family's defaults; sums and bytes of a checkpoint.
#include <catch2/catch_test_macros.hpp>

#include "eval/model/checkpoint.h"
#include "eval/model/decoder_weights.h"
#include "tests/support/checkpoint_files.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;
using nlohmann::json;

namespace {

const BertSizes sizes{12, 8, 2, 16};

ModelConfig read(const json& config) {
  const TemporaryDirectory dir;
  dir.write("config.json", config.dump());
  return read_config(dir.path());
}

ModelConfig changed(json config, const json& patch) {
  config.merge_patch(patch);
  return read(config);
}

/// Message without the file's name.
std::string refused(json config, const json& patch) {
  config.merge_patch(patch);
  const TemporaryDirectory dir;
  const std::string path = dir.write("config.json", config.dump()).string();
  const Failure failure = failure_of([&] { read_config(dir.path()); });
  CHECK(failure.code == 3);
  return replaced(failure.message, path + ": ", "");
}

}  // namespace

TEST_CASE("OPT: sizes, defaults, and every choice", "[config]") {
  const ModelConfig plain = read(tiny_config());
  CHECK(plain.family == "opt");
  CHECK(plain.vocab_size == 16);
  CHECK(plain.hidden_size == 8);
  CHECK(plain.num_hidden_layers == 1);
  CHECK(plain.ffn_dim == 16);
  CHECK(plain.num_attention_heads == 2);
  CHECK(plain.max_position_embeddings == 8);
  CHECK(plain.bos_token_id == 2);
  CHECK(plain.tie_word_embeddings);
  CHECK(plain.enable_bias);
  CHECK(plain.causal);
  CHECK_FALSE(plain.post_norm);
  CHECK(plain.position_offset == 2);
  CHECK(plain.norm_eps == 1e-5F);
  CHECK(plain.activation == kernels::Activation::relu);
  CHECK_FALSE(plain.gate);
  CHECK_FALSE(plain.learnable_sink);
  const ModelConfig other = changed(tiny_config(), {{"bos_token_id", 15},
                                                    {"tie_word_embeddings", false},
                                                    {"enable_bias", false},
                                                    {"word_embed_proj_dim", 8},
                                                    {"do_layer_norm_before", true},
                                                    {"_remove_final_layer_norm", false},
                                                    {"activation_function", "gelu"},
                                                    {"attention", {{"sink", "learnable"}}}});
  CHECK(other.bos_token_id == 15);
  CHECK_FALSE(other.tie_word_embeddings);
  CHECK_FALSE(other.enable_bias);
  CHECK(other.activation == kernels::Activation::gelu_erf);
  CHECK(other.learnable_sink);
  CHECK(changed(tiny_config(), {{"bos_token_id", 0}}).bos_token_id == 0);
  CHECK(changed(tiny_config(), {{"activation_function", "silu"}}).activation == kernels::Activation::silu);
  for (const char* tanh : {"gelu_new", "gelu_pytorch_tanh"})
    CHECK(changed(tiny_config(), {{"activation_function", tanh}}).activation == kernels::Activation::gelu_tanh);
  for (const auto& [input, by] : {std::pair{"value", kernels::GateInput::value}, {"hidden", kernels::GateInput::hidden}})
    for (const auto& [site, at] : {std::pair{"value", kernels::GateSite::value}, {"output", kernels::GateSite::output}}) {
      const ModelConfig gated = changed(tiny_config(), {{"attention", {{"gate", {{"input", input}, {"site", site}}}}}});
      REQUIRE(gated.gate);
      CHECK(gated.gate->input == by);
      CHECK(gated.gate->site == at);
      CHECK_FALSE(gated.learnable_sink);
    }
}

TEST_CASE("BERT: sizes, defaults, bounds", "[config]") {
  const json good = bert_config(sizes);
  const ModelConfig plain = changed(good, {{"pad_token_id", nullptr}});
  CHECK(plain.family == "bert");
  CHECK_FALSE(plain.causal);
  CHECK(plain.post_norm);
  CHECK(plain.position_offset == 0);
  CHECK(plain.ffn_dim == 16);
  CHECK(plain.type_vocab_size == 2);
  CHECK(plain.pad_token_id == 0);
  CHECK(plain.norm_eps == 1e-12F);
  CHECK(changed(good, {{"pad_token_id", 11}}).pad_token_id == 11);
  CHECK(refused(good, {{"pad_token_id", 12}}) == "pad_token_id: expected a whole number from 0 to 11, found 12");
  CHECK(changed(good, {{"type_vocab_size", 1}}).type_vocab_size == 1);
  CHECK(changed(good, {{"type_vocab_size", 65536}}).type_vocab_size == 65536);
  CHECK(refused(good, {{"type_vocab_size", 65537}}) ==
        "type_vocab_size: expected a whole number from 1 to 65536, found 65537");
  CHECK(refused(good, {{"type_vocab_size", 0}}) == "type_vocab_size: expected a whole number from 1 to 65536, found 0");
  CHECK(changed(good, {{"layer_norm_eps", 0.5}}).norm_eps == 0.5F);
  for (const json& eps : {json(0), json(-0.5), json(1), json(1.5), json("small"), json(true)})
    CHECK(refused(good, {{"layer_norm_eps", eps}}) ==
          "layer_norm_eps: expected a number above 0 and below 1, found " + eps.dump());
  CHECK(refused(good, {{"is_decoder", true}}) == "is_decoder: must be false: causal BERT models are not supported");
  CHECK(refused(good, {{"add_cross_attention", true}}) == "add_cross_attention: must be false");
  CHECK(refused(good, {{"position_embedding_type", "relative_key"}}) ==
        "position_embedding_type: expected one of absolute, found relative_key");
  CHECK(changed(good, {{"position_embedding_type", "absolute"}, {"is_decoder", false}}).family == "bert");
}

TEST_CASE("parameters are the elements of every tensor, used or not", "[config]") {
  const TemporaryDirectory dir;
  write_model(dir, "m", tiny_config(),
              {{"a", {"F32", {2, 3}, std::string(24, 0)}}, {"b", {"I8", {5}, "12345"}}, {"c", {"F32", {}, "1234"}}});
  CHECK(Checkpoint::open(dir.path() / "m").parameters() == 12);
}

TEST_CASE("bytes are read as they are; five dimensions are the most", "[config]") {
  const TemporaryDirectory dir;
  const SafetensorsFile file(dir.write("x.safetensors", safetensors({{"a", {"U8", {3}, "abc"}},
                                                                     {"b", {"BOOL", {2, 1}, std::string("\1\0", 2)}},
                                                                     {"c", {"I8", {1}, "x"}},
                                                                     {"d", {"F32", {1, 1, 1, 1, 1}, std::string(4, 0)}},
                                                                     {"e", {"U8", {0}, ""}}})));
  const auto bytes = [&](const char* name) {
    const quant::Tensor tensor = file.load_bytes(name);
    CHECK(tensor.dtype() == quant::DType::u8);
    return std::string(reinterpret_cast<const char*>(tensor.raw()), tensor.bytes());
  };
  CHECK(bytes("a") == "abc");
  CHECK(bytes("b") == std::string("\1\0", 2));
  CHECK(file.load_bytes("b").shape() == quant::Shape{2, 1});
  CHECK(file.load_bytes("e").empty());
  CHECK(dir.shown(failure_of([&] { file.load_bytes("c"); }).message) ==
        "DIR/x.safetensors: tensor \"c\": dtype I8, expected BOOL or U8");
  CHECK(file.load_f32("d").shape().rank() == 5);
}

TEST_CASE("what is written as safetensors is read back, its data at a multiple of 8", "[config]") {
  const TemporaryDirectory dir;
  std::map<std::string, quant::Tensor> tensors;
  float next = 0.5F;
  for (const auto& [name, shape] :
       {std::pair{"a", quant::Shape{2, 3}}, {"bcd", quant::Shape{1}}, {"e", quant::Shape{3, 1}}}) {
    tensors.emplace(name, quant::Tensor(quant::DType::f32, shape));
    for (float& x : tensors.at(name).view<float>().span()) x = next++;
  }
  for (const std::string longer : {"", "x", "xx", "xxx", "xxxx"}) {  // headers of other lengths
    if (!longer.empty()) tensors.emplace(longer, quant::Tensor(quant::DType::f32, quant::Shape{1}));
    const std::string bytes = safetensors_bytes(tensors);
    const std::size_t header = static_cast<unsigned char>(bytes[0]) + 256U * static_cast<unsigned char>(bytes[1]);
    CHECK(header % 8 == 0);
    const SafetensorsFile file(dir.write("w.safetensors", bytes));
    CHECK(file.tensors().size() == tensors.size());
    CHECK(header < 8 + bytes.find_last_of('}', 8 + header));  // no more padding than that takes
    for (const auto& [name, tensor] : tensors) {
      const quant::Tensor back = file.load_f32(name);
      CHECK(back.shape() == tensor.shape());
      CHECK(std::memcmp(back.raw(), tensor.raw(), tensor.bytes()) == 0);
    }
  }
  std::map<std::string, quant::Tensor> whole;
  whole.emplace("i", quant::Tensor(quant::DType::i32, quant::Shape{1}));
  CHECK(failure_of([&] { safetensors_bytes(whole); }).code != 0);
}
