// Text as data, through the program: the same tokens as a token file, what is recorded, what is refused.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"

using namespace qfid::tests;
using nlohmann::json;

namespace {

const std::string source = QFID_SOURCE_DIR;

/// A built-in model and a text of its kind of prose.
struct TextExperiment {
  TextExperiment() {
    std::string prose;
    for (int i = 0; i < 60; ++i)
      prose += "It was the " + std::to_string(i) + "th of the month, and he said: \"Where's the ship?\"\n" +
               (i % 7 == 0 ? "\n" : "");
    dir.write("t.txt", prose);
  }
  Outcome run(const std::string& data, const std::string& out, const std::vector<std::string>& more = {},
              bool sampled = false) const {
    const auto config = dir.write(
        "x.yaml", "version: 1\nname: t\nmodels: {m: {path: " + source + "/configs/models/tiny-softmax}}\ndata: {" + data +
                      "}\nmetrics: {kernel_windows: 0" + std::string(sampled ? "" : ", local_windows: 0, sink_windows: 0") +
                      "}\nbaseline: {backend: "
                      "reference}\ntargets: {int8: {backend: reference, preset: int8-per-token}}\n");
    std::vector<std::string> arguments{"run", config.string(), "--quiet", "--out", (dir.path() / out).string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return qfid_here(arguments);
  }
  /// Exit code and message.
  std::string said(const std::string& data) const {
    const Outcome outcome = run(data, "out");
    return std::to_string(outcome.code) + " " + replaced(dir.shown(outcome.err), source, "SOURCE");
  }
  json results(const std::string& out) const { return json::parse(read_file(dir.path() / out / "results.json")); }
  TemporaryDirectory dir;
};

const std::string tokenizer = "tokenizer: " + source + "/configs/data/tiny-tokenizer.json";

}  // namespace

TEST_CASE("text and the file of its tokens give the same numbers; the record says which it was") {
  const TextExperiment x;
  const std::string path = (x.dir.path() / "t.npy").string(), text = (x.dir.path() / "t.txt").string();
  const Outcome made =
      qfid_here({"tokenize", "--tokenizer", source + "/configs/data/tiny-tokenizer.json", text, "--out", path});
  CHECK(made.code == 0);
  CHECK(made.out == "");
  CHECK(x.dir.shown(made.err).starts_with("wrote DIR/t.npy: "));
  REQUIRE(x.run("text: t.txt, " + tokenizer + ", context: 64", "text").code == 0);
  REQUIRE(x.run("tokens: t.npy, context: 64", "tokens").code == 0);
  const json a = x.results("text"), b = x.results("tokens");
  for (std::size_t run = 0; run < 2; ++run) {
    CHECK(a["runs"][run]["windows"] == b["runs"][run]["windows"]);
    CHECK(a["runs"][run]["metrics"] == b["runs"][run]["metrics"]);
  }
  CHECK(a["provenance"]["documents"] == "file");
  CHECK(a["provenance"]["tokens"] == "t.txt");
  CHECK(!b["provenance"].contains("tokenizer_hash"));
  CHECK(x.run("text: t.txt, documents: lines, detokenize: wikitext, " + tokenizer + ", context: 64", "lines").code == 0);
  CHECK(x.results("lines")["provenance"]["protocol"] == "window/detokenize=wikitext");
  json other = json::parse(read_file(source + "/configs/data/tiny-tokenizer.json"));
  other["pre_tokenizer"]["trim_offsets"] = false;  // changes no token
  x.dir.write("other.json", other.dump());
  REQUIRE(x.run("text: t.txt, tokenizer: other.json, context: 64", "other").code == 0);
  const Outcome compared = qfid_here({"compare", (x.dir.path() / "text").string(), (x.dir.path() / "other").string()});
  CHECK(compared.code == 2);
  CHECK(x.dir.shown(compared.err).find("aren't comparable: the hash of the tokenizer differs (") != std::string::npos);
  CHECK(compared.err.find("the hash of the tokens") == std::string::npos);
}

TEST_CASE("data: tokens, or text with a tokenizer") {
  const TextExperiment x;
  x.dir.write("t.npy", npy_tokens({1, 2, 3}));
  x.dir.write("bad.txt", "a\xff");
  json nfc = json::parse(read_file(source + "/configs/data/tiny-tokenizer.json"));
  nfc["normalizer"] = {{"type", "NFC"}};
  x.dir.write("nfc.json", nfc.dump());
  CHECK(x.said("protocol: window") ==
        "2 qfid: DIR/x.yaml:4:7: data has neither tokens nor text, expected one of them, or bigram_backcopy\n");
  CHECK(x.said("tokens: t.npy, text: t.txt") ==
        "2 qfid: DIR/x.yaml:4:7: data has both tokens and text, expected one of them\n");
  CHECK(x.said("text: t.txt") == "2 qfid: DIR/x.yaml:4:7: data.text without data.tokenizer, expected a tokenizer.json\n");
  CHECK(x.said("tokens: t.npy, documents: lines") == "2 qfid: DIR/x.yaml:4:34: documents belongs to data.text\n");
  CHECK(x.said("text: none.txt, " + tokenizer) ==
        "2 qfid: DIR/x.yaml:4:14: text file \"none.txt\" doesn't exist (looked for DIR/none.txt)\n");
  CHECK(x.said("text: t.txt, tokenizer: none.json") ==
        "2 qfid: DIR/x.yaml:4:32: tokenizer \"none.json\" doesn't exist (looked for DIR/none.json)\n");
  CHECK(x.said("text: t.txt, documents: lines, protocol: llamacpp, " + tokenizer) ==
        "2 qfid: DIR/x.yaml:4:32: protocol llamacpp reads a text as one, expected documents: file\n");
  CHECK(x.said("text: bad.txt, " + tokenizer) == "3 qfid: DIR/bad.txt: byte 1 isn't UTF-8\n");
  CHECK(x.said("text: t.txt, tokenizer: nfc.json") == "3 qfid: DIR/nfc.json: \"normalizer\": NFC isn't supported\n");
  CHECK(x.said("text: t.txt, tokenizer: t.txt") == "3 qfid: DIR/t.txt: byte 0: not valid JSON\n");
  CHECK(x.said("text: t.txt, " + tokenizer + ", first_token: 100000") ==
        "3 qfid: DIR/t.txt: not one window of 256 tokens fits\n");
}

TEST_CASE("lmeval: pages, words and bytes, and what it asks of the data") {
  const TextExperiment x;
  x.dir.write("t.npy", npy_tokens({1, 2, 3}));
  std::string pages;
  for (int i = 0; i < 18; ++i) {
    std::string page = " = Page =\n";
    for (int j = 0; j <= i % 5; ++j) page += "the old man said , and the ship was gone . \n";
    pages += json{{"text", page}}.dump() + "\n";
  }
  x.dir.write("pages.jsonl", pages);
  const std::string lmeval = ", documents: jsonl, detokenize: wikitext, protocol: lmeval, context: 32, " + tokenizer;
  REQUIRE(x.run("text: pages.jsonl" + lmeval, "sampled", {}, true).code == 0);  // windows of unequal length are sampled too
  REQUIRE(x.run("text: pages.jsonl" + lmeval, "out").code == 0);
  const json all = x.results("out");
  CHECK(all["provenance"]["protocol"] == "lmeval/detokenize=wikitext");
  for (const json& run : all["runs"]) {
    const json &counts = run["documents"], &metrics = run["metrics"];
    REQUIRE(counts["words"].size() == 18);
    double nll = 0, words = 0, bytes = 0;
    std::size_t windows = 0;
    for (const json& sum : run["windows"]["nll"]) nll += sum.get<double>();
    for (std::size_t d = 0; d < 18; ++d) {
      CHECK(counts["words"][d] == 5 + 11 * (d % 5 + 1));  // one more at either end of the page
      words += counts["words"][d].get<double>();
      bytes += counts["bytes"][d].get<double>();
      windows += counts["windows"][d].get<std::size_t>();
    }
    CHECK(run["windows"]["nll"].size() == windows);
    CHECK(std::fabs(metrics["word_perplexity"]["value"].get<double>() / std::exp(nll / words) - 1) < 1e-12);
    CHECK(std::fabs(metrics["bits_per_byte"]["value"].get<double>() * std::log(2.0) / (nll / bytes) - 1) < 1e-12);
    CHECK(metrics["byte_perplexity"].contains("ci"));
  }
  CHECK(x.said("tokens: t.npy, protocol: lmeval") ==
        "2 qfid: DIR/x.yaml:4:16: protocol lmeval counts words and bytes, expected data.text and data.tokenizer\n");
  REQUIRE(x.run("text: pages.jsonl, windows: 4" + lmeval, "few").code == 0);
  CHECK(x.results("few")["provenance"]["windows"].get<int>() <= 4);
  CHECK(x.said("text: t.txt, windows: 2" + replaced(lmeval, "jsonl", "file"))
            .starts_with("2 qfid: DIR/x.yaml: the first document takes "));
  CHECK(x.run("text: pages.jsonl" + lmeval, "dumped", {"--dump", (x.dir.path() / "d").string()}).code == 2);
}
