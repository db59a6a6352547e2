// results.json is read back as it was written, and everything the reader needs is missed by name when it is gone or wrong.
#include "eval/experiment/record_reader.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "tests/eval/report/records.h"
#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;
using nlohmann::ordered_json;

namespace {

ExperimentRecord record() {
  ExperimentRecord all;
  all.name = "t";
  all.spec_file = "x.yaml";
  all.spec_text = "version: 1\n";
  all.sets = {"a=b"};
  all.provenance = {"1", "abc", "g++", {{"lib", "2"}},   "cpu",       "isa",  1, 4, "t.npy", "hash", "window",
                    128, 0,     2,     "tokenizer.json", "tokenizer", "lines"};
  all.models.push_back({"m", "p", "opt", "content", 1, "softmax", {}, 2048, "g", 7});
  for (const char* target : {"baseline", "int8"}) {
    RunRecord run;
    run.model = "m";
    run.target = target;
    run.windows = {{10, 12}, {30.25, 0.1}, {1e-9, 2}, {0.5, 0.25}, {9, 12}};
    run.documents = {{1, 7, 40}, {1, 8, 44}};
    all.runs.push_back(run);
  }
  return all;
}

ordered_json written() { return ordered_json::parse(results_json(record())); }

Failure reading(const TemporaryDirectory& dir, const ordered_json& json) {
  const auto path = dir.write("results.json", json.dump());
  return failure_of([&] { read_results(path); });
}

/// Keys that came to version 1 later: older files lack them.
const std::vector<std::string> added_later{"/models/0/vocabulary", "/models/0/seed", "/provenance/tokenizer_hash"};  // and runs[].documents

/// What the reader does without.
const std::vector<std::string> unread{"/timings",
                                      "/pairs",
                                      "/warnings",
                                      "/gates",
                                      "/attention",
                                      "/budgets",
                                      "/noise",  // gates do with it, and without
                                      "/interventions",
                                      "/runs/0/metrics",
                                      "/runs/0/layers",
                                      "/runs/1/metrics",
                                      "/runs/1/layers",
                                      "/runs/0/p_codes",
                                      "/runs/1/p_codes",
                                      "/runs/0/implementations",
                                      "/runs/1/implementations",
                                      "/models/0/unused_tensors"};

}  // namespace

TEST_CASE("what was written is read back to the bit", "[record]") {
  const TemporaryDirectory dir;
  const ExperimentRecord read = read_results(dir.write("results.json", results_json(record())));
  CHECK(results_json(read) == results_json(record()));
}

TEST_CASE("whatever is gone or of another type is named, with exit code 3", "[record]") {
  const TemporaryDirectory dir;
  const ordered_json good = written(), flat = good.flatten();
  int changed = 0;
  for (const auto& [pointer, value] : flat.items()) {
    bool needed = pointer != "/spec/sets/0" && pointer != "/provenance/libraries/lib";
    for (const std::string& prefix : unread) needed = needed && !pointer.starts_with(prefix);
    if (!needed) continue;
    CAPTURE(pointer);
    ordered_json wrong = good;
    wrong[ordered_json::json_pointer(pointer)] = ordered_json::object({{"x", 1}});
    const Failure failure = reading(dir, wrong);
    CHECK(failure.code == 3);
    std::string key;  // /runs/0/windows/nll/1 -> runs[0].windows.nll[1]
    for (std::size_t at = 1, end; at <= pointer.size(); at = end + 1) {
      end = std::min(pointer.find('/', at), pointer.size());
      const std::string part = pointer.substr(at, end - at);
      key += part.find_first_not_of("0123456789") == std::string::npos ? "[" + part + "]" : (key.empty() ? "" : ".") + part;
    }
    CHECK(dir.shown(failure.message).starts_with("DIR/results.json: \"" + key + "\" is a map, expected "));
    const auto parent = ordered_json::json_pointer(pointer).parent_pointer();
    if (good.at(parent).is_object()) {
      ordered_json gone = good;
      gone[parent].erase(ordered_json::json_pointer(pointer).back());
      const bool later = std::find(added_later.begin(), added_later.end(), pointer) != added_later.end();
      CHECK(dir.shown(reading(dir, gone).message) == (later ? "" : "DIR/results.json: missing key \"" + key + "\""));
    }
    ++changed;
  }
  CHECK(changed > 40);
}

