// Models without a head, and any other, by their hidden states: protocol hidden through the program.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "eval/model/safetensors.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"
#include "tests/support/tolerance.h"

using namespace qfid::tests;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr BertSizes sizes{40, 384, 12, 64};  // golden/make_bert.py's model without a head
using Ids = std::vector<std::int32_t>;

/// The golden file's inputs: two rows of twelve, the second of eight tokens and padding.
Ids golden_inputs() {
  Ids ids;
  for (int w = 0; w < 2; ++w)
    for (int i = 0; i < 12; ++i) ids.push_back(w == 1 && i >= 8 ? 0 : (7 * i + 5 * w + 3) % 38 + 2);
  return ids;
}

std::string rows(const Ids& ids, int row) {
  return npy(npy_dict("<i4", "(" + std::to_string(static_cast<int>(ids.size()) / row) + ", " + std::to_string(row) + ")"),
             little_endian(ids));
}

struct Experiment {
  Experiment() {
    write_model(dir, "m", bert_config(sizes), bert_tensors(sizes, false));
    dir.write("flat.npy", npy(npy_dict("<i4", "(24,)"), little_endian(golden_inputs())));
    dir.write("rows.npy", rows(golden_inputs(), 12));
  }
  std::string config(const std::string& data, const std::string& more = "") const {
    return dir
        .write("x.yaml", "version: 1\nname: t\nmodels: {m: {path: m}}\ndata: {" + data +
                             "}\nbaseline: {backend: reference}\ntargets: {int8: {backend: reference, preset: "
                             "int8-per-tensor}, int8-token: {backend: reference, preset: int8-per-token}}\n" +
                             more)
        .string();
  }
  Outcome run(const std::string& data, const std::string& out, const std::string& more = "",
              const std::vector<std::string>& options = {}) const {
    std::vector<std::string> all{"run", config(data, more), "--quiet", "--out", (dir.path() / out).string()};
    all.insert(all.end(), options.begin(), options.end());
    return qfid_here(all);
  }
  std::string said(const std::string& data, const std::string& more = "") const {
    const Outcome outcome = run(data, "out", more);
    return std::to_string(outcome.code) + " " + dir.shown(outcome.err);
  }
  json results(const std::string& out) const { return json::parse(read_file(dir.path() / out / "results.json")); }
  /// A dumped f32 table's numbers.
  std::vector<float> dumped(const std::string& dump, const std::string& target) const {
    const std::string file = read_file(dir.path() / dump / "m" / target / "last_hidden.npy");
    std::vector<float> values((file.size() - 128) / 4);
    std::memcpy(values.data(), file.data() + 128, 4 * values.size());
    return values;
  }
  TemporaryDirectory dir;
};

const std::string flat = "tokens: flat.npy, context: 12, protocol: hidden";

}  // namespace

