// Data and gates of a configuration: sources that exclude each other, generated sequences, bounds of metrics, saved
// baselines.
#include <catch2/catch_test_macros.hpp>

#include "eval/experiment/spec_reader.h"
#include "tests/support/temporary_directory.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

namespace {

const std::string configs = QFID_SOURCE_DIR "/configs", tokens = configs + "/data/tiny-tokens.npy",
                  tables = configs + "/data/bigram-backcopy";

std::string text_of(const std::string& data) {
  return "version: 1\nname: t\nmodels: {m: {path: " + configs + "/models/tiny-softmax}}\ndata: {" + data +
         "}\ntargets: {t: {}}\n";
}

/// Message without the file's name; "" when the text is valid.
std::string refused(const std::string& text) {
  const TemporaryDirectory dir;
  const auto path = dir.write("x.yaml", text);
  const Failure failure = failure_of([&] { read_spec(path); });
  return dir.shown(replaced(failure.message, path.string() + ":", ""));
}
std::string refused_data(const std::string& data) { return refused(text_of(data)); }

std::vector<GateSpec> gates_of(const std::string& body) { return read_gates("/x/g.yaml", "gates: {g: {" + body + "}}\n"); }
std::string refused_gate(const std::string& body) {
  return replaced(failure_of([&] { gates_of(body); }).message, "/x/g.yaml:", "");
}

}  // namespace

TEST_CASE("generated sequences: their numbers, how they are written, and how many there may be", "[spec]") {
  const TemporaryDirectory dir;
  const auto data = [&](const std::string& rest) {
    return read_spec(dir.write("x.yaml", text_of("bigram_backcopy: {tables: " + tables + rest + "}"))).data;
  };
  const DataSpec plain = data("");
  REQUIRE(plain.backcopy);
  CHECK(plain.backcopy->tables == tables);
  CHECK(plain.backcopy->seed == 1);
  CHECK(plain.backcopy->sequences == 256);
  CHECK(plain.backcopy->length == 64);
  CHECK(plain.written == "bigram_backcopy of " + tables + ", seed 1, 256 x 64");
  const DataSpec other = data(", seed: 5, sequences: 6, length: 7");
  CHECK(other.backcopy->seed == 5);
  CHECK(other.backcopy->sequences == 6);
  CHECK(other.backcopy->length == 7);
  CHECK(data(", sequences: 262144, length: 1024").backcopy->sequences == 262144);
  CHECK(refused_data("bigram_backcopy: {tables: " + tables + ", sequences: 262145, length: 1024}") ==
        "4:25: bigram_backcopy of 262145 sequences of 1024 tokens, expected 268435456 tokens or fewer");
  for (const char* key : {"tokens", "targets", "text", "tokenizer"})
    CHECK(refused_data("bigram_backcopy: {tables: " + tables + "}, " + key + ": x")
              .ends_with(": " + std::string(key) + " doesn't go with bigram_backcopy"));
}

TEST_CASE("one source of data, and the files that go with it", "[spec]") {
  const std::string tokenizer = configs + "/data/tiny-tokenizer.json", text = configs + "/README.md";
  CHECK(refused_data("windows: 1") == "4:7: data has neither tokens nor text, expected one of them, or bigram_backcopy");
  CHECK(refused_data("tokens: " + tokens + ", text: " + text) == "4:7: data has both tokens and text, expected one of them");
  CHECK(refused_data("text: " + text) == "4:7: data.text without data.tokenizer, expected a tokenizer.json");
  CHECK(refused_data("tokens: none.npy") == "4:16: token file \"none.npy\" doesn't exist (looked for DIR/none.npy)");
  CHECK(refused_data("tokens: " + configs) ==
        "4:16: token file \"" + configs + "\" isn't a regular file (looked for " + configs + ")");
  CHECK(refused_data("text: none.txt, tokenizer: " + tokenizer) ==
        "4:14: text file \"none.txt\" doesn't exist (looked for DIR/none.txt)");
  CHECK(refused_data("text: " + text + ", tokenizer: none.json")
            .ends_with(": tokenizer \"none.json\" doesn't exist (looked for DIR/none.json)"));
  for (const char* value : {"tokenizer: x", "documents: lines", "detokenize: wikitext"}) {
    const std::string key = std::string(value).substr(0, std::string(value).find(':'));
    CHECK(refused_data("tokens: " + tokens + ", " + value).ends_with(": " + key + " belongs to data.text"));
  }
  CHECK(refused_data("tokens: " + tokens + ", protocol: lmeval") ==
        "4:16: protocol lmeval counts words and bytes, expected data.text and data.tokenizer");
  CHECK(
      refused_data("tokens: " + tokens + ", targets: x").ends_with(": data.targets belongs to protocol mlm, found window"));
  CHECK(refused_data("tokens: " + tokens + ", targets: none.npy, protocol: mlm")
            .ends_with(": target file \"none.npy\" doesn't exist (looked for DIR/none.npy)"));
  CHECK(refused_data("tokens: " + tokens + ", protocol: mlm") ==
        "4:7: protocol mlm without data.targets, expected what stood where data.tokens is masked");
  CHECK(refused_data("tokens: " + tokens + ", targets: " + tokens + ", protocol: mlm").empty());
  CHECK(refused_data("tokens: " + tokens + ", batch_windows: 2, protocol: gptq")
            .ends_with(": batch_windows belongs to protocol outlier_free, found gptq"));
  CHECK(refused_data("text: " + text + ", tokenizer: " + tokenizer + ", documents: lines, protocol: llamacpp")
            .ends_with(": protocol llamacpp reads a text as one, expected documents: file"));
  CHECK(refused_data("text: " + text + ", tokenizer: " + tokenizer + ", documents: file, protocol: llamacpp").empty());
}

