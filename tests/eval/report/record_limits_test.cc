// Every number of results.json at its bounds, and every kind of run, read back as it was written.
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "eval/experiment/record_reader.h"
#include "tests/eval/report/records.h"
#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;
using nlohmann::ordered_json;

namespace {

constexpr std::int64_t trillion = 1'000'000'000'000;

ScoredChange change(const std::string& name) {
  return {"m", "int8", name, "", {2, 0}, {0.5, -0.25}, {0.125, 0}, {{"kl.mean", 0.5, Interval{0.25, 1}, "nats", "n"}}};
}

/// One of everything that a reader knows.
ExperimentRecord everything() {
  ExperimentRecord all = record_with({"int8"});
  all.sets = {"a=b"};
  all.warnings = {"w"};
  all.models[0].unused_tensors = {"t"};
  all.models[0].vocabulary = 7;
  all.models[0].group = "g";
  all.models[0].seed = 5;
  all.models[0].step = 6;
  all.pairs = {{"m", "int8", "int8", {"nll.difference", 1.0, Interval{0.5, 2.0}, "nats", "n"}}};
  all.gates.push_back(gate_on("int8", GateVerdict::fail));
  all.gates.back().statistics = {16, 1.0, Interval{0.5, 2.0}, 1, 1, GateOutcome::fail, 0.25, 17};
  all.attention = {{"m", 1, 3, "why", 8, {{"baseline", {{1000}, {1, 0, 999}}}}}};
  all.runs[1].documents = {{1, 7, 40}, {0, 0, 0}};
  all.runs[1].hashes = {16, {{"backend", "cpu"}}, {{"embedding", {"ab"}}, {"layer0.q", {"cd", "ef", "gh"}}}};
  all.noise = {change("backend reference")};
  all.interventions = {change("zero_v_0")};
  all.timings = {"2026-01-02T03:04:05Z", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  return all;
}

struct Written {
  ordered_json json = ordered_json::parse(results_json(everything()));
  TemporaryDirectory dir{};

  /// What reading says with this value in place, without the file's name; "" when it is read and written back the same.
  std::string with(const std::string& pointer, ordered_json value) const {
    ordered_json changed = json;
    changed[ordered_json::json_pointer(pointer)] = std::move(value);
    const auto path = dir.write("results.json", changed.dump());
    ordered_json again;
    const Failure failure = failure_of([&] { again = ordered_json::parse(results_json(read_whole_record(path))); });
    CAPTURE(pointer);
    CHECK((failure.code != 0 || again == changed));
    CHECK(failure.code == (failure.message.empty() ? 0 : 3));
    return replaced(failure.message, path.string() + ": ", "");
  }
};

}  // namespace

TEST_CASE("one of everything is read back", "[record]") {
  const Written all;
  const auto path = all.dir.write("results.json", all.json.dump());
  CHECK(ordered_json::parse(results_json(read_whole_record(path))) == all.json);
  for (const char* key : {"noise", "interventions", "attention", "budgets"}) CHECK_FALSE(all.json.at(key).empty());
  for (const char* key : {"documents", "hashes", "p_codes"}) CHECK(all.json.at("runs").at(1).contains(key));
}

TEST_CASE("whole numbers: the least, the most, and what is beyond", "[record]") {
  const Written all;
  struct Row {
    const char *pointer, *key;
    std::int64_t least, most;
  };
  for (const Row& row : std::vector<Row>{{"/models/0/vocabulary", "models[0].vocabulary", 1, trillion},
                                         {"/models/0/parameters", "models[0].parameters", 0, INT64_MAX},
                                         {"/models/0/seed", "models[0].seed", 0, 1'000'000'000},
                                         {"/models/0/step", "models[0].step", 0, 2'000'000'000},
                                         {"/provenance/threads", "provenance.threads", 1, 1'000'000},
                                         {"/provenance/chunk_windows", "provenance.chunk_windows", 1, trillion},
                                         {"/provenance/context", "provenance.context", 1, trillion},
                                         {"/provenance/first_token", "provenance.first_token", 0, trillion},
                                         {"/provenance/windows", "provenance.windows", 0, trillion},
                                         {"/runs/1/documents/windows/1", "runs[1].documents.windows[1]", 0, trillion},
                                         {"/runs/1/documents/words/0", "runs[1].documents.words[0]", 0, trillion},
                                         {"/runs/1/documents/bytes/1", "runs[1].documents.bytes[1]", 0, trillion},
                                         {"/runs/1/hashes/windows", "runs[1].hashes.windows", 1, trillion},
                                         {"/runs/1/windows/top1_agree/0", "runs[1].windows.top1_agree[0]", 0, 2},
                                         {"/runs/1/layers/0/layer", "runs[1].layers[0].layer", -1, 1'000'000},
                                         {"/runs/1/layers/2/head", "runs[1].layers[2].head", 0, 1'000'000},
                                         {"/runs/1/p_codes/0/layer", "runs[1].p_codes[0].layer", 0, 1'000'000},
                                         {"/gates/0/windows", "gates[0].windows", 0, INT32_MAX},
                                         {"/gates/0/windows_needed", "gates[0].windows_needed", 0, trillion},
                                         {"/attention/0/layer", "attention[0].layer", 0, 1'000'000},
                                         {"/attention/0/head", "attention[0].head", 0, 1'000'000},
                                         {"/attention/0/block", "attention[0].block", 1, 1'000'000'000},
                                         {"/budgets/0/tokens/3", "budgets[0].tokens[3]", 1, trillion},
                                         {"/noise/0/tokens/0", "noise[0].tokens[0]", 0, trillion},
                                         {"/interventions/0/tokens/1", "interventions[0].tokens[1]", 0, trillion}}) {
    CAPTURE(row.pointer);
    REQUIRE(all.json.contains(ordered_json::json_pointer(row.pointer)));
    CHECK(all.with(row.pointer, row.least) == "");
    CHECK(all.with(row.pointer, row.most) == "");
    const auto said = [&](const std::string& value) {
      return "\"" + std::string(row.key) + "\" is " + value + ", expected a whole number, " + std::to_string(row.least) +
             ".." + std::to_string(row.most);
    };
    CHECK(all.with(row.pointer, row.least - 1) == said(std::to_string(row.least - 1)));
    CHECK(all.with(row.pointer, static_cast<std::uint64_t>(row.most) + 1) ==
          said(std::to_string(static_cast<std::uint64_t>(row.most) + 1)));
    CHECK(all.with(row.pointer, 0.5) == said("0.5"));
  }
}

TEST_CASE("numbers between bounds, lists of a length, and words of a list", "[record]") {
  const Written all;
  for (const ordered_json& confidence : {ordered_json(0), ordered_json(1), ordered_json(-0.5)})
    CHECK(all.with("/confidence", confidence) ==
          "\"confidence\" is " + confidence.dump() + ", expected a number between 0 and 1");
  CHECK(all.with("/confidence", 0.5) == "");
  CHECK(all.with("/interrupted", true) == "");
  CHECK(all.with("/runs/1/p_codes/0/p_scale", 0) == "\"runs[1].p_codes[0].p_scale\" is 0, expected a number above 0");
  CHECK(all.with("/runs/1/p_codes/0/p_scale", 0.25) == "");
  CHECK(all.with("/gates/0/outcome", "passed") ==
        "\"gates[0].outcome\" is \"passed\", expected one of pass, fail, inconclusive");
  CHECK(
      all.with("/gates/0/verdict", "passed") ==
      "\"gates[0].verdict\" is \"passed\", expected one of pass, fail, inconclusive, warning, expected failure, unexpected "
      "pass, expired");
  CHECK(all.with("/gates/0/blocks", false) == "\"gates[0].blocks\" is false, expected true");
  CHECK(all.with("/gates/0/limits", {1, 2, 3}) == "\"gates[0].limits\" is a list, expected two numbers");
  CHECK(all.with("/gates/0/limits", {1}) == "\"gates[0].limits\" is a list, expected two numbers");
  for (const char* list : {"noise", "interventions"})
    for (const char* sums : {"nll_difference", "kl"})
      for (const ordered_json& length : {ordered_json{1.0}, ordered_json{1.0, 2.0, 3.0}})
        CHECK(all.with("/" + std::string(list) + "/0/" + sums, length) ==
              "\"" + std::string(list) + "[0]." + sums + "\" is a list, expected a list of 2 numbers, one a window");
  for (const char* key : {"words", "bytes"})
    CHECK(all.with("/runs/1/documents/" + std::string(key), {1, 2, 3}) ==
          "\"runs[1].documents." + std::string(key) + "\" is a list, expected a list of 2 numbers, one a document");
  for (const char* key :
       {"/budgets/0/whole_kl", "/budgets/0/parts/entries/0/without_kl", "/budgets/0/layers/entries/1/alone_kl"})
    CHECK(all.with(key, {1.0, 2.0}).ends_with(" is a list, expected a list of 16 numbers, one a window"));
  for (const char* hashes : {"", " ab", "ab ", "ab  cd"})
    CHECK(all.with("/runs/1/hashes/tensors/embedding", hashes) ==
          "\"runs[1].hashes.tensors.embedding\" is \"" + std::string(hashes) + "\", expected hashes with a space between");
  CHECK(all.with("/runs/1/hashes/tensors", ordered_json::object()) ==
        "\"runs[1].hashes.tensors\" is a map, expected hashes of tensors");
}

TEST_CASE("counts of codes and rows of maps: how large, and how many", "[record]") {
  const Written all;
  const auto counts = [](std::size_t n, const std::string& last) {
    std::string text;
    for (std::size_t i = 1; i < n; ++i) text += "1 ";
    return text + last;
  };
  const std::string wrong = "expected 256 counts with a space between";
  CHECK(all.with("/runs/1/p_codes/0/counts", counts(256, "1000000000000000")) == "");
  CHECK(all.with("/runs/1/p_codes/0/counts", counts(256, "0")) == "");
  for (const std::string& text : {counts(256, "1000000000000001"), counts(256, "-1"), counts(256, "9223372036854775808"),
                                  counts(255, "1"), counts(257, "1"), counts(256, "1x"), counts(256, "1\t1")})
    CHECK(all.with("/runs/1/p_codes/0/counts", text).ends_with(wrong));
  const auto rows = [&](std::size_t n, const std::string& row) { return ordered_json(std::vector<std::string>(n, row)); };
  CHECK(all.with("/attention/0/maps/0/rows", rows(32, "1 2")) == "");
  CHECK(all.with("/attention/0/maps/0/rows", rows(33, "1 2")) ==
        "\"attention[0].maps[0].rows\" is a list, expected at most 32 rows");
  CHECK(all.with("/attention/0/maps/0/rows", rows(2, counts(33, "1000"))) == "");
  CHECK(all.with("/attention/0/maps/0/rows", rows(2, counts(34, "1")))
            .ends_with("expected numbers from 0 to 1000 with a space between"));
}

TEST_CASE("runs that came to nothing, ends that are no numbers, hidden states", "[record]") {
  const Written all;
  for (const char* status : {"skipped", "failed", "interrupted"}) {
    Written other;
    other.json["runs"][1]["windows"] = {
        {"tokens", {3}}, {"nll", {1.5}}, {"kl", {0.5}}, {"kl_reverse", {0.5}}, {"top1_agree", {3}}};
    CHECK(other.with("/runs/1/message", "no GPU").ends_with("is a list, expected the baseline's windows"));
    other.json["runs"][1]["status"] = status;
    CHECK(other.with("/runs/1/message", "no GPU") == "");
  }
  ExperimentRecord hidden = everything();
  for (RunRecord& run : hidden.runs) {
    run.windows = {{5, 6}, {}, {}, {}, {}, {0.5, 0.25}, {0.125, 0.75}, {1, 0.0625}};
    run.documents.clear();
  }
  hidden.budgets.clear();
  hidden.pairs[0].difference.name = "hidden.nmse.difference";
  const auto path = all.dir.write("results.json", results_json(hidden));
  const ExperimentRecord read = read_whole_record(path);
  CHECK(read.runs[1].windows.cosine_distance == std::vector<double>{0.125, 0.75});
  CHECK(read.runs[1].windows.pooled_cosine_distance == std::vector<double>{1, 0.0625});
  CHECK(results_json(read) == results_json(hidden));
  for (const ordered_json& ends : {ordered_json{nullptr, 2}, ordered_json{1, nullptr}}) {
    ordered_json open = all.json;
    open["pairs"][0]["nll.difference"]["ci"] = ends;
    CHECK_FALSE(read_whole_record(all.dir.write("results.json", open.dump())).pairs[0].difference.ci);
  }
}
