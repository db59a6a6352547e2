// qfid recommend where nothing passes: a configuration is left behind that validates, runs, and can be recommended from.
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"

using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

/// A tiny model under one target; `more` goes into its metrics.
fs::path experiment(const TemporaryDirectory& dir, int tokens, int windows, const std::string& more) {
  write_model(dir, "m");
  std::vector<std::uint16_t> ids;
  for (int i = 0; i < tokens; ++i) ids.push_back(static_cast<std::uint16_t>((i * i + i / 7 + 3) % 16));
  dir.write("tokens.npy", npy_tokens(ids));
  return dir.write("x.yaml", "version: 1\nname: t\nmodels: {m: {path: m}}\ndata: {tokens: tokens.npy, windows: " +
                                 std::to_string(windows) +
                                 "}\nbaseline: {backend: reference}\ntargets: {beta: {backend: reference, preset: "
                                 "int8-per-tensor}}\nmetrics: {local_windows: 0, sink_windows: 0" +
                                 more + "}\n");
}

}  // namespace

TEST_CASE("a proposal goes beside the results, or where it was asked for; it validates and runs", "[proposal]") {
  const TemporaryDirectory dir;
  const fs::path config = experiment(dir, 2048, 64, "");
  const std::string out = (dir.path() / "o").string();
  CHECK(qfid_here({"run", config.string(), "--out", out, "--quiet"}).code == 0);
  const auto results = nlohmann::json::parse(read_file(dir.path() / "o/results.json"));
  const double kl = results["runs"][1]["metrics"]["kl.mean"]["value"];
  const std::string budget = "{metric: kl.mean, max: " + std::to_string(0.6 * kl) + "}";

  const Outcome without = qfid_here({"recommend", out, "--budget", budget});
  CHECK(without.code == 1);
  CHECK(without.err == "no proposal for m: no error budget was measured (qfid run ... --set metrics.budget_windows=16)\n");
  CHECK_FALSE(fs::exists(dir.path() / "o/proposal.yaml"));

  CHECK(
      qfid_here({"run", config.string(), "--set", "metrics.budget_windows=16", "--out", out, "--quiet", "--restart"}).code ==
      0);
  const Outcome with = qfid_here({"recommend", out, "--budget", budget});
  CHECK(with.code == 1);
  CHECK(dir.shown(with.err).starts_with("proposal for m: DIR/o/proposal.yaml ("));
  CHECK(with.err.find("64 windows after all that the run evaluated") != std::string::npos);
  const std::string elsewhere = (dir.path() / "p.yaml").string(), run = (dir.path() / "p").string();
  CHECK(qfid_here({"recommend", out, "--budget", budget, "--proposal", elsewhere}).code == 1);
  CHECK(qfid_here({"validate", elsewhere}).code == 0);
  const int passed = qfid_here({"run", elsewhere, "--out", run, "--quiet"}).code;
  CHECK((passed == 0 || passed == 1));  // gates decide, and nothing else
  const auto proposed = nlohmann::json::parse(read_file(fs::path(run) / "results.json"));
  CHECK(proposed["provenance"]["first_token"] == 64 * 8);
  CHECK(proposed["runs"].size() > 1);
  const double better = proposed["runs"][1]["metrics"]["kl.mean"]["value"];
  CHECK(better < 0.9 * kl);  // what was kept did the damage
  CHECK(qfid_here({"recommend", run}).code <= 1);
}

TEST_CASE("proposals from results that were tampered with are refused in words", "[proposal]") {
  const TemporaryDirectory dir;
  const fs::path config = experiment(dir, 512, 32, ", budget_windows: 2");
  const std::string out = (dir.path() / "o").string();
  REQUIRE(qfid_here({"run", config.string(), "--out", out, "--quiet"}).code == 0);
  const std::string results = read_file(dir.path() / "o/results.json");
  const double kl = nlohmann::json::parse(results)["runs"][1]["metrics"]["kl.mean"]["value"];
  const std::string budget = "{metric: kl.mean, max: " + std::to_string(0.6 * kl) + "}";
  const auto said = [&](const std::string& text) {
    auto json = nlohmann::ordered_json::parse(results);
    json["spec"]["text"] = text;
    dir.write("o/results.json", json.dump());
    const Outcome outcome = qfid_here({"recommend", out, "--budget", budget});
    CHECK(outcome.code == 1);
    CHECK_FALSE(fs::exists(dir.path() / "o/proposal.yaml"));
    return outcome.err;
  };
  const std::string refused = "no proposal for m: the results' configuration:", good = read_file(config);
  CHECK(said("a: [").starts_with(refused));
  CHECK(said(replaced(good, "windows: 32", "windows: {}")) ==
        refused + "4:37: data.windows is a map, expected a whole number, 1..10000000\n");
  CHECK(said(replaced(good, "tokens: tokens.npy", "text: tokens.npy")) ==
        refused + "4:7: data.text without data.tokenizer, expected a tokenizer.json\n");
}
