// The other forms of a record: pull requests, annotations, OpenMetrics, lm-eval, CSV.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "tests/eval/report/records.h"

using namespace qfid::eval;
using namespace qfid::tests;
using nlohmann::json;

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool says(const std::string& text, const std::string& words) { return text.find(words) != std::string::npos; }

/// Faults against OpenMetrics 1.0: lines of its grammar, metadata before samples, one block a family, no sample twice, # EOF
/// last.
std::vector<std::string> faults_of(const std::string& text) {
  static const std::regex metadata("# (TYPE|UNIT|HELP) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)"),
      sample("([a-zA-Z_:][a-zA-Z0-9_:]*)(\\{([a-z_]+=\"([^\"\\\\]|\\\\[\\\\\"n])*\"(,(?!\\}))?)*\\}) (-?[0-9.e+-]+)");
  std::vector<std::string> faults;
  if (!text.ends_with("# EOF\n")) faults.emplace_back("no # EOF at the end");
  std::set<std::string> families, samples;
  std::string family, type;
  for (const std::string& line : lines_of(text)) {
    std::smatch found;
    if (line == "# EOF") continue;
    if (std::regex_match(line, found, metadata)) {
      if (found[1] == "TYPE") {
        family = found[2];
        type = found[3];
        if (!families.insert(family).second) faults.push_back("family twice: " + family);
      }
      if (found[2] != family) faults.push_back("metadata of another family: " + line);
      if (found[1] == "UNIT" && !family.ends_with("_" + found[3].str()))
        faults.push_back("unit isn't the name's end: " + line);
    } else if (std::regex_match(line, found, sample)) {
      if (found[1] != family + (type == "info" ? "_info" : "")) faults.push_back("sample outside its family: " + line);
      if (!samples.insert(found[1].str() + found[2].str()).second) faults.push_back("sample twice: " + line);
    } else {
      faults.push_back("not a line of the format: " + line);
    }
  }
  return faults;
}

}  // namespace

TEST_CASE("a pull request's text: the verdict, the worst row first", "[forms]") {
  ExperimentRecord r = record_with({"good", "bad|x"});
  std::string text = pull_request_markdown(r);
  CHECK(says(text, "No gates: nothing passes or fails."));
  CHECK(text.find("bad\\|x") < text.find("| good |"));
  r.gates = {gate_on("good", GateVerdict::fail)};
  text = pull_request_markdown(r);
  CHECK(says(text, "**Does not pass**: 1 of 1 gates block."));
  CHECK(
      text.find("| blocked | m | good | 1.0100 | 1.0080 .. 1.0120 | 0.0100 | 0.9000 | layer 1, head 1, output: 29.0 dB |") <
      text.find("bad\\|x"));
  CHECK(says(text, "| **fail** | quality | m | good | perplexity.ratio is 1.01, max 1.02 |"));
}

