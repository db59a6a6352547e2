// Malformed checkpoints through the readers: the exact message, and nothing loaded. The program's side of the same tables is
// tests/eval/cli/malformed_test.cc.
#include <catch2/catch_test_macros.hpp>

#include "eval/model/checkpoint.h"
#include "eval/model/decoder_weights.h"
#include "quant/core/random.h"
#include "tests/support/malformed.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

namespace {

void read_all(const std::filesystem::path& model) {
  const ModelConfig config = read_config(model);
  Checkpoint checkpoint = Checkpoint::open(model);
  check_weights(checkpoint, config);
}

void check(const std::vector<MalformedModel>& all) {
  for (const MalformedModel& malformed : all) {
    const TemporaryDirectory dir;
    malformed.write(dir);
    const Failure failure = failure_of([&] { read_all(dir.path() / "m"); });
    CAPTURE(malformed.name);
    CHECK(failure.code == 3);
    CHECK(dir.shown(failure.message) == malformed.expected);
  }
}

}  // namespace

TEST_CASE("malformed safetensors files are refused") { check(malformed_safetensors()); }
TEST_CASE("malformed indices are refused") { check(malformed_indices()); }
TEST_CASE("malformed model configurations are refused") { check(malformed_configs()); }
TEST_CASE("checkpoints that don't fit their configuration are refused") { check(malformed_checkpoints()); }

TEST_CASE("a tensor that can't be f32 is refused by name when loaded") {
  const TemporaryDirectory dir;
  const auto path = dir.write("x.safetensors", safetensors({{"double", {"F64", {1}, std::string(8, 0)}},
                                                            {"six", {"F32", {1, 1, 1, 1, 1, 1}, std::string(4, 0)}}}));
  const SafetensorsFile file(path);
  const auto refused = [&](const std::string& name) { return dir.shown(failure_of([&] { file.load_f32(name); }).message); };
  CHECK(refused("double") ==
        "DIR/x.safetensors: tensor \"double\": dtype F64 can't be read as f32, expected F32, BF16 or F16");
  CHECK(refused("six") == "DIR/x.safetensors: tensor \"six\": has 6 dimensions, at most 5 are supported");
  CHECK(refused("none") == "DIR/x.safetensors: no tensor \"none\"");
}

TEST_CASE("ten thousand missing layers are counted, not listed") {
  const TemporaryDirectory dir;
  nlohmann::json config = tiny_config();
  config["num_hidden_layers"] = 10000;
  write_model(dir, "m", config);
  const Failure failure = failure_of([&] { read_all(dir.path() / "m"); });
  CHECK(failure.code == 3);
  CHECK(failure.message.size() < 10000);
  CHECK(failure.message.ends_with(" and 159884 more"));  // 9,999 layers of 16 tensors, 100 named
}

TEST_CASE("no mutation of a good file does more than fail") {
  const TemporaryDirectory dir;
  const std::string config = tiny_config().dump(), tensors = safetensors(tiny_tensors());
  const std::size_t header = 8 + static_cast<std::size_t>(static_cast<unsigned char>(tensors[0])) +
                             256 * static_cast<std::size_t>(static_cast<unsigned char>(tensors[1]));
  const std::string digits = "0123456789-\"{}[],:eE.nulltrue\\\xff";
  quant::Random random(20240229);
  int good = 0, refused = 0;
  for (int round = 0; round < 4000; ++round) {
    const bool in_config = round % 4 == 0;
    std::string text = in_config ? config : tensors;
    const std::size_t end = in_config ? text.size() : header;
    for (int edits = 1 + static_cast<int>(random.bits() % 3); edits > 0; --edits) {
      const std::size_t at = random.bits() % std::min(end, text.size());
      const std::size_t kind = random.bits() % 4;
      if (kind == 0) text.erase(at, 1 + random.bits() % 4);
      if (kind == 1) text.insert(at, text.substr(random.bits() % text.size(), random.bits() % 20));
      if (kind >= 2) text[at] = digits[random.bits() % digits.size()];
    }
    dir.write("m/config.json", in_config ? text : config);
    dir.write("m/model.safetensors", in_config ? tensors : text);
    const Failure failure = failure_of([&] { read_all(dir.path() / "m"); });
    CAPTURE(round, failure.message);
    CHECK((failure.code == 0 || failure.code == 3));
    ++(failure.code == 0 ? good : refused);
  }
  CHECK(refused > 3000);  // the rest changed a number or a name that doesn't matter
  CHECK(good > 0);
}
