// Encoders through the program: protocol mlm against transformers' logits, padding, what is refused.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "eval/model/safetensors.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"
#include "tests/support/tolerance.h"

using namespace qfid::tests;
using nlohmann::json;

namespace {

constexpr BertSizes sizes{48, 32, 4, 48};  // golden/make_bert.py's masked model
using Ids = std::vector<std::int32_t>;

/// The golden file's inputs: two rows of ten.
Ids golden_inputs() {
  Ids ids;
  for (int w = 0; w < 2; ++w)
    for (int i = 0; i < 10; ++i) ids.push_back((7 * i + 5 * w + 3) % 46 + 2);
  return ids;
}

std::string rows(const Ids& ids, int row) {
  return npy(npy_dict("<i4", "(" + std::to_string(static_cast<int>(ids.size()) / row) + ", " + std::to_string(row) + ")"),
             little_endian(ids));
}

struct Experiment {
  Experiment() { write_model(dir, "m", bert_config(sizes), bert_tensors(sizes, true)); }
  Outcome run(const Ids& inputs, const Ids& targets, int row, const std::string& out, const std::string& more = "",
              const std::string& data = "tokens: i.npy, targets: t.npy, protocol: mlm") const {
    dir.write("i.npy", rows(inputs, row));
    dir.write("t.npy", rows(targets, row));
    const auto config = dir.write(
        "x.yaml", "version: 1\nname: t\nmodels: {m: {path: m}}\ndata: {" + data +
                      "}\nbaseline: {backend: reference}\ntargets: {int8: {backend: reference, preset: int8-per-token" +
                      more + "}}\nmetrics: {budget_windows: 2}\n");
    return qfid_here({"run", config.string(), "--quiet", "--out", (dir.path() / out).string()});
  }
  std::string said(const Ids& inputs, const Ids& targets, int row, const std::string& data = "") const {
    const Outcome outcome = data.empty() ? run(inputs, targets, row, "out") : run(inputs, targets, row, "out", "", data);
    return std::to_string(outcome.code) + " " + dir.shown(outcome.err);
  }
  json results(const std::string& out) const { return json::parse(read_file(dir.path() / out / "results.json")); }
  TemporaryDirectory dir;
};

/// Every third target of the rows, by hand another token each.
Ids every_third(std::size_t n) {
  Ids targets(n, -100);
  for (std::size_t i = 1; i < n; i += 3) targets[i] = static_cast<std::int32_t>(5 * i % 48);
  return targets;
}

}  // namespace

TEST_CASE("protocol mlm: masked targets are scored, by transformers' logits; the record names both files") {
  const Experiment x;
  const Ids targets = every_third(20);
  const Outcome outcome = x.run(golden_inputs(), targets, 10, "out");
  REQUIRE(outcome.err == "");
  REQUIRE(outcome.code == 0);
  const qfid::quant::Tensor logits =
      qfid::eval::SafetensorsFile(std::string(QFID_SOURCE_DIR) + "/tests/eval/model/golden/bert.safetensors")
          .load_f32("logits");
  double nll = 0;
  int scored = 0;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] < 0) continue;
    const float* row = logits.view<float>().data() + 48 * i;
    double sum = 0;
    for (int v = 0; v < 48; ++v) sum += std::exp(static_cast<double>(row[v]));
    nll += std::log(sum) - static_cast<double>(row[targets[i]]);
    ++scored;
  }
  const json all = x.results("out");
  const json& baseline = all["runs"][0];
  CHECK(std::fabs(baseline["metrics"]["nll.mean"]["value"].get<double>() - nll / scored) < two_layers_f32);
  CHECK(baseline["windows"]["tokens"] == json({3, 4}));
  CHECK(all["provenance"]["protocol"] == "mlm");
  CHECK(all["provenance"]["tokens"] == "i.npy");
  CHECK(all["provenance"]["targets"] == "t.npy");
  CHECK(all["provenance"]["context"] == 10);
  // Every part of the budget an encoder has, and no other.
  CHECK(all["budgets"][0]["parts"].size() > 0);
  for (const json& layer : all["runs"][1]["layers"]) CHECK(layer["tap"] != "gate");
  // Masks are part of the data: other targets are another experiment.
  Ids others = targets;
  others[0] = 7;
  CHECK(x.run(golden_inputs(), others, 10, "others").code == 0);
  const Outcome across = qfid_here({"compare", (x.dir.path() / "out").string(), (x.dir.path() / "others").string()});
  CHECK(across.code == 2);
  CHECK(across.err.find("the hash of the tokens differs") != std::string::npos);
  CHECK(qfid_here({"report", (x.dir.path() / "out").string()}).code == 0);
}