TEST_CASE("a pull request's text stays below its limit and says what it left out", "[forms]") {
  std::vector<std::string> targets;
  for (int i = 0; i < 200; ++i) targets.push_back("target-" + std::to_string(i) + std::string(300, 'x'));
  ExperimentRecord r = record_with(targets, 1, 1);
  r.name = std::string(100'000, 'n');
  for (const std::string& target : targets)
    for (int i = 0; i < 20; ++i) r.gates.push_back(gate_on(target, GateVerdict::fail, "gate" + std::to_string(i)));
  for (GateRecord& gate : r.gates) gate.words += std::string(2000, 'w');
  for (const std::size_t limit : {std::size_t{900} << 10, std::size_t{20'000}, std::size_t{4000}}) {
    const std::string text = pull_request_markdown(r, limit);
    CHECK(text.size() < limit);
    CHECK(says(text, "more rows are left out here"));
  }
  CHECK(pull_request_markdown(r).size() > 500'000);  // it uses its room
}

TEST_CASE("annotations: at most ten, blocking first, escaped", "[forms]") {
  ExperimentRecord r = record_with({"a"});
  CHECK(annotations(r).empty());
  r.gates = {gate_on("a", GateVerdict::pass), gate_on("a", GateVerdict::warning, "w"),
             gate_on("a", GateVerdict::fail, "n:1,2")};
  r.gates[2].words = "50 %\nsecond::line";
  CHECK(annotations(r) ==
        "::error title=qfid%3A n%3A1%2C2%2C a on m%2C fail::50 %25%0Asecond::line\n"
        "::warning title=qfid%3A w%2C a on m%2C warning::perplexity.ratio is 1.01, max 1.02\n");
  for (int i = 0; i < 30; ++i) r.gates.push_back(gate_on("a", GateVerdict::fail));
  const std::vector<std::string> lines = lines_of(annotations(r));
  REQUIRE(lines.size() == 10);
  CHECK(says(lines[9], "23 more findings"));
}

TEST_CASE("the checker of OpenMetrics sees faults", "[forms]") {
  CHECK(faults_of("# TYPE a gauge\na{b=\"c\"} 1\n# EOF\n").empty());
  CHECK(faults_of("# TYPE a gauge\na{b=\"c\"} 1\n").size() == 1);
  CHECK(faults_of("# TYPE a gauge\na{b=\"c\"} 1\na{b=\"c\"} 2\n# EOF\n").size() == 1);
  CHECK(faults_of("# TYPE a gauge\na{b=\"\"c\"} 1\n# EOF\n").size() == 1);
  CHECK(faults_of("# TYPE a gauge\n# UNIT a s\na{b=\"c\"} nan\n# EOF\n").size() == 2);
  CHECK(faults_of("# TYPE a gauge\n# TYPE b gauge\na{b=\"c\"} 1\n# EOF\n").size() == 1);
}

TEST_CASE("OpenMetrics: valid, whatever the names; what isn't finite is left out", "[forms]") {
  ExperimentRecord r = record_with({"int8", "say \"x\\y\"\nz"});
  r.gates = {gate_on("int8", GateVerdict::fail)};
  r.runs[1].metrics.push_back({"a.b", 1.0, {}, "", ""});
  r.runs[1].metrics.push_back({"a_b", 2.0, {}, "", ""});
  r.runs[1].metrics.push_back({"bad", NAN, {}, "", ""});
  const std::string text = openmetrics_text(r);
  CHECK(faults_of(text) == std::vector<std::string>{});
  CHECK(says(text, "# TYPE qfid_kl_mean_nats gauge\n# UNIT qfid_kl_mean_nats nats\n"));
  CHECK(says(text, "qfid_kl_mean_nats{model=\"m\",target=\"int8\"} 0.01\n"));
  CHECK(says(text, "qfid_perplexity_ratio{model=\"m\",target=\"int8\"} 1.01\n"));
  CHECK(says(text, "target=\"say \\\"x\\\\y\\\"\\nz\""));
  CHECK(says(text, "qfid_gate_blocks{gate=\"quality\",model=\"m\",target=\"int8\",verdict=\"fail\"} 1\n"));
  CHECK_FALSE(says(text, "qfid_bad"));
  CHECK(faults_of(openmetrics_text({})) == std::vector<std::string>{});
}

TEST_CASE("lm-eval: a file a run, with the keys that its readers look for", "[forms]") {
  ExperimentRecord r = record_with({"a/b"});
  r.runs.push_back(r.runs[1]);
  r.runs.back().metrics.clear();  // failed
  const auto files = lm_eval_files(r);
  REQUIRE(files.size() == 2);
  CHECK(files[0].first == "m__baseline/results_2026-01-02T03-04-05.json");
  CHECK(files[1].first == "m__a__b/results_2026-01-02T03-04-05.json");
  const json all = json::parse(files[1].second);
  for (const char* key : {"results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples",
                          "config", "git_hash", "date", "model_name", "model_name_sanitized"})
    CHECK(all.contains(key));
  const json& results = all["results"]["qfid_window"];
  CHECK(results["perplexity.ratio,none"] == 1.01);
  CHECK(results["perplexity.ratio_stderr,none"] == "N/A");
  // [0.009, 0.011] at 95 % over 16 windows: half of it over t(0.975, 15) = 2.13145.
  CHECK(std::fabs(results["kl.mean_stderr,none"].get<double>() - 0.001 / 2.131449546) < 1e-10);
  CHECK(all["n-shot"]["qfid_window"] == 0);
  CHECK(all["n-samples"]["qfid_window"] == json{{"original", 16}, {"effective", 16}});
  CHECK(all["higher_is_better"]["qfid_window"]["top1.agreement"] == true);
  CHECK(all["higher_is_better"]["qfid_window"]["kl.mean"] == false);
  CHECK(all["date"] == 1767323045.0);
}

TEST_CASE("metrics.csv: a row for each metric", "[forms]") {
  ExperimentRecord r = record_with({});
  r.runs[0].metrics = {{"a", 0.5, Interval{0.25, 1}, "nats", "x, \"y\""}, {"b", NAN, {}, "", ""}};
  CHECK(metrics_csv(r) ==
        "model,target,metric,value,low,high,unit,note\r\nm,baseline,a,0.5,0.25,1,nats,\"x, "
        "\"\"y\"\"\"\r\nm,baseline,b,,,,,\r\n");
}
