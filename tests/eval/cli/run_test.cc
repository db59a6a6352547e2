// Whole runs of the program on a tiny model: same bytes twice, what goes where, and what survives when something fails.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"

using namespace qfid::tests;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

struct Experiment {
  explicit Experiment(int tokens = 128, const RawTensors& tensors = tiny_tensors()) {
    write_model(dir, "m", tiny_config(), tensors);
    std::vector<std::uint16_t> ids;
    for (int i = 0; i < tokens; ++i) ids.push_back(static_cast<std::uint16_t>((i % 16) * (i % 16 + 3) % 16));
    dir.write("tokens.npy", npy_tokens(ids));
  }
  /// A configuration of these targets ("  name: {...}\n" lines).
  std::string config(const std::string& targets, const std::string& more = "",
                     const std::string& models = "m: {path: m}") const {
    return dir
        .write("x.yaml", "version: 1\nname: t\nmodels: {" + models +
                             "}\ndata: {tokens: tokens.npy}\nbaseline: {backend: "
                             "reference}\ntargets:\n" +
                             targets + more)
        .string();
  }
  std::string out(const std::string& name) const { return (dir.path() / name).string(); }
  json results(const std::string& name) const { return json::parse(read_file(dir.path() / name / "results.json")); }
  TemporaryDirectory dir;
};

const char* const two_targets =
    "  int8: {backend: reference, preset: int8-per-token}\n  fp8: {backend: reference, preset: fp8-e4m3}\n";
std::size_t files_in(const fs::path& dir) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(dir), fs::directory_iterator()));
}
std::string without_timings(const std::string& text) {
  json all = json::parse(text);
  all.erase("timings");
  return all.dump();
}

}  // namespace

TEST_CASE("protocols: what is scored, the name in the record, and no comparison across them") {
  const Experiment x(128);
  const std::string config = x.config("  int8: {backend: reference, preset: int8-per-token}\n");
  struct Case {
    const char *protocol, *name;
    std::int64_t tokens, windows;
  };
  for (const auto& [protocol, name, tokens, windows] : std::vector<Case>{
           {"window", "window", 8, 16},
           {"gptq", "gptq", 7, 16},
           {"llamacpp, context: 8", "llamacpp", 3, 16},
           {"outlier_free, batch_windows: 3", "outlier_free/batch=3", 7, 15},
       }) {
    CAPTURE(protocol);
    const Outcome outcome = qfid_here({"run", config, "--quiet", "--out", x.out(std::string(protocol).substr(0, 6)), "--set",
                                       std::string("data={tokens: tokens.npy, protocol: ") + protocol + "}"});
    CHECK(outcome.code == 0);
    CHECK(outcome.err == "");
    const json all = x.results(std::string(protocol).substr(0, 6));
    CHECK(all["provenance"]["protocol"] == name);
    CHECK(all["provenance"]["windows"] == windows);
    CHECK(all["models"][0]["vocabulary"] == 16);
    const json counts = all["runs"][1]["windows"]["tokens"];
    CHECK(counts.size() == static_cast<std::size_t>(windows));
    for (const json& count : counts) CHECK(count == tokens);
    double nll = 0;
    for (const json& sum : all["runs"][1]["windows"]["nll"]) nll += sum.get<double>();
    CHECK(std::fabs(std::exp(nll / static_cast<double>(tokens * windows)) /
                        all["runs"][1]["metrics"]["perplexity"]["value"].get<double>() -
                    1) < 1e-12);
  }
  const Outcome across = qfid_here({"compare", x.out("window"), x.out("gptq")});
  CHECK(across.code == 2);
  CHECK(x.dir.shown(across.err) == "qfid: DIR/window and DIR/gptq aren't comparable: the protocol differs (window, gptq)\n");
  CHECK(qfid_here({"baseline", "save", x.out("window"), "-o", x.out("saved.json")}).code == 0);
  const Outcome check =
      qfid_here({"check", x.out("gptq"), "--baseline", x.out("saved.json"), "--gates",
                 x.dir.write("g.yaml", "gates: {g: {metric: kl.mean, max: 1, relative_to: {file: b.json}}}")});
  CHECK(check.code == 2);
  CHECK(x.dir.shown(check.err) ==
        "qfid: this result and DIR/saved.json aren't comparable: the protocol differs (gptq, window)\n");
  const Outcome update = qfid_here({"baseline", "update", x.out("gptq"), x.out("saved.json")});
  CHECK(update.code == 2);
  CHECK(update.err.find("the protocol differs (gptq, window)") != std::string::npos);
  const Outcome pilot = qfid_here({"plan", config, "--pilot", x.out("gptq")});
  CHECK(pilot.code == 2);
  CHECK(pilot.err.find("the protocol differs (gptq, planned window)") != std::string::npos);
}

