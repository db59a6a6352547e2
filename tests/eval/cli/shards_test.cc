// A run in parts: any number of shards gives the bytes of the whole run, and what doesn't fit together is refused by name.
#include <stdlib.h>

#include <catch2/catch_test_macros.hpp>

#include "tests/support/tiny_experiment.h"

using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

std::string shard(const TinyExperiment& x, int i, int n, const std::string& name,
                  const std::vector<std::string>& more = {}) {
  std::vector<std::string> options{"--shard", std::to_string(i) + "/" + std::to_string(n)};
  options.insert(options.end(), more.begin(), more.end());
  const Outcome outcome = x.run(name, options);
  CHECK(outcome.code == 0);
  CHECK(outcome.err.empty());
  return x.out(name);
}

Outcome merge(const TinyExperiment& x, std::vector<std::string> directories, const std::string& name) {
  directories.insert(directories.begin(), "merge");
  directories.insert(directories.end(), {"--quiet", "--out", x.out(name)});
  return qfid_here(directories);
}

}  // namespace

TEST_CASE("1, 2, 3 and 8 shards: the bytes of the whole run") {
  const TinyExperiment x(12, "gates: {g: {metric: kl.mean, max: 1e-9}}\n");
  const int code = x.run("whole").code;
  const auto whole = x.files("whole");
  REQUIRE(whole.contains("results.json"));
  for (const int n : {1, 2, 3, 8}) {
    CAPTURE(n);
    std::vector<std::string> parts;
    for (int i = n; i >= 1; --i)  // in any order
      parts.push_back(shard(x, i, n, "s" + std::to_string(i) + "of" + std::to_string(n)));
    const Outcome merged = merge(x, parts, "merged" + std::to_string(n));
    CHECK(merged.code == code);
    CHECK(x.files("merged" + std::to_string(n)) == whole);
    CHECK(x.files("s1of" + std::to_string(n)).empty());
  }
}

TEST_CASE("shards resume like runs, and say when they are finished") {
  const TinyExperiment x;
  const std::string first = shard(x, 1, 2, "a");
  shard(x, 1, 2, "a");
  const Outcome again = qfid_here({"run", x.config_path, "--out", first, "--shard", "1/2"});
  CHECK(again.code == 0);
  CHECK(x.dir.shown(again.err) == "qfid: DIR/a: finished already, nothing to do (--restart begins anew)\n");
  // As if killed in its middle.
  const std::string bytes = read_file(fs::path(first) / "run.journal");
  x.dir.write("a/run.journal", bytes.substr(0, bytes.size() / 2));
  const Outcome early = merge(x, {first, shard(x, 2, 2, "b")}, "together");
  CHECK(early.code == 2);
  CHECK(early.err.find("; here are shards 1/2 (unfinished), 2/2") != std::string::npos);
  CHECK(x.run("a", {"--shard", "1/2"}).code == 0);
  CHECK(merge(x, {first, x.out("b")}, "together").code == 0);
  REQUIRE(x.run("whole").code == 0);
  CHECK(x.files("together") == x.files("whole"));
}

TEST_CASE("gaps, overlaps, other runs and other things are refused by name") {
  const TinyExperiment x;
  const std::string first = shard(x, 1, 3, "a"), second = shard(x, 2, 3, "b"), third = shard(x, 3, 3, "c");
  const auto refused = [&](const std::vector<std::string>& directories) {
    const Outcome outcome = merge(x, directories, "together");
    CHECK(outcome.code != 0);
    CHECK(x.files("together").empty());
    return std::to_string(outcome.code) + " " + x.dir.shown(outcome.err);
  };
  // Units are numbered through: 6 chunks, noise, interventions on 3 runs, budgets of 2, for each model.
  CHECK(refused({first, third}) ==
        "2 qfid: no shard has 4 of the units: m/windows/2-3, m/windows/8-9, n/windows/2-3, n/windows/8-9; here are shards "
        "1/3, "
        "3/3\n");
  CHECK(refused({first, second, third, second}) == "2 qfid: DIR/b and DIR/b both hold unit m/budget/int8\n");
  CHECK(refused({first, second, third, shard(x, 2, 2, "d")}).starts_with("2 qfid: DIR/"));
  CHECK(refused({first, second, shard(x, 3, 3, "e", {"--set", "data.windows=4"})}) ==
        "2 qfid: DIR/a and DIR/e hold shards of different runs: --set (was none, is data.windows=4)\n");
  REQUIRE(x.run("whole").code == 0);
  CHECK(refused({x.out("whole")}) == "2 qfid: DIR/whole holds no shard, expected what qfid run --shard wrote\n");
  CHECK(refused({x.out("nowhere")}) == "3 qfid: DIR/nowhere/run.journal: can't open: No such file or directory\n");
  const Outcome into = merge(x, {first, second, third}, "whole");
  CHECK(into.code == 2);
  CHECK(x.dir.shown(into.err) == "qfid: DIR/whole: holds a run's journal, expected another directory for merged results\n");
  const std::string text = read_file(x.config_path);
  x.dir.write("x.yaml", text + "# changed\n");
  CHECK(refused({first, second, third})
            .starts_with(
                "2 qfid: DIR/a: what its shards were made of is no longer what is here: configuration (line 11 was "));
  x.dir.write("x.yaml", text);
  CHECK(merge(x, {first, second, third}, "together").code == 0);
}