TEST_CASE("protocol hidden: an encoder without a head, transformers' hidden states, errors worked out from the dump") {
  const Experiment x;
  const Outcome outcome = x.run(flat, "out", "", {"--dump", (x.dir.path() / "dump").string()});
  REQUIRE(outcome.err == "");
  REQUIRE(outcome.code == 0);
  const std::vector<float> full = x.dumped("dump", "baseline");
  const qfid::quant::Tensor golden =
      qfid::eval::SafetensorsFile(std::string(QFID_SOURCE_DIR) + "/tests/eval/model/golden/bert.safetensors")
          .load_f32("hidden");
  REQUIRE(golden.shape().elements() == static_cast<std::int64_t>(full.size()));
  for (std::size_t i = 0; i < full.size(); ++i)
    REQUIRE(std::fabs(static_cast<double>(full[i]) - static_cast<double>(golden.view<float>().data()[i])) < two_layers_f32);

  const json all = x.results("out");
  CHECK(all["provenance"]["protocol"] == "hidden");
  CHECK(all["runs"][0]["windows"]["tokens"] == json({12, 8}));
  CHECK_FALSE(all["runs"][0]["metrics"].contains("hidden.nmse.mean"));
  CHECK_FALSE(all["runs"][1]["metrics"].contains("perplexity"));
  for (const auto& [index, target] : {std::pair{1, "int8"}, std::pair{2, "int8-token"}}) {
    CAPTURE(target);
    const std::vector<float> test = x.dumped("dump", target);
    double nmse = 0, distance = 0, pooled = 0;
    for (int w = 0; w < 2; ++w) {
      double px[384] = {}, py[384] = {};
      for (int t = 0; t < (w == 0 ? 12 : 8); ++t) {
        double xx = 0, yy = 0, xy = 0, error = 0;
        for (int c = 0; c < 384; ++c) {
          const double a = static_cast<double>(full[static_cast<std::size_t>((w * 12 + t) * 384 + c)]),
                       b = static_cast<double>(test[static_cast<std::size_t>((w * 12 + t) * 384 + c)]);
          xx += a * a, yy += b * b, xy += a * b, error += (a - b) * (a - b);
          px[c] += a, py[c] += b;
        }
        nmse += error / xx / 20;
        distance += (1 - xy / std::sqrt(xx * yy)) / 20;
      }
      double xx = 0, yy = 0, xy = 0;
      for (int c = 0; c < 384; ++c) xx += px[c] * px[c], yy += py[c] * py[c], xy += px[c] * py[c];
      pooled += (1 - xy / std::sqrt(xx * yy)) / 2;
    }
    const json metrics = all["runs"][index]["metrics"];
    const auto value = [&](const char* name) { return metrics[name]["value"].get<double>(); };
    CHECK(nmse > 0);
    CHECK(std::fabs(value("hidden.nmse.mean") - nmse) <= 1e-12);
    CHECK(std::fabs(value("hidden.cosine_distance.mean") - distance) <= 1e-12);
    CHECK(std::fabs(value("hidden.pooled.cosine_distance.mean") - pooled) <= 1e-12);
    CHECK(std::fabs(value("hidden.sqnr") + 10 * std::log10(nmse)) <= 1e-6);
  }
  // No head: none is counted, none is packed.
  CHECK(all["runs"][1]["implementations"].contains("q_proj"));
  CHECK_FALSE(all["runs"][1]["implementations"].contains("lm_head"));
  const double weights = all["runs"][0]["metrics"]["weights.bytes"]["value"].get<double>();
  CHECK(weights ==
        4.0 * (40 + 16 + 2) * 384 + 4 * 384 * (4 * 2 + 2) + 4 * 2.0 * (4 * 384 * 384 + 2 * 384 * 64 + 4 * 384 + 384 + 64));
  // Everything that reads records reads these.
  const std::string out = (x.dir.path() / "out").string();
  for (const char* format : {"--html", "--markdown", "--pr", "--openmetrics", "--lm-eval", "--junit", "--csv"}) {
    CAPTURE(format);
    CHECK(qfid_here({"report", out, format, (x.dir.path() / "report").string() + format}).code == 0);
  }
  CHECK(qfid_here({"compare", out, out}).out.find("hidden.nmse.mean") != std::string::npos);
  const std::string markdown = read_file(x.dir.path() / "out" / "report.md");
  CHECK(markdown.find("| SQNR, dB | NMSE | Interval |") != std::string::npos);
  CHECK(markdown.find("erplexity") == std::string::npos);
  CHECK(read_file(x.dir.path() / "report--html").find("erplexity") == std::string::npos);
}

TEST_CASE("rows and windows of protocol hidden are the same tokens; a decoder's are behind its final norm") {
  const Experiment x;
  REQUIRE(x.run(flat, "flat").code == 0);
  REQUIRE(x.run("tokens: rows.npy, protocol: hidden", "rows").code == 0);
  const json a = x.results("flat"), b = x.results("rows");
  CHECK(a["runs"][0]["windows"] == b["runs"][0]["windows"]);
  for (int run : {1, 2}) {  // a row's padding is gone; in a block it counts for dynamic ranges, though nothing sees it
    CHECK(a["runs"][run]["windows"]["hidden_nmse"][0] == b["runs"][run]["windows"]["hidden_nmse"][0]);
    CHECK(a["runs"][run]["windows"]["tokens"] == b["runs"][run]["windows"]["tokens"]);
  }
  Ids whole = golden_inputs();
  std::replace(whole.begin(), whole.end(), 0, 9);
  x.dir.write("flat.npy", npy(npy_dict("<i4", "(24,)"), little_endian(whole)));
  x.dir.write("rows.npy", rows(whole, 12));
  REQUIRE(x.run(flat, "whole-flat").code == 0);
  REQUIRE(x.run("tokens: rows.npy, protocol: hidden", "whole-rows").code == 0);
  const json c = x.results("whole-flat"), d = x.results("whole-rows");
  CHECK(c["runs"] != a["runs"]);
  for (int run : {0, 1, 2}) CHECK(c["runs"][run]["windows"] == d["runs"][run]["windows"]);
  CHECK(read_file(x.dir.path() / "whole-flat" / "tokens.npy") == read_file(x.dir.path() / "whole-rows" / "tokens.npy"));

  write_model(x.dir, "m", tiny_config());
  x.dir.write("t.npy", npy_tokens({3, 4, 5, 1, 2, 3, 4, 5}));
  const Outcome outcome =
      x.run("tokens: t.npy, context: 4, protocol: hidden", "opt", "", {"--dump", (x.dir.path() / "opt-dump").string()});
  REQUIRE(outcome.err == "");
  REQUIRE(outcome.code == 0);
  CHECK(x.results("opt")["runs"][1]["windows"]["tokens"] == json({4, 4}));  // a decoder has no padding
  REQUIRE(
      x.run("tokens: t.npy, context: 4, protocol: gptq", "scored", "", {"--dump", (x.dir.path() / "d2").string()}).code ==
      0);
  const std::string norm = read_file(x.dir.path() / "d2" / "m" / "baseline" / "final_norm.npy");
  CHECK(read_file(x.dir.path() / "opt-dump" / "m" / "baseline" / "last_hidden.npy") == norm);
}

