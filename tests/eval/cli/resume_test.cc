// Runs that are stopped, killed, repeated or met by others in their directory.
#include <signal.h>

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <thread>

#include "eval/experiment/journal.h"
#include "tests/support/tiny_experiment.h"

using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

const std::vector<std::string> written{"layers.csv",   "report.html",  "report.md",
                                       "results.json", "tokens-m.npy", "tokens-n.npy"};

std::vector<std::string> names(const std::map<std::string, std::string>& files) {
  std::vector<std::string> all;
  for (const auto& [name, content] : files) all.push_back(name);
  return all;
}

fs::path journal(const TinyExperiment& x, const std::string& name) { return x.dir.path() / name / "run.journal"; }

/// The journal of a run of x as it was before its end, in a directory of its own: cut behind `size` bytes.
void unfinished(const TinyExperiment& x, const std::string& journal_bytes, std::size_t size, const std::string& name) {
  fs::remove_all(x.dir.path() / name);
  x.dir.write(name + "/run.journal", journal_bytes.substr(0, size));
}

/// The bytes of a journal with every unit of x: a run that couldn't write its files keeps it.
std::string full_journal(const TinyExperiment& x, const std::string& name) {
  fs::create_directories(x.dir.path() / name / "results.json" / "in the way");
  const Outcome outcome = x.run(name);
  CHECK(outcome.code == 3);
  CHECK(x.dir.shown(outcome.err).find("results.json: can't write: ") != std::string::npos);
  const std::string bytes = read_file(journal(x, name));
  fs::remove_all(x.dir.path() / name);
  return bytes;
}

}  // namespace

TEST_CASE("a run cut off behind any number of bytes of its journal goes on to the same bytes") {
  const TinyExperiment x;
  REQUIRE(x.run("whole").code == 0);
  const auto whole = x.files("whole");
  CHECK(names(whole) == written);
  const std::string bytes = full_journal(x, "cut");
  std::size_t resumed = 0;
  for (std::size_t size = 0; size <= bytes.size(); size += bytes.size() / 23) {
    CAPTURE(size);
    unfinished(x, bytes, size, "part");
    const Outcome outcome = x.run("part");
    CHECK(outcome.code == 0);
    CHECK(x.files("part") == whole);
    resumed += outcome.err.find("bytes of an unfinished record were cut off") != std::string::npos ? 1 : 0;
  }
  CHECK(resumed > 15);
  unfinished(x, bytes, bytes.size(), "part");
  const Outcome all = x.run("part");
  CHECK(all.code == 0);
  CHECK(all.err.empty());
  CHECK(x.files("part") == whole);
}

