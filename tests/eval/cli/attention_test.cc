// qfid attention: what it says of good tensors, and that no file or argument gets past it.
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"

using namespace qfid::tests;
using nlohmann::json;

namespace {

RawTensor numbers(const std::vector<std::int64_t>& shape, std::uint32_t index = 1) {
  std::int64_t n = 1;
  for (std::int64_t dim : shape) n *= dim;
  return {"F32", shape, little_endian(formula_values(index, n))};
}

RawTensors good() {
  return {{"q", numbers({2, 4, 6, 8}, 1)}, {"k", numbers({2, 2, 9, 8}, 2)}, {"v", numbers({2, 2, 9, 4}, 3)}};
}

/// The reference backend has no peer to wait for: tests of what is said run on it.
Outcome attention(const TemporaryDirectory& dir, const RawTensors& tensors, std::vector<std::string> more = {}) {
  const std::string file = dir.write("a.safetensors", safetensors(tensors)).string();
  std::vector<std::string> arguments{"attention", file, "--backend", "reference", "--preset", "int8-per-token"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return qfid_here(arguments);
}

}  // namespace

TEST_CASE("attention on a file: the table, results.json, layers.csv and every run's output") {
  const TemporaryDirectory dir;
  const std::string out = (dir.path() / "o").string(), saved = (dir.path() / "s.safetensors").string();
  const Outcome got = attention(dir, good(), {"--causal", "--out", out, "--save-outputs", saved});
  CHECK(got.code == 0);
  CHECK(got.err.empty());
  CHECK(got.out.find("a.safetensors: attention heads=4/2 d=8/4 causal, batch 2") == 0);
  CHECK(got.out.find("\n  int8-per-token ") != std::string::npos);
  CHECK(got.out.find("format or kernel: the format") != std::string::npos);
  std::istringstream lines(got.out);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 80);

  const json record = json::parse(read_file(dir.path() / "o/results.json"));
  REQUIRE(record["runs"].size() == 2);
  CHECK(record["provenance"]["protocol"] == "attention");
  CHECK(record["models"][0]["content_hash"].get<std::string>().size() == 32);
  int heads = 0;
  for (const json& row : record["runs"][1]["layers"]) heads += row["tap"] == "output" && row["error"] == "local";
  CHECK(heads == 5);  // four heads and all together
  CHECK(read_file(dir.path() / "o/layers.csv").starts_with("model,target,error,layer,tap,head,"));
  const std::string bytes = read_file(saved);
  CHECK(bytes.find("\"baseline\"") != std::string::npos);
  CHECK(bytes.find("\"shape\":[2,4,6,4]") != std::string::npos);

  // Only `qfid run`'s results have reports and gates.
  const Outcome report = qfid_here({"report", out});
  CHECK(report.code == 3);
  CHECK(report.err.find("expected a protocol of qfid run: these are results of qfid attention") != std::string::npos);
}

TEST_CASE("attention with everything: sink, gate at either site, masks of three kinds; targets from a file") {
  const TemporaryDirectory dir;
  RawTensors tensors = good();
  tensors["sink"] = numbers({4}, 4);
  tensors["gate"] = numbers({2, 4, 6}, 5);
  tensors["mask"] = {"BOOL", {6, 9}, std::string(54, '\1')};
  CHECK(attention(dir, tensors).code == 0);
  tensors["gate"] = numbers({2, 2, 9}, 5);
  tensors["mask"] = numbers({2, 1, 1, 9}, 6);
  CHECK(attention(dir, tensors, {"--gate-site", "value"}).code == 0);
  CHECK(attention(dir, tensors)
            .err.find("tensor \"gate\": expected [batch, heads, q_len] (output site) = [2, 4, 6], found "
                      "[2, 2, 9]") != std::string::npos);
  tensors["unrelated"] = {"I64", {1}, std::string(8, '\0')};
  const std::string targets =
      dir.write(
             "t.yaml",
             "targets:\n  mine: {backend: reference, attention: {q: int8/token, k: int8/token, p: uint8, v: int8/channel}}\n"
             "  ranges: {backend: reference, preset: int8-per-tensor-static}\n")
          .string();
  const Outcome named = qfid_here({"attention", (dir.path() / "a.safetensors").string(), "--gate-site", "value", "--backend",
                                   "reference", "--targets", targets});
  CHECK(named.code == 0);
  CHECK(named.out.find("  mine ") != std::string::npos);
  CHECK(named.out.find("  ranges ") != std::string::npos);
}

TEST_CASE("attention on generated tensors: the same seed, the same bytes; a sink is seen as one") {
  const auto run = [](const char* fill, const char* seed) {
    return qfid_here({"attention", "--problem", "1x2x80x16", "--fill", fill, "--seed", seed, "--causal", "--backend",
                      "reference", "--preset", "fp8-e4m3"});
  };
  const Outcome sink = run("sink", "3");
  CHECK(sink.code == 0);
  CHECK(sink.out.find("sink_rate.q64.t0.3 1.0000") != std::string::npos);
  CHECK(run("sink", "3").out == sink.out);
  CHECK(run("sink", "4").out != sink.out);
  CHECK(run("normal", "3").out.find("sink_rate.q64.t0.3 0,") != std::string::npos);
}

TEST_CASE("a batch of more entries than a model's sample of windows is measured whole; where to write is asked first") {
  const Outcome many = qfid_here(
      {"attention", "--problem", "40x1x70x8", "--backend", "reference", "--preset", "int8-per-token", "--no-twins"});
  CHECK(many.code == 0);
  const TemporaryDirectory dir;
  const std::string file = dir.write("f", "not a directory").string();
  const Outcome nowhere = attention(dir, good(), {"--out", file + "/o"});
  CHECK(nowhere.code == 3);
  CHECK(nowhere.out.empty());
}