TEST_CASE("hidden states are gated, saved, compared bit for bit") {
  const Experiment x;
  Ids many;
  for (int w = 0; w < 36; ++w)
    for (int i = 0; i < 12; ++i) many.push_back((7 * i + 5 * w + 3) % 38 + 2);
  x.dir.write("many.npy", rows(many, 12));
  const std::string data = "tokens: many.npy, protocol: hidden";
  const std::string loose =
      "gates: {near: {metric: hidden.nmse.mean, max: 0.9}, pooled: {metric: hidden.pooled.cosine_distance.mean, max: "
      "0.9}}\n";
  Outcome outcome = x.run(data, "out", loose);
  CHECK(outcome.err == "");
  CHECK(outcome.code == 0);
  CHECK(x.results("out")["gates"][1]["verdict"] == "pass");
  CHECK(x.run(data, "strict", "gates: {near: {metric: hidden.nmse.mean, max: 1e-12}}\n").code == 1);
  const std::string out = (x.dir.path() / "out").string(), saved = (x.dir.path() / "saved.json").string();
  CHECK(qfid_here({"baseline", "save", out, "-o", saved}).code == 0);
  CHECK(
      x.run(data, "again", "gates: {same: {metric: hidden.nmse.mean, max: 1e-9, relative_to: {file: saved.json}}}\n").code ==
      0);
  CHECK(qfid_here({"recommend", out, "--budget", "{metric: hidden.nmse.mean, max: 0.9}"}).code == 0);
  CHECK(qfid_here({"plan", x.config(data), "--pilot", out}).out.find("hidden.nmse.mean") != std::string::npos);
}

TEST_CASE("what protocol hidden doesn't have is refused by name") {
  const Experiment x;
  CHECK(x.said(flat + ", targets: rows.npy") ==
        "2 qfid: DIR/x.yaml:4:66: data.targets belongs to protocol mlm, found hidden\n");
  CHECK(x.said("text: flat.npy, tokenizer: flat.npy, protocol: hidden") ==
        "2 qfid: DIR/x.yaml:4:14: protocol hidden reads data.tokens, expected a .npy file of one or two dimensions\n");
  CHECK(x.said(flat, "metrics: {budget_windows: 2}\n") ==
        "2 qfid: DIR/x.yaml:7:27: budget_windows measures by scored tokens, and protocol hidden scores none\n");
  CHECK(x.said(flat, "metrics: {interventions: [mask_key_0]}\n") ==
        "2 qfid: DIR/x.yaml:7:26: interventions measures by scored tokens, and protocol hidden scores none\n");
  CHECK(x.said(flat, "gates: {g: {metric: kl.mean, max: 1}}\n") ==
        "2 qfid: DIR/x.yaml:7:12: gate \"g\": kl.mean is of scored tokens, protocol hidden has hidden.nmse.mean, "
        "hidden.cosine_distance.mean, hidden.pooled.cosine_distance.mean\n");
  CHECK(x.said(flat, "gates: {g: {exact: logits, relative_to: {file: b.json}}}\n") ==
        "2 qfid: DIR/x.yaml:7:12: gate \"g\": protocol hidden makes no logits, expected exact: taps\n");
  CHECK(x.said("tokens: flat.npy, context: 12", "gates: {g: {metric: hidden.nmse.mean, max: 1}}\n") ==
        "2 qfid: DIR/x.yaml:7:12: gate \"g\": hidden.nmse.mean is of hidden states, expected data.protocol: hidden\n");
  CHECK(x.said("tokens: flat.npy, context: 12") ==
        "2 qfid: DIR/x.yaml: model m is an encoder (bert), which predicts no next token: protocol window can't score it, "
        "expected data.protocol mlm with data.tokens and data.targets, or hidden\n");
  Ids empty = golden_inputs();
  std::fill(empty.begin() + 12, empty.end(), 0);
  x.dir.write("rows.npy", rows(empty, 12));
  CHECK(x.said("tokens: rows.npy, protocol: hidden") == "3 qfid: DIR/rows.npy: row 1 is nothing but padding (token 0)\n");
  x.dir.write("flat.npy", npy(npy_dict("<i4", "(24,)"), little_endian(empty)));
  CHECK(x.said(flat) == "3 qfid: DIR/flat.npy: window 1 is nothing but padding (token 0)\n");
  x.dir.write("cube.npy", npy(npy_dict("<i4", "(2, 3, 4)"), little_endian(golden_inputs())));
  CHECK(x.said("tokens: cube.npy, protocol: hidden") ==
        "3 qfid: DIR/cube.npy: expected one dimension (a row of tokens) or two (windows, tokens), found 3\n");
}
