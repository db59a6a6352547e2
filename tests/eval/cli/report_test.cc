// qfid report: every form again from what a run left, where to, and what is said when something is missing.
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"

using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

/// A run of one tiny model and two targets, one of which has a gate that can't decide.
struct Results {
  Results() {
    write_model(dir, "m");
    std::vector<std::uint16_t> tokens;
    for (int i = 0; i < 64; ++i) tokens.push_back(static_cast<std::uint16_t>((i * i + 3) % 16));
    dir.write("tokens.npy", npy_tokens(tokens));
    const fs::path config =
        dir.write("x.yaml",
                  "version: 1\nname: t\nmodels: {m: {path: m}}\ndata: {tokens: tokens.npy}\nbaseline: {backend: reference}\n"
                  "targets: {alpha: {backend: reference}, beta: {backend: reference, preset: int8-per-token}}\n"
                  "gates: {q: {metric: kl.mean, max: 1, targets: beta}}\n");
    CHECK(qfid_here({"run", config.string(), "--out", out("o"), "--quiet"}).code == 1);
  }
  std::string out(const std::string& name) const { return (dir.path() / name).string(); }
  std::string read(const std::string& name) const { return read_file(dir.path() / name); }
  TemporaryDirectory dir;
};

}  // namespace

TEST_CASE("results are rendered again, to the same bytes, from a directory or from the file") {
  const Results x;
  const std::string html = x.read("o/report.html"), markdown = x.read("o/report.md"), layers = x.read("o/layers.csv");
  CHECK(html.find("KL of single tokens") != std::string::npos);
  for (const std::string& named : {x.out("o"), x.out("o/results.json")}) {
    fs::remove(x.out("o/report.html"));
    fs::remove(x.out("o/report.md"));
    const Outcome again = qfid_here({"report", named});
    CHECK(again.code == 0);
    CHECK(again.out.empty());
    CHECK(x.dir.shown(again.err) == "wrote DIR/o/report.html\nwrote DIR/o/report.md\n");
    CHECK(x.read("o/report.html") == html);
    CHECK(x.read("o/report.md") == markdown);
  }
  const Outcome all = qfid_here({"report", x.out("o"), "--html", x.out("h"), "--markdown", x.out("m.md"), "--pr", x.out("p"),
                                 "--openmetrics", x.out("om"), "--lm-eval", x.out("lm"), "--junit", x.out("j"), "--csv",
                                 x.out("c"), "--layers", x.out("l")});
  CHECK(all.code == 0);
  CHECK(x.read("h") == html);
  CHECK(x.read("l") == layers);
  CHECK(x.read("p").find("**Does not pass**: 1 of 1 gates block.") != std::string::npos);
  CHECK(x.read("om").ends_with("# EOF\n"));
  CHECK(x.read("j").find("<testsuite ") != std::string::npos);
  CHECK(x.read("c").starts_with("model,target,metric,"));
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(x.out("lm")))
    if (entry.is_regular_file()) {
      CHECK(nlohmann::json::parse(read_file(entry.path())).contains("results"));
      ++files;
    }
  CHECK(files == 3);
}

TEST_CASE("attention of a few heads is in the record: full precision first, every row a whole") {
  const Results x;
  const nlohmann::json all = nlohmann::json::parse(x.read("o/results.json"));
  REQUIRE(!all["attention"].empty());
  for (const nlohmann::json& head : all["attention"]) {
    CHECK(head["maps"].size() == 3);
    CHECK(head["maps"][0]["target"] == "baseline");
    for (const nlohmann::json& map : head["maps"])
      for (const nlohmann::json& row : map["rows"]) {
        std::istringstream numbers(row.get<std::string>());
        int sum = 0;
        for (int value = 0; numbers >> value;) sum += value;
        CHECK(std::abs(sum - 1000) <= 17);
      }
  }
  CHECK(x.read("o/report.html").find("Attention of the heads that matter") != std::string::npos);
}

TEST_CASE("a dash is standard output; annotations go there too") {
  const Results x;
  const Outcome om = qfid_here({"report", x.out("o"), "--openmetrics", "-"});
  CHECK(om.code == 0);
  CHECK(om.err.empty());
  CHECK(om.out.ends_with("# EOF\n"));
  const Outcome notes = qfid_here({"report", x.out("o"), "--annotations"});
  CHECK(notes.out.starts_with("::error title=qfid%3A q%2C beta on m%2C inconclusive::"));
}

TEST_CASE("a step's summary is added to, another file is replaced") {
  const Results x;
  x.dir.write("summary", "before\n");
  x.dir.write("other", "before\n");
  setenv("GITHUB_STEP_SUMMARY", x.out("summary").c_str(), 1);
  CHECK(qfid_here({"report", x.out("o"), "--pr", x.out("summary")}).code == 0);
  CHECK(qfid_here({"report", x.out("o"), "--pr", x.out("other")}).code == 0);
  unsetenv("GITHUB_STEP_SUMMARY");
  CHECK(x.read("summary") == "before\n" + x.read("other"));
  CHECK(x.read("other").starts_with("## qfid: t\n"));
}

TEST_CASE("what is missing or malformed is named") {
  const Results x;
  CHECK(qfid_here({"report"}).code == 2);
  CHECK(qfid_here({"report", x.out("nowhere")}).code == 3);
  CHECK(qfid_here({"report", x.out("o"), "--html", x.out("no/such/place.html")}).code == 3);
  fs::remove(x.out("o/tokens.npy"));
  const Outcome without = qfid_here({"report", x.out("o")});
  CHECK(without.code == 0);
  CHECK(
      x.dir.shown(without.err).starts_with("qfid: DIR/o/tokens.npy isn't there: the page has no distribution of tokens\n"));
  x.dir.write("o/tokens.npy", "no table");
  const Outcome wrong = qfid_here({"report", x.out("o")});
  CHECK(wrong.code == 3);
  CHECK(wrong.err.find("expected the table of results.json beside it") != std::string::npos);
  nlohmann::json json = nlohmann::json::parse(x.read("o/results.json"));
  json["runs"][1]["metrics"]["perplexity"].erase("unit");
  x.dir.write("o/results.json", json.dump());
  CHECK(x.dir.shown(qfid_here({"report", x.out("o")}).err) ==
        "qfid: DIR/o/results.json: missing key \"runs[1].metrics.perplexity.unit\"\n");
}