TEST_CASE("padding behind a row changes nothing; padding inside it is masked") {
  const Experiment x;
  const Ids whole = golden_inputs(), targets = every_third(20);
  Ids padded, padded_targets;
  for (std::size_t w = 0; w < 2; ++w) {
    padded.insert(padded.end(), whole.begin() + 10 * static_cast<long>(w), whole.begin() + 10 * static_cast<long>(w + 1));
    padded_targets.insert(padded_targets.end(), targets.begin() + 10 * static_cast<long>(w),
                          targets.begin() + 10 * static_cast<long>(w + 1));
    padded.insert(padded.end(), w == 0 ? 6 : 3, 0);
    padded_targets.insert(padded_targets.end(), w == 0 ? 6 : 3, -100);
    if (w == 1) padded.insert(padded.end(), {0, 0, 0});
    if (w == 1) padded_targets.insert(padded_targets.end(), {-100, -100, -100});
  }
  REQUIRE(x.run(whole, targets, 10, "whole").code == 0);
  REQUIRE(x.run(padded, padded_targets, 16, "padded").code == 0);
  const json a = x.results("whole"), b = x.results("padded");
  for (int run : {0, 1}) {
    CHECK(a["runs"][run]["windows"] == b["runs"][run]["windows"]);
    CHECK(a["runs"][run]["layers"] == b["runs"][run]["layers"]);
  }
  Ids inside = whole;
  inside[3] = 0;
  REQUIRE(x.run(inside, targets, 10, "inside").code == 0);
  CHECK(x.results("inside")["runs"][0]["windows"]["nll"] != a["runs"][0]["windows"]["nll"]);
}

TEST_CASE("a row without masks counts nothing; static ranges take whole rows") {
  const Experiment x;
  Ids targets = every_third(20);
  std::fill(targets.begin(), targets.begin() + 10, -100);
  REQUIRE(x.run(golden_inputs(), targets, 10, "one").code == 0);
  CHECK(x.results("one")["runs"][1]["windows"]["tokens"] == json({0, 4}));
  Ids four = golden_inputs(), all = every_third(20);
  four.insert(four.end(), four.begin(), four.begin() + 20);
  all.insert(all.end(), all.begin(), all.begin() + 20);
  const Outcome outcome = x.run(four, all, 10, "static",
                                ", linear: {weights: int8/channel/absmax/dynamic, activations: int8/tensor/absmax/static}",
                                "tokens: i.npy, targets: t.npy, protocol: mlm, calibration: {first_token: 20, windows: 2}");
  CHECK(outcome.err == "");
  CHECK(outcome.code == 0);
  CHECK(x.results("static")["provenance"]["windows"] == 2);
}

TEST_CASE("simulated W8A8 runs an encoder beside real kernels; schemes don't go with it") {
  const Experiment x;
  Ids inputs = golden_inputs(), targets = every_third(20);
  inputs.insert(inputs.end(), inputs.begin(), inputs.begin() + 20);
  targets.insert(targets.end(), targets.begin(), targets.begin() + 20);
  const std::string data = "tokens: i.npy, targets: t.npy, protocol: mlm, calibration: {first_token: 20, windows: 2}";
  const Outcome outcome =
      x.run(inputs, targets, 10, "out", "}, w8a8: {backend: reference, simulated: {percentile: 99.9}", data);
  CHECK(outcome.err == "");
  REQUIRE(outcome.code == 0);
  const json run = x.results("out")["runs"][2];
  CHECK(run["mode"] == "simulated");
  CHECK(run["status"] == "ok");
  CHECK(run["description"] ==
        "simulated W8A8: weights minmax, activations percentile 99.9 with momentum 0.9; conditional on one calibration");
  CHECK(run["metrics"]["kl.mean"]["value"].get<double>() > 0);
  bool local = false;
  for (const json& row : run["layers"]) local = local || row["error"] == "local";
  CHECK(local);
  const Outcome both = x.run(inputs, targets, 10, "both", ", simulated: {}", data);
  CHECK(both.code == 2);
  CHECK(both.err.find("preset doesn't go with simulated") != std::string::npos);
}