TEST_CASE("the same inputs give the same bytes, timings apart; nothing temporary is left") {
  const Experiment x;
  const std::string config = x.config(two_targets);
  for (const char* out : {"a", "b"}) {
    const Outcome outcome = qfid_here({"run", config, "--out", x.out(out)});
    CHECK(outcome.code == 0);
    CHECK(x.dir.shown(outcome.err) ==
          replaced("wrote DIR/@/report.md\nwrote DIR/@/report.html\nwrote DIR/@/layers.csv\nwrote DIR/@/tokens.npy\n"
                   "wrote DIR/@/results.json\n",
                   "@", out));
    CHECK(files_in(x.out(out)) == 6);
    std::istringstream lines(outcome.out);
    for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 80);
  }
  for (const char* file : {"report.md", "layers.csv", "tokens.npy"}) {
    CAPTURE(file);
    const std::string a = read_file(x.dir.path() / "a" / file);
    CHECK(a.size() > 100);
    CHECK(a == read_file(x.dir.path() / "b" / file));
  }
  const std::string a = read_file(x.dir.path() / "a" / "results.json"), b = read_file(x.dir.path() / "b" / "results.json");
  CHECK(without_timings(a) == without_timings(b));
  // Not only equal values: every byte before the timings, which come last.
  CHECK(a.substr(0, a.find("\"timings\"")) == b.substr(0, b.find("\"timings\"")));
  CHECK(a.find("\"timings\"") != std::string::npos);
}

TEST_CASE("stdout is data, stderr is talk; --quiet is quiet") {
  const Experiment x;
  const std::string config = x.config(two_targets);
  const Outcome loud = qfid_process({"run", config, "--out", x.out("o")}),
                quiet = qfid_process({"run", config, "--out", x.out("o"), "--quiet"});
  CHECK(loud.code == 0);
  CHECK(loud.out.find("perplexity") != std::string::npos);
  CHECK(loud.out.find("wrote") == std::string::npos);
  CHECK(loud.err.starts_with("wrote "));
  CHECK(quiet.code == 0);
  CHECK(quiet.out.empty());
  CHECK(quiet.err.empty());
}

TEST_CASE("a target that fails alone doesn't lose the others") {
  // Values above the fixed range become NaN where FP8 doesn't saturate.
  const Experiment x;
  const std::string config = x.config(
      "  before: {backend: reference}\n  narrow: {backend: reference, linear: {weights: e4m3, activations: "
      "e4m3/tensor/fixed(0.001)/static/nosat}}\n  after: {backend: reference}\n");
  const Outcome outcome = qfid_here({"run", config, "--out", x.out("o")});
  CHECK(outcome.code == 5);
  CAPTURE(outcome.err);
  CHECK(outcome.err.starts_with(
      "qfid: m / narrow failed: non-finite logits: window 0, position 0: NLL nan, KL nan; the first ones "
      "are in attn_out of layer 0: 64 of 64 values\n"));
  const json all = x.results("o");
  for (const json& run : all["runs"]) {
    CAPTURE(run["target"]);
    const bool failed = run["target"] == "narrow";
    CHECK(run["status"] == (failed ? "failed" : "ok"));
    CHECK(run["metrics"].empty() == failed);
    CHECK(run["windows"]["nll"].size() == (failed ? 0 : 16));
  }
  CHECK(all["pairs"].size() == 1);
}

TEST_CASE("a model that fails doesn't lose the others") {
  RawTensors broken = tiny_tensors();
  std::vector<float> table(16 * 8, std::numeric_limits<float>::quiet_NaN());
  broken["model.decoder.embed_tokens.weight"].data = little_endian(table);
  const Experiment x;
  write_model(x.dir, "broken", tiny_config(), broken);
  const std::string config = x.config(two_targets, "", "bad: {path: broken}, good: {path: m}");
  const Outcome outcome = qfid_here({"run", config, "--out", x.out("o")});
  CHECK(outcome.code == 5);
  CHECK(outcome.err.find("qfid: bad / baseline failed: ") != std::string::npos);
  const json all = x.results("o");
  REQUIRE(all["runs"].size() == 6);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(all["runs"][i]["status"] == "failed");
    CHECK(all["runs"][i + 3]["status"] == "ok");
    CHECK(all["runs"][i + 3]["metrics"]["perplexity"]["value"].is_number());
  }
  CHECK(outcome.out.find("failed: ") != std::string::npos);
}