TEST_CASE("files that aren't attention are refused with exit code 3, naming the tensor") {
  const TemporaryDirectory dir;
  const auto refused = [&](const RawTensors& tensors, const std::string& what, int code = 3) {
    const Outcome got = attention(dir, tensors);
    CAPTURE(what, got.err);
    CHECK(got.code == code);
    CHECK(got.out.empty());
    CHECK(got.err.find(what) != std::string::npos);
  };
  const auto with = [&](const std::string& name, const RawTensor& tensor) {
    RawTensors tensors = good();
    tensors[name] = tensor;
    return tensors;
  };
  refused({}, "no tensor \"q\"");
  refused({{"q", numbers({2, 4, 6, 8})}}, "no tensor \"k\"");
  refused(with("q", numbers({4, 6, 8})),
          "tensor \"q\": expected [batch, heads, q_len, d] with nothing empty, found [4, 6, 8]");
  refused(with("q", numbers({2, 4, 0, 8})), "with nothing empty, found [2, 4, 0, 8]");
  refused(with("k", numbers({1, 2, 9, 8})), "tensor \"k\": batch 1, expected q's 2");
  refused(with("v", numbers({1, 2, 9, 4})), "tensor \"v\": batch 1, expected q's 2");
  refused(with("k", numbers({2, 2, 9, 7})), "tensor \"k\": head size 7, expected q's 8");
  refused(with("v", numbers({2, 2, 8, 4})), "tensor \"v\": 2 heads of 8 tokens, expected k's 2 of 9");
  refused(with("v", numbers({2, 1, 9, 4})), "tensor \"v\": 1 heads of 9 tokens, expected k's 2 of 9");
  RawTensors three = with("k", numbers({2, 3, 9, 8}));
  three["v"] = numbers({2, 3, 9, 4});
  refused(three, "tensor \"k\": 3 heads, which don't divide q's 4");
  refused(with("q", numbers({2, 4, 10, 8})), "tensor \"k\": 9 tokens, expected at least q's 10");
  refused(with("q", {"I64", {2, 4, 6, 8}, std::string(2 * 4 * 6 * 8 * 8, '\0')}), "dtype I64 can't be read as f32");
  refused(with("sink", numbers({2})), "tensor \"sink\": expected [heads] = [4], found [2]");
  refused(with("gate", numbers({2, 4, 9})), "tensor \"gate\": expected [batch, heads, q_len] (output site) = [2, 4, 6]");
  refused(with("mask", numbers({5, 9})), "tensor \"mask\": found [5, 9], which doesn't broadcast to [2, 4, 6, 9]");
  refused(with("mask", numbers({1, 2, 4, 6, 9})), "which doesn't broadcast to [2, 4, 6, 9]");
  refused(with("mask", {"I64", {9}, std::string(72, '\0')}), "tensor \"mask\": dtype I64 can't be read as f32");
  std::vector<float> values = formula_values(1, 2 * 4 * 6 * 8);
  values[17] = NAN;
  refused(with("q", {"F32", {2, 4, 6, 8}, little_endian(values)}),
          "tensor \"q\": element 17 is nan, expected finite numbers");
  std::vector<float> mask(54, -INFINITY);
  CHECK(attention(dir, with("mask", {"F32", {6, 9}, little_endian(mask)})).code == 0);  // nothing to see: outputs are 0
  mask[3] = INFINITY;
  refused(with("mask", {"F32", {6, 9}, little_endian(mask)}),
          "tensor \"mask\": element 3 is inf, expected finite numbers or -inf");

  const std::string text = dir.write("text.safetensors", "not a tensor file").string();
  CHECK(qfid_here({"attention", text}).code == 3);
  CHECK(qfid_here({"attention", (dir.path() / "nowhere").string()}).code == 3);
}

TEST_CASE("arguments of attention that don't fit together are exit code 2") {
  const TemporaryDirectory dir;
  const std::string file = dir.write("a.safetensors", safetensors(good())).string();
  const auto usage = [](const std::vector<std::string>& arguments, const std::string& what) {
    std::vector<std::string> all{"attention"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Outcome got = qfid_here(all);
    CAPTURE(what, got.err);
    CHECK(got.code == 2);
    CHECK(got.err.find(what) != std::string::npos);
  };
  usage({}, "expected either FILE.safetensors or --problem");
  usage({file, "--problem", "1x1x8x8"}, "expected either FILE.safetensors or --problem");
  usage({file, "--fill", "sink"}, "--fill belongs to --problem");
  usage({"--problem", "1x1x8"}, "--problem 1x1x8: expected BATCHxHEADSxLENGTHxHEAD_DIM");
  usage({"--problem", "1x1x8x8x8"}, "expected BATCHxHEADSxLENGTHxHEAD_DIM");
  usage({"--problem", "1x0x8x8"}, "expected BATCHxHEADSxLENGTHxHEAD_DIM");
  usage({"--problem", "1x1x99999999999999999999x8"}, "expected BATCHxHEADSxLENGTHxHEAD_DIM");
  usage({file, "--preset", "int9"}, "unknown preset \"int9\"");
  usage({file, "--fill", "uniform"}, "--fill");
  usage({file, "--scale", "-1"}, "--scale");
  usage({file, "--backend", "tpu"}, "--backend");
  const std::string none = dir.write("none.yaml", "gates: {}\n").string();
  usage({file, "--targets", none}, "no targets, expected a map \"targets\"");
  const std::string wrong = dir.write("wrong.yaml", "targets: {a: {attention: {q: int9}}}\n").string();
  usage({file, "--targets", wrong}, "wrong.yaml:1:");
  usage({file, "--targets", (dir.path() / "nowhere.yaml").string()}, "no such configuration file");
}
