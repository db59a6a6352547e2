// Encoders against Hugging Face transformers (golden/bert.safetensors, made by golden/make_bert.py).
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <numeric>

#include "eval/model/checkpoint.h"
#include "eval/model/decoder.h"
#include "eval/model/decoder_weights.h"
#include "kernels/registry/registry.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;
using nlohmann::json;

namespace {

constexpr BertSizes bare_sizes{40, 384, 12, 64}, masked_sizes{48, 32, 4, 48};

std::vector<float> values_of(const quant::Tensor& tensor) {
  const auto span = tensor.view<float>().span();
  return {span.begin(), span.end()};
}

std::vector<float> golden(const std::string& name) {
  const std::filesystem::path path = std::string(QFID_SOURCE_DIR) + "/tests/eval/model/golden/bert.safetensors";
  return values_of(SafetensorsFile(path).load_f32(name));
}

quant::Tensor ids_of(std::int64_t windows, std::int64_t length, std::int64_t vocab) {
  quant::Tensor ids(quant::DType::i32, quant::Shape{windows, length});
  for (std::int64_t w = 0; w < windows; ++w)
    for (std::int64_t i = 0; i < length; ++i)
      ids.view<std::int32_t>()[w * length + i] = static_cast<std::int32_t>((7 * i + 5 * w + 3) % (vocab - 2) + 2);
  return ids;
}

struct Run {
  std::vector<float> hidden, logits;
};

Run run(const std::filesystem::path& model, const std::string& backend_name, const quant::Tensor& ids) {
  const ModelConfig config = read_config(model);
  Checkpoint checkpoint = Checkpoint::open(model);
  const DecoderWeights weights = load_weights(checkpoint, config);
  const auto backend = kernels::make_backend(backend_name);
  DecoderResources resources(*backend, weights);
  DecoderPrecision precision;
  precision.layers.resize(static_cast<std::size_t>(config.num_hidden_layers));
  Decoder decoder(resources, precision, {});
  kernels::DeviceTensor hidden = decoder.embed(backend->upload(ids));
  const kernels::DeviceTensor mask = decoder.key_mask(ids);
  for (int l = 0; l < decoder.layers(); ++l) hidden = decoder.layer(l, hidden, nullptr, mask).residual;
  Run out{values_of(backend->download(hidden)), {}};
  NamedCounts counts;
  if (decoder.has_head()) out.logits = values_of(backend->download(decoder.logits(hidden, counts)));
  return out;
}

/// Largest difference; NaN when one is.
double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= most)) most = d;
    if (std::isnan(d)) return d;
  }
  return most;
}

std::vector<std::string> backends_here() {
  std::vector<std::string> all;
  for (std::string_view name : kernels::backend_names())
    if (kernels::make_backend(name)->available()) all.emplace_back(name);
  return all;
}

}  // namespace

TEST_CASE("a BertModel without a head, 12 heads of 32, with padding: transformers' hidden states") {
  const TemporaryDirectory dir;
  write_model(dir, "bert", bert_config(bare_sizes), bert_tensors(bare_sizes, false));
  quant::Tensor ids = ids_of(2, 12, bare_sizes.vocab);
  for (int i = 8; i < 12; ++i) ids.view<std::int32_t>()[12 + i] = 0;
  const std::vector<float> expected = golden("hidden");
  for (const std::string& backend : backends_here()) {
    CAPTURE(backend);
    const Run got = run(dir.path() / "bert", backend, ids);
    CHECK(got.logits.empty());
    CHECK(largest_difference(got.hidden, expected) < two_layers_f32);
  }
  // Without the mask the padded window's hidden states are others: the test sees the mask.
  json config = bert_config(bare_sizes);
  config["pad_token_id"] = 1;
  write_model(dir, "unmasked", config, bert_tensors(bare_sizes, false));
  CHECK(largest_difference(run(dir.path() / "unmasked", "reference", ids).hidden, expected) > 100 * two_layers_f32);
}

