// What is valid is read, and means the same however it is stored.
#include "eval/model/checkpoint.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "eval/model/decoder.h"
#include "eval/model/decoder_weights.h"
#include "kernels/registry/registry.h"
#include "tests/support/checkpoint_files.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::vector<float> values_of(const quant::Tensor& tensor) {
  const auto span = tensor.view<float>().span();
  return {span.begin(), span.end()};
}

/// Logits of two fixed windows on the reference backend.
std::vector<float> logits_of(const std::filesystem::path& model) {
  const ModelConfig config = read_config(model);
  Checkpoint checkpoint = Checkpoint::open(model);
  const DecoderWeights weights = load_weights(checkpoint, config);
  const auto backend = kernels::make_backend("reference");
  DecoderResources resources(*backend, weights);
  DecoderPrecision precision;
  precision.layers.resize(static_cast<std::size_t>(config.num_hidden_layers));
  Decoder decoder(resources, precision, {});
  quant::Tensor ids(quant::DType::i32, quant::Shape{2, 5});
  for (std::int32_t i = 0; i < 10; ++i) ids.view<std::int32_t>()[i] = (7 * i + 2) % 16;
  kernels::DeviceTensor hidden = decoder.embed(backend->upload(ids));
  for (int l = 0; l < decoder.layers(); ++l) hidden = decoder.layer(l, hidden, nullptr).residual;
  NamedCounts counts;
  return values_of(backend->download(decoder.logits(hidden, counts)));
}

std::string as_bf16(const std::string& f32) {
  std::string out;
  for (std::size_t i = 0; i < f32.size(); i += 4) out += f32.substr(i + 2, 2);
  return out;
}
/// Of a value that is exact in half precision: a multiple of 1/64 below 2^4.
std::string as_f16(const std::string& f32) {
  std::vector<std::uint16_t> out;
  for (std::size_t i = 0; i < f32.size(); i += 4) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, f32.data() + i, 4);
    const std::uint32_t sign = bits >> 31, exponent = bits >> 23 & 0xFF, fraction = bits >> 13 & 0x3FF;
    out.push_back(static_cast<std::uint16_t>(sign << 15 | (exponent == 0 ? 0 : (exponent - 112) << 10 | fraction)));
  }
  return little_endian(out);
}

}  // namespace

TEST_CASE("f32, bf16 and f16 of the same values, one file or shards, either prefix: the same logits to the bit") {
  const TemporaryDirectory dir;
  const RawTensors tensors = tiny_tensors();
  write_model(dir, "f32");
  const std::vector<float> expected = logits_of(dir.path() / "f32");
  REQUIRE(expected.size() == 2 * 5 * 16);
  CHECK(*std::max_element(expected.begin(), expected.end()) > 0.01F);

  for (const auto& [dtype, convert] : {std::pair{"BF16", &as_bf16}, std::pair{"F16", &as_f16}}) {
    RawTensors narrow = tensors;
    for (auto& [name, tensor] : narrow) tensor = {dtype, tensor.shape, convert(tensor.data)};
    write_model(dir, dtype, tiny_config(), narrow);
    CHECK(logits_of(dir.path() / dtype) == expected);
  }

  RawTensors shards[3];
  json index{{"metadata", {{"total_size", 1}}}, {"weight_map", json::object()}};
  int next = 0;
  for (const auto& [name, tensor] : tensors) {
    const int shard = next++ % 3;
    shards[shard][name] = tensor;
    index["weight_map"][name] = "shard-" + std::to_string(shard) + ".safetensors";
  }
  dir.write("sharded/config.json", tiny_config().dump());
  dir.write("sharded/model.safetensors.index.json", index.dump());
  for (int shard = 0; shard < 3; ++shard)
    dir.write("sharded/shard-" + std::to_string(shard) + ".safetensors", safetensors(shards[shard]));
  CHECK(logits_of(dir.path() / "sharded") == expected);

  write_model(dir, "bare", tiny_config(), tiny_tensors("decoder."));
  CHECK(logits_of(dir.path() / "bare") == expected);
}

TEST_CASE("an untied head is read, a tied model's head is named as unused") {
  const TemporaryDirectory dir;
  RawTensors tensors = tiny_tensors();
  write_model(dir, "tied");
  const std::vector<float> tied = logits_of(dir.path() / "tied");
  json config = tiny_config();
  config["tie_word_embeddings"] = false;
  tensors["lm_head.weight"] = tensors["model.decoder.embed_tokens.weight"];
  write_model(dir, "same", config, tensors);
  CHECK(logits_of(dir.path() / "same") == tied);
  tensors["lm_head.weight"].data = little_endian(coarse_values(16 * 8, 99));
  write_model(dir, "other", config, tensors);
  CHECK(logits_of(dir.path() / "other") != tied);

  write_model(dir, "unused", tiny_config(), tensors);
  Checkpoint checkpoint = Checkpoint::open(dir.path() / "unused");
  CHECK(check_weights(checkpoint, read_config(dir.path() / "unused")) == std::vector<std::string>{"lm_head.weight"});
  CHECK(logits_of(dir.path() / "unused") == tied);
}