TEST_CASE("text in a configuration: not empty, no control characters", "[spec]") {
  const auto named = [](const std::string& name) {
    std::string text = text_of("tokens: " + tokens);
    return refused(text.replace(text.find("name: t"), 7, "name: " + name));
  };
  CHECK(named("\"a b~\"").empty());
  CHECK(named("\"\"").starts_with("2:7: name is \"\", expected "));
  for (const char* control : {"\\x01", "\\x1f", "\\x7f", "\\n", "\\t"}) {
    CAPTURE(control);
    CHECK(named(std::string("\"a") + control + "b\"").ends_with(" without control characters"));
  }
}

TEST_CASE("bounds of gates: one of them, and within what the metric can be", "[spec]") {
  CHECK(refused_gate("metric: kl.mean") ==
        "1:12: gate \"g\" has no bound, expected one of max, min (two gates make a range)");
  CHECK(refused_gate("metric: kl.mean, max: 1, min: 0") ==
        "1:12: gate \"g\" has max and min, expected one of max, min (two gates make a range)");
  const GateSpec upper = gates_of("metric: kl.mean, max: 0.25").at(0), lower = gates_of("metric: kl.mean, min: 0.5").at(0);
  CHECK(upper.upper);
  CHECK(upper.bound == 0.25);
  CHECK_FALSE(lower.upper);
  CHECK(lower.bound == 0.5);
  for (const char* share : {"0", "0.5", "1"}) CHECK(refused_gate(std::string("metric: top1.flips, max: ") + share).empty());
  for (const char* share : {"-0.5", "1.5"})
    CHECK(refused_gate(std::string("metric: top1.flips, max: ") + share)
              .ends_with(": top1.flips is a share, expected 0..1, found " + std::string(share)));
  for (const char* metric : {"kl.mean", "kl_reverse.mean", "hidden.nmse.mean"}) {
    CHECK(refused_gate(std::string("metric: ") + metric + ", max: 0").empty());
    CHECK(refused_gate(std::string("metric: ") + metric + ", max: -1")
              .ends_with(": " + std::string(metric) + " is never below 0, found -1"));
    CHECK(refused_gate(std::string("metric: ") + metric + ", max: -1, relative_to: {target: t}").empty());
  }
  CHECK(refused_gate("metric: top1.flips, max: -0.5, relative_to: {target: t}").empty());
  CHECK(refused_gate("metric: nll.difference, max: -1").empty());
  CHECK(refused_gate("metric: word_perplexity.ratio, max: -1").ends_with(": a perplexity ratio is above 0, found -1"));
}

TEST_CASE("what else a gate says", "[spec]") {
  const GateSpec plain = gates_of("metric: kl.mean, max: 1").at(0);
  CHECK(plain.name == "g");
  CHECK(plain.models == "*");
  CHECK(plain.targets == "*");
  CHECK(plain.confidence == 0.99);
  CHECK_FALSE(plain.warn_when_inconclusive);
  CHECK_FALSE(plain.expected_failure);
  const GateSpec all = gates_of(
                           "metric: kl.mean, max: 1, models: 'a*', targets: 'b?', confidence: 0.75, on_inconclusive: warn, "
                           "expected_failure: {reason: why, expires: 2026-01-31}")
                           .at(0);
  CHECK(all.models == "a*");
  CHECK(all.targets == "b?");
  CHECK(all.confidence == 0.75);
  CHECK(all.warn_when_inconclusive);
  REQUIRE(all.expected_failure);
  CHECK(all.expected_failure->reason == "why");
  CHECK(all.expected_failure->expires == "2026-01-31");
  CHECK_FALSE(gates_of("metric: kl.mean, max: 1, on_inconclusive: fail").at(0).warn_when_inconclusive);
  CHECK(refused_gate("metric: kl.mean, max: 1, expected_failure: {reason: why, expires: 2026-02-30}")
            .ends_with(": expires is \"2026-02-30\", expected a day, YYYY-MM-DD"));
  const std::string kl = "metric: kl.mean, max: 1, relative_to: ";
  CHECK(gates_of(kl + "{file: b/../c}").at(0).relative_file == "/x/c");
  CHECK(gates_of(kl + "{file: b/../c}").at(0).relative_written == "b/../c");
  CHECK(gates_of(kl + "{file: /y/c}").at(0).relative_file == "/y/c");
  CHECK(gates_of(kl + "{target: t}").at(0).relative_target == "t");
  CHECK(gates_of("exact: taps, relative_to: {file: b}").at(0).metric == "exact.taps");
  for (const char* both : {"{}", "{target: t, file: b}"})
    CHECK(refused_gate(kl + both).ends_with(": relative_to of gate \"g\", expected one of target, file"));
  CHECK(refused_gate(kl + "{target: baseline}")
            .ends_with(": every metric is already relative to the full-precision baseline; expected another target"));
}