TEST_CASE("kill -9 in the middle, then the same command again") {
  const TinyExperiment x(2000);
  std::vector<std::string> arguments = x.run_arguments("k");
  int killed = 0;
  Outcome outcome;
  for (int attempt = 0; attempt < 40; ++attempt) {
    ProcessOptions options;
    const std::uintmax_t before = fs::exists(journal(x, "k")) ? fs::file_size(journal(x, "k")) : 0;
    options.while_running = [&](pid_t child) {
      std::error_code error;
      for (int tries = 0; tries < 3000; ++tries) {
        const std::uintmax_t size = fs::file_size(journal(x, "k"), error);
        if (!error && size > before + 200'000) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      kill(child, SIGKILL);
    };
    outcome = killed < 4 ? qfid_process(arguments, options) : qfid_process(arguments);
    if (outcome.code != 1000 + SIGKILL) break;
    CHECK(x.files("k").empty());
    ++killed;
  }
  CHECK(killed == 4);
  CHECK(outcome.code == 0);
  REQUIRE(qfid_process(x.run_arguments("straight")).code == 0);
  CHECK(x.files("k") == x.files("straight"));
}

TEST_CASE("a finished run is left alone, with its exit code; what it wrote is needed for that") {
  const TinyExperiment x(12, "gates: {g: {metric: kl.mean, max: 1e-9}}\n");
  const std::string config = x.config_path, out = x.out("o");
  REQUIRE(qfid_here({"run", config, "--out", out}).code != 0);
  const auto files = x.files("o");
  const int code = qfid_here({"run", config, "--out", out, "--quiet"}).code;
  CHECK(code != 0);
  const Outcome again = qfid_here({"run", config, "--out", out, "--junit", x.out("j.xml")});
  CHECK(again.code == code);
  CHECK(again.out.empty());
  CHECK(x.dir.shown(again.err).starts_with("qfid: DIR/o: finished already, nothing to do (--restart begins anew)\n"));
  CHECK(read_file(x.out("j.xml")).find("<testsuite") != std::string::npos);
  CHECK(x.files("o") == files);
  fs::remove(fs::path(out) / "results.json");
  const Outcome lost = qfid_here({"run", config, "--out", out, "--quiet"});
  CHECK(lost.code == code);
  CHECK(x.dir.shown(lost.err).starts_with(
      "qfid: DIR/o/results.json: isn't what the finished run wrote there: beginning anew\n"));
  CHECK(names(x.files("o")) == names(files));
  CHECK(qfid_here({"run", config, "--out", out, "--quiet", "--restart"}).code == code);
}

TEST_CASE("what differs is named, and nothing is touched") {
  const TinyExperiment x;
  REQUIRE(x.run("o").code == 0);
  const std::string finished = read_file(journal(x, "o"));
  const auto refused = [&](const std::vector<std::string>& more) {
    const Outcome outcome = x.run("o", more);
    CHECK(outcome.code == 2);
    CHECK(read_file(journal(x, "o")) == finished);
    return x.dir.shown(outcome.err);
  };
  const std::string end = "; --restart begins anew and replaces it, --out DIR goes elsewhere\n";
  CHECK(refused({"--set", "data.windows=4"}) ==
        "qfid: DIR/o holds a finished run of something else: --set (was none, is data.windows=4)" + end);
  CHECK(refused({"--target", "int8"}) ==
        "qfid: DIR/o holds a finished run of something else: targets (was int8 fp8, is int8)" + end);
  CHECK(refused({"--shard", "1/2"}) == "qfid: DIR/o holds a finished run of something else: shard (was none, is 1/2)" + end);
  const std::string text = read_file(x.config_path);
  x.dir.write("x.yaml", replaced(text, "local_windows: 3", "local_windows: 2"));
  CHECK(
      refused({}).find("holds a finished run of something else: configuration (line 9 was \"metrics: {local_windows: 3, ") !=
      std::string::npos);
  x.dir.write("x.yaml", text);
  const std::string tokens = read_file(x.dir.path() / "tokens.npy");
  std::string other = tokens;
  other.back() = static_cast<char>(other[other.size() - 1] ^ 1);
  other[other.size() - 2] = static_cast<char>(other[other.size() - 2] ^ 1);
  other.back() = tokens.back();
  x.dir.write("tokens.npy", other);
  CHECK(refused({}).find("something else: tokens (was ") != std::string::npos);
  x.dir.write("tokens.npy", tokens);
  std::string model = read_file(x.dir.path() / "n" / "model.safetensors");
  x.dir.write("n/model.safetensors", model.replace(model.size() - 4, 4, std::string("\0\0\x80\x3f", 4)));
  CHECK(refused({}).find("something else: model n (was ") != std::string::npos);
  // An unfinished one is as safe.
  const TinyExperiment y;
  x.dir.write("p/run.journal", full_journal(y, "q"));
  const Outcome outcome = x.run("p");
  CHECK(outcome.code == 2);
  CHECK(outcome.err.find("holds an unfinished run of something else: configuration file (was ") != std::string::npos);
  CHECK(x.run("p", {"--restart"}).code == 0);
}

TEST_CASE("two processes on one directory: the second is told") {
  const TinyExperiment x;
  fs::create_directories(x.dir.path() / "o");
  const qfid::eval::JournalFile other(journal(x, "o"), qfid::eval::JournalFile::Access::append);
  const Outcome outcome = x.run("o");
  CHECK(outcome.code == 2);
  CHECK(
      x.dir.shown(outcome.err) ==
      "qfid: DIR/o: another process is at work there (it has run.journal locked): wait for it, or use another directory\n");
}

TEST_CASE("interrupted, terminated: the chunk is finished, what is known is written, and the run goes on later") {
  const TinyExperiment x(4000);
  for (const int signal : {SIGINT, SIGTERM}) {
    CAPTURE(signal);
    ProcessOptions options;
    options.while_running = [&](pid_t child) {
      std::error_code error;
      for (int tries = 0; tries < 3000 && !(fs::file_size(journal(x, "o"), error) > 300'000 && !error); ++tries)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      kill(child, signal);
    };
    fs::remove_all(x.out("o"));
    const Outcome outcome = qfid_process(x.run_arguments("o"), options);
    CHECK(outcome.code == 128 + signal);
    const nlohmann::json all = nlohmann::json::parse(read_file(x.dir.path() / "o" / "results.json"));
    CHECK(all["interrupted"] == true);
    CHECK(all["runs"][0]["windows"]["nll"].size() > 0);
  }
  CHECK(qfid_process(x.run_arguments("o")).code == 0);
  REQUIRE(qfid_process(x.run_arguments("straight")).code == 0);
  CHECK(x.files("o") == x.files("straight"));
}

TEST_CASE("a damaged journal is an error by name; --restart goes around it") {
  const TinyExperiment x;
  std::string bytes = full_journal(x, "cut");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  x.dir.write("o/run.journal", bytes);
  const Outcome outcome = x.run("o");
  CHECK(outcome.code == 3);
  CHECK(x.dir.shown(outcome.err).starts_with("qfid: DIR/o/run.journal: byte "));
  CHECK(outcome.err.find("the file is damaged, and what follows isn't used (qfid run --restart begins anew)") !=
        std::string::npos);
  CHECK(x.files("o").empty());
  CHECK(x.run("o", {"--restart"}).code == 0);
  CHECK(names(x.files("o")) == written);
}

TEST_CASE("failed targets, exact gates and dumps") {
  const TinyExperiment x(12, "gates: {same: {exact: taps, targets: int8, relative_to: {file: saved.json}}}\n");
  const std::string config = replaced(read_file(x.config_path), "  fp8: {backend: reference, preset: fp8-e4m3}",
                                      "  narrow: {backend: reference, linear: {weights: e4m3, activations: "
                                      "e4m3/tensor/fixed(0.001)/static/nosat}}");
  x.dir.write("x.yaml", config);
  const Outcome whole = x.run("whole");
  CHECK(whole.code == 5);
  const std::string bytes = full_journal(x, "cut");
  for (const std::size_t part : {3, 5, 8}) {
    unfinished(x, bytes, bytes.size() * part / 9, "part");
    CHECK(x.run("part").code == 5);
    CHECK(x.files("part") == x.files("whole"));
  }
  CHECK(nlohmann::json::parse(x.files("whole")["results.json"])["runs"][1].contains("hashes"));
  // A dump can't be taken up again: a run of its own each time, and never instead of an unfinished one.
  unfinished(x, bytes, bytes.size() / 2, "part");
  const Outcome refused = x.run("part", {"--dump", x.out("dump")});
  CHECK(refused.code == 2);
  CHECK(x.dir.shown(refused.err)
            .ends_with(
                "qfid: DIR/part holds an unfinished run: with --dump it can't go on; --restart begins anew and replaces "
                "it, --out DIR goes elsewhere\n"));
  for (int i = 0; i < 2; ++i) CHECK(x.run("whole", {"--dump", x.out("dump")}).code == 5);
}