TEST_CASE("safetensors: scalars, nothing in a tensor, no tensors, unaligned data, padded headers, every dtype by name") {
  const TemporaryDirectory dir;
  const std::vector<float> two{1.5F, -2.25F};
  // One byte first: everything behind it lies on an odd offset.
  const auto path = dir.write("a.safetensors", safetensors({{"a byte", {"U8", {1}, "x"}},
                                                            {"bf16", {"BF16", {2}, as_bf16(little_endian(two))}},
                                                            {"empty", {"F32", {3, 0, 2}, ""}},
                                                            {"f16", {"F16", {2}, as_f16(little_endian(two))}},
                                                            {"f32", {"F32", {1, 2}, little_endian(two)}},
                                                            {"scalar", {"F32", {}, little_endian(std::vector{7.0F})}}}));
  const SafetensorsFile file(path);
  for (const char* name : {"f32", "bf16", "f16"}) CHECK(values_of(file.load_f32(name)) == two);
  CHECK(file.load_f32("f32").shape() == quant::Shape{1, 2});
  CHECK(file.load_f32("scalar").shape().rank() == 0);
  CHECK(values_of(file.load_f32("scalar")) == std::vector{7.0F});
  CHECK(file.load_f32("empty").shape() == quant::Shape{3, 0, 2});
  CHECK(file.load_f32("empty").empty());

  CHECK(SafetensorsFile(dir.write("none.safetensors", raw_safetensors("{}"))).tensors().empty());
  CHECK(SafetensorsFile(dir.write("padded.safetensors", raw_safetensors("{}       "))).tensors().empty());
  CHECK(SafetensorsFile(dir.write("meta.safetensors", raw_safetensors(R"({"__metadata__": {"format": "pt"}})")))
            .tensors()
            .empty());
  // Zero-size tensors may share a place with each other and with the start of a filled one.
  CHECK(SafetensorsFile(dir.write("zero.safetensors", safetensors({{"z1", {"F64", {0}, ""}}, {"z2", {"I8", {4, 0}, ""}}})))
            .tensors()
            .size() == 2);
  RawTensors all;
  for (const auto& [dtype, bytes] : {std::pair{"BOOL", 1},
                                     {"U8", 1},
                                     {"I8", 1},
                                     {"F8_E5M2", 1},
                                     {"F8_E4M3", 1},
                                     {"F8_E8M0", 1},
                                     {"I16", 2},
                                     {"U16", 2},
                                     {"F16", 2},
                                     {"BF16", 2},
                                     {"I32", 4},
                                     {"U32", 4},
                                     {"F32", 4},
                                     {"F64", 8},
                                     {"I64", 8},
                                     {"U64", 8},
                                     {"C64", 8}})
    all[dtype] = {dtype, {3}, std::string(static_cast<std::size_t>(3 * bytes), 0)};
  CHECK(SafetensorsFile(dir.write("dtypes.safetensors", safetensors(all))).tensors().size() == 17);
}

TEST_CASE("the content hash names config and tensors") {
  const TemporaryDirectory dir;
  write_model(dir, "a");
  write_model(dir, "b");
  RawTensors tensors = tiny_tensors();
  tensors.begin()->second.data[0] ^= 1;
  write_model(dir, "c", tiny_config(), tensors);
  const auto hash = [&](const char* name) { return Checkpoint::open(dir.path() / name).content_hash(); };
  CHECK(hash("a").size() == 32);
  CHECK(hash("a") == hash("b"));
  CHECK(hash("a") != hash("c"));
}

TEST_CASE("a file cut short between opening and loading: exit code 3, the tensor and the byte; what is before it loads") {
  const TemporaryDirectory dir;
  write_model(dir, "m");
  const fs::path path = dir.path() / "m/model.safetensors";
  const auto size = fs::file_size(path);
  Checkpoint checkpoint = Checkpoint::open(dir.path() / "m");
  fs::resize_file(path, size - 4);
  int failed = 0;
  for (const std::string& name : checkpoint.names()) {
    CAPTURE(name);
    const Failure failure = failure_of([&] { checkpoint.load_f32(name, checkpoint.info(name).shape); });
    if (failure.code == 0) continue;
    ++failed;
    CHECK(failure.code == 3);
    CHECK(dir.shown(failure.message) == "DIR/m/model.safetensors: tensor \"" + name + "\", byte " +
                                            std::to_string(size - 4) + ": the file ends here, it had " +
                                            std::to_string(size) + " bytes when it was opened: cut short while being read");
  }
  CHECK(failed == 1);
  CHECK(failure_of([&] { checkpoint.content_hash(); }).code == 3);
}
