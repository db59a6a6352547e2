// The tables of malformed inputs through the program: exit code 3, the exact message on stderr, nothing on stdout.
#include <catch2/catch_test_macros.hpp>

#include "tests/support/command_line.h"
#include "tests/support/malformed.h"

using namespace qfid::tests;

namespace {

const char* const experiment =
    "version: 1\nname: t\nmodels: {m: {path: m}}\ndata: {tokens: tokens.npy, windows: 1}\n"
    "baseline: {backend: reference}\ntargets: {t: {backend: reference}}\n";

void check(const TemporaryDirectory& dir, const Outcome& outcome, const std::string& expected) {
  CHECK(outcome.code == 3);
  CHECK(outcome.out.empty());
  CHECK(dir.shown(outcome.err) == "qfid: " + expected + "\n");
}

std::size_t check_models(const std::vector<MalformedModel>& all) {
  for (const MalformedModel& malformed : all) {
    CAPTURE(malformed.name);
    const TemporaryDirectory dir;
    malformed.write(dir);
    check(dir, qfid_here({"inspect", (dir.path() / "m").string()}), malformed.expected);
    // A run says the same, before anything runs.
    dir.write("tokens.npy", npy_tokens(std::vector<std::uint16_t>(16, 3)));
    const std::string config = dir.write("x.yaml", experiment).string();
    check(dir, qfid_here({"run", config, "--out", (dir.path() / "out").string()}), malformed.expected);
    CHECK_FALSE(std::filesystem::exists(dir.path() / "out" / "results.json"));
  }
  return all.size();
}

}  // namespace

TEST_CASE("malformed checkpoints and token files: exit code 3 and the message, from inspect, plan and run") {
  std::size_t cases = 0;
  for (const auto& table : {malformed_safetensors(), malformed_indices(), malformed_configs(), malformed_checkpoints()})
    cases += check_models(table);
  for (const MalformedNpy& malformed : malformed_npy()) {
    CAPTURE(malformed.name);
    const TemporaryDirectory dir;
    write_model(dir, "m");
    dir.write("tokens.npy", malformed.content);
    const std::string config = dir.write("x.yaml", experiment).string(), expected = "DIR/tokens.npy: " + malformed.expected;
    check(dir, qfid_here({"plan", config}), expected);
    check(dir, qfid_here({"run", config, "--out", (dir.path() / "out").string()}), expected);
    ++cases;
  }
  CHECK(cases >= 200);
}

TEST_CASE("what windows and models must agree on is said before anything runs") {
  const TemporaryDirectory dir;
  write_model(dir, "m");
  dir.write("tokens.npy", npy_tokens({1, 2, 3, 4, 5, 6, 7, 8, 99}));
  const std::string config = dir.write("x.yaml", experiment).string();
  const auto said = [&](const std::vector<std::string>& sets) {
    std::vector<std::string> arguments{"run", config, "--out", (dir.path() / "out").string()};
    for (const std::string& set : sets) arguments.insert(arguments.end(), {"--set", set});
    const Outcome outcome = qfid_here(arguments);
    return std::to_string(outcome.code) + " " + dir.shown(outcome.err);
  };
  CHECK(said({"data.first_token=1"}) == "3 qfid: DIR/tokens.npy: token 8 is 99, outside the model's vocabulary of 16\n");
  CHECK(said({"data.windows=2"}) ==
        "3 qfid: DIR/tokens.npy: 2 windows of 8 tokens from token 0 asked for, 1 fit into its 9 tokens\n");
  CHECK(said({"data={tokens: tokens.npy, first_token: 5}"}) == "3 qfid: DIR/tokens.npy: not one window of 8 tokens fits\n");
  CHECK(said({"data.context=9"}) == "2 qfid: DIR/x.yaml: context 9 is above the model's 8 positions, set data.context\n");
  CHECK(said({"data.context=2", "data.protocol=llamacpp"}) ==
        "2 qfid: DIR/x.yaml: a context of 2 leaves nothing to score under llamacpp, expected data.context of 3 or more\n");
  CHECK(said({"data.context=2", "data.protocol=outlier_free", "data.batch_windows=3", "data.windows=4"}) ==
        "2 qfid: DIR/x.yaml: data.windows 4 is no multiple of data.batch_windows 3, expected whole batches under "
        "outlier_free\n");
  CHECK(said({"data={tokens: tokens.npy, context: 2, protocol: outlier_free}"}) ==
        "3 qfid: DIR/tokens.npy: 4 windows of 2 tokens fit, not one batch of 8\n");
  CHECK(said({"data.batch_windows=3"}) ==
        "2 qfid: --set data.batch_windows=3: batch_windows belongs to protocol outlier_free, found window\n");
  CHECK(said({"data.protocol=llamacpp-512"}) ==
        "2 qfid: --set data.protocol=llamacpp-512: data.protocol is \"llamacpp-512\", expected one of window, gptq, "
        "llamacpp, outlier_free, lmeval, mlm, hidden, did you mean \"llamacpp\"?\n");
  CHECK(said({"data.calibration={first_token: 4, windows: 1}", "data.context=4"}) ==
        "0 wrote DIR/out/report.md\nwrote DIR/out/report.html\n"
        "wrote DIR/out/layers.csv\nwrote DIR/out/tokens.npy\nwrote DIR/out/results.json\n");
  CHECK(said({"data.calibration={first_token: 3, windows: 1}", "data.context=4"}) ==
        "2 qfid: DIR/x.yaml: calibration tokens [3, 7) overlap the evaluated [0, 4)\n");
  CHECK(said({"data.calibration={first_token: 8, windows: 1}", "data.context=4"}) ==
        "3 qfid: DIR/tokens.npy: 1 calibration windows of 4 tokens from token 8 asked for, the file holds 9 tokens\n");
  CHECK(said({"data.calibration={first_token: 5, windows: 1}", "data.context=4"}) ==
        "3 qfid: DIR/tokens.npy: token 8 is 99, outside the model's vocabulary of 16\n");
}