TEST_CASE("the whole record: read back to the bit, and whatever is gone is named", "[record]") {
  const TemporaryDirectory dir;
  ExperimentRecord all = record_with({"int8"});
  all.interrupted = true;
  all.warnings = {"w"};
  all.models[0].unused_tensors = {"t"};
  all.pairs = {{"m", "int8", "int8", {"nll.difference", 1.0, Interval{0.5, 2.0}, "nats", "n"}}};
  for (const GateVerdict verdict : {GateVerdict::pass, GateVerdict::fail, GateVerdict::inconclusive, GateVerdict::warning,
                                    GateVerdict::expected_failure, GateVerdict::unexpected_pass, GateVerdict::expired}) {
    all.gates.push_back(gate_on("int8", verdict));
    all.gates.back().statistics = {16, 1.0, Interval{0.5, 2.0}, 1, 1, GateOutcome::fail, 0.25, 17};
    all.gates.back().upper = verdict != GateVerdict::fail;
    if (verdict == GateVerdict::expired) all.gates.back().reason = all.gates.back().expires = "2026-01-01";
  }
  all.attention = {{"m", 1, 0, "why", 8, {{"baseline", {{1000}, {1, 0, 999}}}}}};
  all.runs[1].p_codes = {{0, "uint8", 255, std::vector<std::int64_t>(256, 1)},
                         {1, "e4m3", 448, std::vector<std::int64_t>(256)}};
  all.runs[1].p_codes[1].counts[255] = 1'000'000'000;
  const ordered_json good = ordered_json::parse(results_json(all)), flat = good.flatten();
  const auto path = dir.write("results.json", good.dump());
  CHECK(ordered_json::parse(results_json(read_whole_record(path))) == good);
  CHECK(results_json(read_whole_record(path)) == results_json(all));
  for (const char* row : {"1001", "-1", "1,2", "1  2", "x", " 1", "1 2 "}) {
    ordered_json wrong = good;
    wrong["attention"][0]["maps"][0]["rows"][0] = row;
    dir.write("results.json", wrong.dump());
    CAPTURE(row);
    CHECK(failure_of([&] { read_whole_record(path); }).message.find("expected numbers from 0 to 1000") != std::string::npos);
  }
  ordered_json older = good;
  for (const char* later : {"attention", "budgets"}) older.erase(later);
  older["timings"].erase("budget_seconds");
  for (auto& run : older["runs"]) run.erase("p_codes");
  dir.write("results.json", older.dump());
  CHECK(read_whole_record(path).attention.empty());
  CHECK(read_whole_record(path).budgets.empty());
  CHECK(read_whole_record(path).runs[1].p_codes.empty());
  ordered_json short_budget = good;
  short_budget["budgets"][0]["parts"]["entries"][0]["alone_kl"].erase(0);
  dir.write("results.json", short_budget.dump());
  CHECK(failure_of([&] { read_whole_record(path); }).message.find("expected a list of 16 numbers") != std::string::npos);
  const auto whole = good["runs"][1]["p_codes"][0]["counts"].get<std::string>();
  for (const std::string& counts : {std::string("1 2"), std::string("-1"), std::string(), whole + " 1"}) {
    ordered_json wrong = good;
    wrong["runs"][1]["p_codes"][0]["counts"] = counts;
    dir.write("results.json", wrong.dump());
    CAPTURE(counts);
    CHECK(failure_of([&] { read_whole_record(path); }).message.find("expected 256 counts") != std::string::npos);
  }
  int changed = 0;
  for (const auto& [pointer, value] : flat.items()) {
    const ordered_json::json_pointer at(pointer);
    ordered_json wrong = good;
    wrong[at] = ordered_json::array({ordered_json::object()});
    dir.write("results.json", wrong.dump());
    CAPTURE(pointer);
    CHECK(failure_of([&] { read_whole_record(path); }).code == 3);
    ++changed;
  }
  CHECK(changed > 400);
}

TEST_CASE("contradictions and other versions are refused", "[record]") {
  const TemporaryDirectory dir;
  const auto with = [&](const char* pointer, ordered_json value) {
    ordered_json json = written();
    json[ordered_json::json_pointer(pointer)] = std::move(value);
    return dir.shown(reading(dir, json).message);
  };
  CHECK(with("/schema_version", 2).find("\"schema_version\" is 2, expected 1") != std::string::npos);
  CHECK(with("/runs/1/model", "n").find("\"runs[1].model\" is \"n\", expected a name of models[]") != std::string::npos);
  CHECK(with("/runs/1/target", "baseline").find("expected a target that no earlier run has") != std::string::npos);
  CHECK(with("/runs/1/windows/tokens", {10, 13}).find("expected the baseline's windows") != std::string::npos);
  CHECK(with("/runs/1/windows/nll", {1}).find("\"runs[1].windows.nll\" is a list, expected a list of 2 numbers") !=
        std::string::npos);
  CHECK(with("/runs/1/windows/top1_agree", {11, 12}).find("\"runs[1].windows.top1_agree[0]\" is 11") != std::string::npos);
  CHECK(with("/runs/1/status", "fine").find("expected one of ok, skipped, failed, interrupted") != std::string::npos);
  CHECK(with("/confidence", 1).find("between 0 and 1") != std::string::npos);
  CHECK(with("/more", 1) == "");  // keys may be added
}

TEST_CASE("JUnit: what blocks is a failure, the rest is not; text is escaped", "[report]") {
  GateRecord pass, fail, warning;
  pass.verdict = GateVerdict::pass;
  fail.verdict = GateVerdict::fail;
  warning.verdict = GateVerdict::warning;
  fail.model = "m";
  fail.target = "int8";
  fail.name = "kl";
  fail.words = "a < b & \"c\" \x01";
  const std::string text = junit_xml({pass, fail, warning}, "suite");
  CHECK(text.find("<testsuite name=\"suite\" tests=\"3\" failures=\"1\" skipped=\"1\">") != std::string::npos);
  CHECK(text.find("<testcase classname=\"m.int8\" name=\"kl\">") != std::string::npos);
  CHECK(text.find("<failure type=\"fail\" message=\"a &lt; b &amp; &quot;c&quot; ?\"") != std::string::npos);
}
