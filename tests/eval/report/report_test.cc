// Reports of a record made by hand: known text, null for what isn't a number, quoting, escapes, arrays NumPy reads.
#include "eval/report/report.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/checkpoint_files.h"

using namespace qfid::eval;
using namespace qfid::tests;
using nlohmann::json;

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

ExperimentRecord record() {
  ExperimentRecord r;
  r.name = "hand|made <b>";
  r.spec_file = "x.yaml";
  r.spec_text = "name: \"x\"\n";
  r.provenance.tokens_path = "to`ken*s[1].npy";
  r.provenance.windows = 2;
  r.provenance.context = 4;
  r.models.push_back({"m", "models/m", "opt", "0123", 1500000, "softmax", {}});
  RunRecord base{};
  base.model = "m";
  base.target = "baseline";
  base.backend = "cpu";
  base.metrics = {{"perplexity", 20.5, Interval{19, 22}, "", ""}, {"kl.mean", 0, {}, "nats", ""}};
  base.windows = {{2, 2}, {1.5, 2.5}, {0, 0}, {0, 0}, {2, 2}};
  base.tokens = {{1, 2, 3, 4}, {0, 0, 0, 0}, {7, 8, 9, 10}};
  RunRecord test = base;
  test.target = "quoted, \"target\"";
  test.metrics = {{"perplexity", 21, {}, "", ""},
                  {"perplexity.ratio", 1.0244, Interval{1.01, nan}, "ratio", ""},
                  {"kl.mean", nan, {}, "nats", "not | a number"},
                  {"top1.agreement", {}, {}, "share", "nothing scored"}};
  test.layers = {{0, "q", -1, "local", {{"sqnr_db", 30.25}, {"gain", nan}}},
                 {0, "q", 1, "local", {{"sqnr_db", std::numeric_limits<double>::infinity()}}},
                 {-1, "embedding", -1, "none", {{"kurtosis", {}}, {"gain", 0.1}}}};
  RunRecord failed{};
  failed.model = "m";
  failed.target = "broken";
  failed.status = RunStatus::failed;
  failed.message = "line one\nline | two \\";
  r.runs = {base, test, failed};
  r.warnings = {"model m: tensor <img src=x> is not used"};
  return r;
}

}  // namespace

TEST_CASE("results.json: schema first, timings last, null for what isn't a finite number") {
  const std::string text = results_json(record());
  CHECK(text.starts_with("{\n \"schema_version\": 1,\n \"name\": \"hand|made <b>\",\n"));
  CHECK(text.ends_with("}\n"));
  const json all = json::parse(text);
  const json& metrics = all["runs"][1]["metrics"];
  CHECK(metrics["perplexity"] == json{{"value", 21.0}, {"unit", ""}});
  CHECK(metrics["perplexity.ratio"]["ci"] == json{1.01, nullptr});
  CHECK(metrics["kl.mean"] == json{{"value", nullptr}, {"unit", "nats"}, {"note", "not | a number"}});
  CHECK(metrics["top1.agreement"]["value"].is_null());
  const json& layers = all["runs"][1]["layers"];
  CHECK(layers[0] ==
        json{{"layer", 0}, {"tap", "q"}, {"head", nullptr}, {"error", "local"}, {"sqnr_db", 30.25}, {"gain", nullptr}});
  CHECK(layers[1]["head"] == 1);
  CHECK(layers[1]["sqnr_db"].is_null());
  CHECK(all["runs"][2]["status"] == "failed");
  CHECK(all["runs"][2]["message"] == "line one\nline | two \\");
  CHECK(all["runs"][0]["windows"]["nll"] == json{1.5, 2.5});
  CHECK(all["interrupted"] == false);
  CHECK(text.find(": nan") == std::string::npos);
  CHECK(text.find("\"timings\"") > text.find("\"warnings\""));
  ExperimentRecord odd = record();
  odd.spec_file = "caf\xE9.yaml";
  CHECK(json::parse(results_json(odd))["spec"]["file"] == "caf\xEF\xBF\xBD.yaml");
}

TEST_CASE("layers.csv: RFC 4180, one column for every value, empty where there is none") {
  CHECK(layers_csv(record()) ==
        "model,target,error,layer,tap,head,sqnr_db,gain,kurtosis\r\n"
        "m,\"quoted, \"\"target\"\"\",local,0,q,,30.25,,\r\n"
        "m,\"quoted, \"\"target\"\"\",local,0,q,1,,,\r\n"
        "m,\"quoted, \"\"target\"\"\",none,-1,embedding,,,0.1,\r\n");
  CHECK(layers_csv({}) == "model,target,error,layer,tap,head\r\n");
}