TEST_CASE("BertForMaskedLM: transformers' logits, under new and old names, with and without the tied decoder stored") {
  const TemporaryDirectory dir;
  const RawTensors tensors = bert_tensors(masked_sizes, true);
  write_model(dir, "new", bert_config(masked_sizes), tensors);
  RawTensors old;
  for (const auto& [name, tensor] : tensors) {
    std::string renamed = name;
    if (const std::size_t at = renamed.find("LayerNorm.weight"); at != std::string::npos)
      renamed.replace(at + 10, 6, "gamma");
    if (const std::size_t at = renamed.find("LayerNorm.bias"); at != std::string::npos) renamed.replace(at + 10, 4, "beta");
    old[renamed] = tensor;
  }
  old["cls.predictions.decoder.weight"] = tensors.at("bert.embeddings.word_embeddings.weight");
  old["bert.pooler.dense.bias"] = {"F32", {32}, little_endian(formula_values(7, 32))};
  write_model(dir, "old", bert_config(masked_sizes), old);
  const quant::Tensor ids = ids_of(2, 10, masked_sizes.vocab);
  const std::vector<float> expected = golden("logits");
  for (const std::string& backend : backends_here())
    for (const char* folder : {"new", "old"}) {
      CAPTURE(backend, folder);
      CHECK(largest_difference(run(dir.path() / folder, backend, ids).logits, expected) < two_layers_f32);
    }

  Checkpoint checkpoint = Checkpoint::open(dir.path() / "old");
  const ModelConfig config = read_config(dir.path() / "old");
  CHECK(check_weights(checkpoint, config) ==
        std::vector<std::string>{"bert.pooler.dense.bias", "cls.predictions.decoder.weight"});
  CHECK(tensor_role(config, "bert.encoder.layer.1.attention.output.LayerNorm.gamma") == "layers.1.attn_norm.weight");
  CHECK(tensor_role(config, "bert.encoder.layer.1.output.dense.bias") == "layers.1.fc2.bias");
  CHECK(tensor_role(config, "cls.predictions.transform.LayerNorm.beta") == "head_norm.bias");
  CHECK(tensor_role(config, "bert.pooler.dense.bias").empty());
}

TEST_CASE("encoders whose configuration or tensors don't fit are refused, every problem named") {
  const TemporaryDirectory dir;
  const auto refusal = [&](const json& config, const RawTensors& tensors) -> std::string {
    write_model(dir, "m", config, tensors);
    try {
      const ModelConfig read = read_config(dir.path() / "m");
      Checkpoint checkpoint = Checkpoint::open(dir.path() / "m");
      check_weights(checkpoint, read);
    } catch (const quant::Error& error) {
      CHECK(error.kind() == quant::ErrorKind::input);
      return error.what();
    }
    return "accepted";
  };
  const RawTensors tensors = bert_tensors(masked_sizes, true);
  const auto with = [&](const char* key, const json& value) {
    json config = bert_config(masked_sizes);
    config[key] = value;
    return refusal(config, tensors);
  };
  const auto says = [](const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; };
  CHECK(refusal(bert_config(masked_sizes), tensors) == "accepted");
  CHECK(says(with("position_embedding_type", "relative_key"),
             "position_embedding_type: expected one of absolute, found relative_key"));
  CHECK(says(with("is_decoder", true), "is_decoder: must be false: causal BERT models are not supported"));
  CHECK(says(with("layer_norm_eps", -1), "layer_norm_eps: expected a number above 0 and below 1, found -1"));
  CHECK(says(with("layer_norm_eps", "small"), "layer_norm_eps: expected a number above 0 and below 1, found \"small\""));
  CHECK(says(with("intermediate_size", 0), "intermediate_size: expected a whole number from 1 to 16777216, found 0"));
  CHECK(says(with("hidden_act", "mish"), "hidden_act: expected one of relu, gelu"));
  CHECK(says(with("pad_token_id", 48), "pad_token_id: expected a whole number from 0 to 47, found 48"));
  CHECK(says(with("type_vocab_size", 3), "embeddings.token_type_embeddings.weight"));
  RawTensors missing = tensors;
  missing.erase("cls.predictions.bias");
  missing.erase("bert.encoder.layer.1.output.LayerNorm.bias");
  CHECK(says(refusal(bert_config(masked_sizes), missing),
             "missing tensors: bert.encoder.layer.1.output.LayerNorm.bias, cls.predictions.bias"));
  RawTensors gated = tensors;
  gated["bert.encoder.layer.0.attention.self.gate_proj.weight"] = {"F32", {4, 32}, little_endian(formula_values(3, 128))};
  CHECK(says(refusal(bert_config(masked_sizes), gated), "changes the arithmetic, but config.json's attention object"));
}