TEST_CASE("what can't be split, and how a shard is spelled") {
  const TinyExperiment x;
  const auto said = [&](const std::vector<std::string>& more) {
    const Outcome outcome = x.run("s", more);
    return std::to_string(outcome.code) + " " + x.dir.shown(outcome.err);
  };
  for (const char* bad : {"0/2", "3/2", "1/0", "1", "a/b", "1/2/3", "-1/2", "1/2000000"})
    CHECK(said({"--shard", bad}) ==
          "2 qfid: --shard \"" + std::string(bad) + "\", expected I/N with 1 <= I <= N <= 1000000, or slurm\n");
  CHECK(said({"--shard", "1/2", "--dump", x.out("d")}) ==
        "2 qfid: --dump writes files of whole tensors, which --shard can't split\n");
  CHECK(said({"--shard", "1/2", "--set", "gates={e: {exact: logits, relative_to: {file: s.json}}}"})
            .find("gate \"e\" is exact: its hashes go over all windows in one chain, which --shard can't split") !=
        std::string::npos);
  CHECK(said({"--shard", "slurm"}) ==
        "2 qfid: --shard slurm: SLURM_ARRAY_TASK_ID isn't set, expected a task of a job array\n");
}

TEST_CASE("Slurm's arrays, also those that begin elsewhere and take steps") {
  const TinyExperiment x;
  const auto in_slurm = [&](const char* id, const char* count, const char* first, const char* step,
                            const std::string& name) {
    ProcessOptions options;
    options.before_exec = [=] {
      setenv("SLURM_ARRAY_TASK_ID", id, 1);
      setenv("SLURM_ARRAY_TASK_COUNT", count, 1);
      if (first != nullptr) setenv("SLURM_ARRAY_TASK_MIN", first, 1);
      if (step != nullptr) setenv("SLURM_ARRAY_TASK_STEP", step, 1);
    };
    const Outcome outcome = qfid_process(x.run_arguments(name, {"--shard", "slurm"}), options);
    return std::to_string(outcome.code) + " " + outcome.err;
  };
  CHECK(in_slurm("0", "2", nullptr, nullptr, "a") == "0 ");
  CHECK(in_slurm("13", "2", "10", "3", "b") == "0 ");
  CHECK(qfid_process({"merge", x.out("a"), x.out("b"), "--quiet", "--out", x.out("together")}).code == 0);
  CHECK(x.files("together").contains("results.json"));
  CHECK(in_slurm("12", "2", "10", "3", "c") ==
        "2 qfid: --shard slurm: task 12 of 2 from 10 in steps of 3 has no place in its array, expected one without gaps\n");
  CHECK(in_slurm("7", "2", nullptr, nullptr, "c").starts_with("2 qfid: --shard slurm: task 7 of 2 from 0 in steps of 1 "));
  CHECK(in_slurm("x", "2", nullptr, nullptr, "c") ==
        "2 qfid: --shard slurm: SLURM_ARRAY_TASK_ID is \"x\", expected a number\n");
}

TEST_CASE("hidden states and bigram-backcopy in shards, and killed between chunks") {
  const std::string source = std::string(QFID_SOURCE_DIR) + "/configs/";
  const std::string targets =
      "targets: {int8: {preset: int8-per-token}}\nbaseline: {backend: reference}\nrun: {chunk_windows: 2}\n";
  for (const std::string& data :
       {"models: {m: {path: " + source + "models/tiny-softmax}}\ndata: {tokens: " + source +
            "data/tiny-tokens.npy, windows: 6, context: 32, protocol: hidden}\nmetrics: {local_windows: 3, sink_windows: "
            "3}\n",
        "models: {m: {path: " + source +
            "models/backcopy/vga-value/step-1000}}\ndata: {bigram_backcopy: {tables: " + source +
            "data/bigram-backcopy, seed: 1, sequences: 6, length: 32}}\nmetrics: {local_windows: 3, sink_windows: 6, "
            "interventions: [mask_key_0, gate_mean], intervention_windows: 2}\n"}) {
    CAPTURE(data);
    const TinyExperiment x;
    x.dir.write("x.yaml", "version: 1\nname: t\n" + data + targets);
    REQUIRE(x.run("whole").code == 0);
    CHECK(x.files("whole").contains("results.json"));
    const std::string first = shard(x, 1, 2, "a"), second = shard(x, 2, 2, "b");
    // A shard that lost its last units computes them again.
    const std::string bytes = read_file(fs::path(second) / "run.journal");
    x.dir.write("b/run.journal", bytes.substr(0, bytes.size() * 2 / 3));
    CHECK(x.run("b", {"--shard", "2/2"}).code == 0);
    CHECK(merge(x, {first, second}, "together").code == 0);
    CHECK(x.files("together") == x.files("whole"));
  }
}