TEST_CASE("report.md: free text is no markup, tables keep their columns") {
  const std::string text = markdown_report(record());
  CHECK(text.starts_with("# hand\\|made \\<b>\n"));
  CHECK(text.find("| broken | failed: line one line \\| two \\\\ | | | | | | |\n") != std::string::npos);
  CHECK(text.find("| quoted, \"target\" | 21.00 | 1.0244 | 1.0100 .. nan | nan | - | 0.q, 30.2 | - |\n") !=
        std::string::npos);
  CHECK(text.find("Warning: model m: tensor \\<img src=x> is not used\n") != std::string::npos);
  CHECK(text.find("to\\`ken\\*s\\[1].npy") != std::string::npos);
  std::istringstream lines(text);
  std::size_t columns = 0, rows = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("|")) {
      columns = 0;
      continue;
    }
    std::size_t bars = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '\\') {
        ++i;
      } else {
        bars += line[i] == '|';
      }
    }
    CAPTURE(line);
    if (columns != 0) CHECK(bars == columns);
    columns = bars;
    ++rows;
  }
  CHECK(rows >= 10);
}

TEST_CASE("a plan's text says that a device can't hold the run") {
  Plan plan;
  CHECK(console_plan(plan).find("can't run") == std::string::npos);
  plan.device_shortage = "model m: at least 2.0 MiB";
  CHECK(console_plan(plan).ends_with("\ncan't run: model m: at least 2.0 MiB\n"));
}

TEST_CASE("the console table: known lines, at most 80 columns, no value without a number") {
  const std::string text = console_report(record());
  CHECK(text.find("  target               perplexity    ratio  KL (nats)   top-1   worst local, dB\n") != std::string::npos);
  CHECK(text.find("  baseline                  20.50        -          0       -                 -\n") != std::string::npos);
  CHECK(text.find("  quoted, \"target\"          21.00   1.0244        nan       -          0.q 30.2\n") !=
        std::string::npos);
  CHECK(text.find("failed: line one") != std::string::npos);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 80);
}

TEST_CASE("tokens.npy: a structured array of the runs that were scored") {
  const auto files = token_files(record());
  REQUIRE(files.size() == 1);
  CHECK(files[0].first == "tokens.npy");
  const std::string& bytes = files[0].second;
  CHECK(bytes.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
  const std::size_t header =
      10 + static_cast<unsigned char>(bytes[8]) + 256 * static_cast<std::size_t>(static_cast<unsigned char>(bytes[9]));
  CHECK(header % 64 == 0);
  CHECK(bytes.substr(10).starts_with(
      "{'descr': [('nll', '<f4'), ('kl', '<f4'), ('top1', '<i4')], 'fortran_order': False, 'shape': (2,4,), }"));
  REQUIRE(bytes.size() == header + 2 * 4 * 12);
  float nll = 0;
  std::int32_t top1 = 0;
  std::memcpy(&nll, bytes.data() + header + 5 * 12, 4);
  std::memcpy(&top1, bytes.data() + header + 5 * 12 + 8, 4);
  CHECK(nll == 2.0F);
  CHECK(top1 == 8);

  ExperimentRecord two = record();
  two.models.push_back(two.models[0]);
  two.models[1].name = "n";
  const auto both = token_files(two);
  REQUIRE(both.size() == 2);
  CHECK(both[0].first == "tokens-m.npy");
  CHECK(both[1].first == "tokens-n.npy");
  CHECK(both[1].second.find("'shape': (0,0,)") != std::string::npos);
}

TEST_CASE("files appear together or not at all") {
  const TemporaryDirectory dir;
  const auto written = write_reports(record(), dir.path() / "a" / "b");
  CHECK(written.size() == 5);
  for (const auto& path : written) CHECK(std::filesystem::file_size(path) > 0);
  // The last to be staged can't be: nothing is replaced, nothing temporary stays.
  const std::filesystem::path out = dir.path() / "c";
  dir.write("c/report.md", "old");
  std::filesystem::create_directories(out / "results.json.tmp" / "x");
  const Failure failure = failure_of([&] { write_reports(record(), out); });
  CHECK(failure.code == 3);
  CHECK(dir.shown(failure.message) == "DIR/c/results.json: can't write: File exists");
  CHECK(read_file(out / "report.md") == "old");
  CHECK(std::distance(std::filesystem::directory_iterator(out), std::filesystem::directory_iterator()) == 2);
  write_file_atomically(dir.path() / "one", "text");
  CHECK(read_file(dir.path() / "one") == "text");
}