TEST_CASE("what doesn't fit protocol mlm is refused by name") {
  const Experiment x;
  const Ids ids = golden_inputs(), targets = every_third(20);
  const std::string mlm = "tokens: i.npy, targets: t.npy, protocol: mlm";
  CHECK(x.said(ids, targets, 10, "tokens: i.npy, protocol: mlm") ==
        "2 qfid: DIR/x.yaml:4:7: protocol mlm without data.targets, expected what stood where data.tokens is "
        "masked\n");
  CHECK(x.said(ids, targets, 10, "tokens: i.npy, targets: t.npy") ==
        "2 qfid: DIR/x.yaml:4:32: data.targets belongs to protocol mlm, found window\n");
  CHECK(x.said(ids, targets, 10, mlm + ", first_token: 5") ==
        "2 qfid: DIR/x.yaml: data.first_token 5 isn't where a row of DIR/i.npy begins, expected a multiple of its 10 "
        "tokens\n");
  CHECK(x.said(ids, targets, 10, mlm + ", context: 5") ==
        "2 qfid: DIR/x.yaml: data.context 5, the rows of DIR/i.npy have 10 tokens\n");
  CHECK(x.said(ids, Ids(20, -100), 10) == "3 qfid: DIR/t.npy: every target of rows 0 to 1 is -100, nothing is scored\n");
  Ids outside = targets;
  outside[1] = 48;
  CHECK(x.said(ids, outside, 10) == "3 qfid: DIR/t.npy: token 1 is 48, outside the model's vocabulary of 48\n");
  outside[1] = -99;
  CHECK(x.said(ids, outside, 10) == "3 qfid: DIR/t.npy: token 1 is -99, expected a number from 0 to 2147483647 or -100\n");
  Ids empty = ids;
  std::fill(empty.begin() + 10, empty.end(), 0);
  CHECK(x.said(empty, targets, 10) == "3 qfid: DIR/i.npy: row 1 is nothing but padding (token 0)\n");
  Ids cut = ids;
  cut[19] = 0;
  Ids scored = targets;
  scored[19] = 3;
  CHECK(x.said(cut, scored, 10) == "3 qfid: DIR/t.npy: row 1: column 9 is scored, where the inputs are padding (token 0)\n");
  CHECK(x.said(ids, targets, 20) == "2 qfid: DIR/x.yaml: context 20 is above the model's 16 positions\n");
  x.dir.write("flat.npy", npy_tokens({3, 4, 5}));
  CHECK(x.said(ids, targets, 10, "tokens: flat.npy, targets: t.npy, protocol: mlm") ==
        "3 qfid: DIR/flat.npy: expected two dimensions (windows, tokens), found 1\n");
  x.dir.write("other.npy", rows(targets, 5));
  CHECK(x.said(ids, targets, 10, "tokens: i.npy, targets: other.npy, protocol: mlm") ==
        "3 qfid: DIR/other.npy: targets [4, 5], expected those of the tokens in DIR/i.npy, [2, 10]\n");
  write_model(x.dir, "m", tiny_config());
  CHECK(x.said(ids, targets, 10) ==
        "2 qfid: DIR/x.yaml: model m is a decoder (opt), which predicts next tokens: protocol mlm scores masked ones\n");
  write_model(x.dir, "m", bert_config(sizes), bert_tensors(sizes, false));
  CHECK(x.said(ids, targets, 10) ==
        "2 qfid: DIR/x.yaml: model m has no masked-LM head (no tensor cls.predictions.*): protocol mlm can't score it, "
        "expected data.protocol hidden\n");
}