TEST_CASE("an interrupt finishes the chunk, writes what is known and exits 130 or 143") {
  const Experiment x(8 * 60000);
  const std::string config = x.config(two_targets, "run: {chunk_windows: 1, threads: 1}\n");
  for (const int signal : {SIGINT, SIGTERM}) {
    CAPTURE(signal);
    ProcessOptions options;
    options.while_running = [&](pid_t child) {
      // The output directory is made just before signals are listened to; two seconds later some of the 60,000 chunks of
      // microseconds are through, and far from all.
      for (int tries = 0; tries < 6000 && !fs::exists(x.out("o")); ++tries)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      std::this_thread::sleep_for(std::chrono::milliseconds(2000));
      kill(child, signal);
    };
    const Outcome outcome = qfid_process({"run", config, "--out", x.out("o")}, options);
    CHECK(outcome.code == 128 + signal);
    const json all = x.results("o");
    CHECK(all["interrupted"] == true);
    const std::size_t windows = all["runs"][0]["windows"]["nll"].size();
    CHECK(windows > 0);
    CHECK(windows < 60000);
    for (const json& run : all["runs"]) {
      CHECK(run["status"] == "interrupted");
      CHECK(run["windows"]["nll"].size() == windows);
    }
    CHECK(files_in(x.out("o")) == 6);
    CHECK(outcome.out.find("INTERRUPTED") != std::string::npos);
    CHECK(read_file(x.dir.path() / "o" / "report.md").find("**Interrupted**") != std::string::npos);
    fs::remove_all(x.out("o"));
  }
}

TEST_CASE("streams closed by the caller are held by nothing of ours") {
  const Experiment x(8 * 60000);
  const std::string config = x.config(two_targets, "run: {chunk_windows: 1, threads: 1}\n");
  ProcessOptions options;
  options.before_exec = [] {
    for (int stream = 0; stream <= 2; ++stream) close(stream);
  };
  std::string held[3];
  options.while_running = [&](pid_t child) {
    for (int tries = 0; tries < 6000 && !fs::exists(x.out("o")); ++tries)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    std::error_code error;
    for (int stream = 0; stream <= 2; ++stream)
      held[stream] = fs::read_symlink("/proc/" + std::to_string(child) + "/fd/" + std::to_string(stream), error).string();
    kill(child, SIGINT);
  };
  CHECK(qfid_process({"run", config, "--out", x.out("o")}, options).code == 130);
  for (const std::string& path : held) CHECK(path == "/dev/null");
}

TEST_CASE("long names: the table keeps to 80 columns") {
  const Experiment x;
  const std::string name(64, 'n');
  const Outcome outcome = qfid_here(
      {"run",
       x.config(
           "  " + name + ": {backend: reference, preset: int8-per-tensor}\n  b: {backend: reference, preset: fp8-e5m2}\n",
           "", std::string(64, 'm') + ": {path: m}"),
       "--out", x.out("o"), "--set", "name=" + std::string(100, 'x')});
  CHECK(outcome.code == 0);
  std::istringstream lines(outcome.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    CAPTURE(line);
    CHECK(line.size() <= 80);
  }
  CHECK(count > 5);
  CHECK(outcome.out.find("nnnn~") != std::string::npos);
}

TEST_CASE("a dump writes logits and taps that NumPy reads, within a limit known before anything runs") {
  const Experiment x;
  const std::string config = x.config(two_targets), dump = x.out("dump");
  Outcome outcome = qfid_here({"run", config, "--quiet", "--out", x.out("a"), "--dump", dump, "--dump-limit", "0.00001"});
  CHECK(outcome.code == 2);
  CHECK(outcome.err.find("more than --dump-limit 1e-05: fewer windows") != std::string::npos);
  CHECK_FALSE(fs::exists(dump));
  outcome = qfid_here({"run", config, "--quiet", "--out", x.out("a"), "--dump", dump});
  REQUIRE(outcome.code == 0);
  const std::string logits = read_file(fs::path(dump) / "m" / "int8" / "logits.npy");
  CHECK(logits.starts_with("\x93NUMPY"));
  const json windows = x.results("a")["runs"][0]["windows"]["tokens"];
  const auto n = windows.size(), tokens = windows[0].get<std::size_t>();
  CHECK(logits.find("'<f4'") != std::string::npos);
  CHECK(logits.find("(" + std::to_string(n) + "," + std::to_string(tokens) + ",16,)") != std::string::npos);
  CHECK(logits.size() == 128 + n * tokens * 16 * 4);
  for (const char* name : {"layer0.q", "layer0.local.output", "layer0.emulated.ffn_out", "layer0.p_codes", "layer0.probs"})
    CHECK(fs::exists(fs::path(dump) / "m" / "fp8" / (std::string(name) + ".npy")));
  CHECK(fs::exists(fs::path(dump) / "m" / "baseline" / "scored.npy"));
  // A second dump replaces the first.
  REQUIRE(qfid_here({"run", config, "--quiet", "--out", x.out("a"), "--dump", dump}).code == 0);
  CHECK(read_file(fs::path(dump) / "m" / "int8" / "logits.npy") == logits);
}
