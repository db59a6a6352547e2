// Commands, options, help, completion: what is said where, and the exit code.
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "kernels/registry/registry.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"

using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

/// One tiny model, two targets on the reference backend.
struct Experiment {
  explicit Experiment(
      const std::string& targets = "  alpha: {backend: reference}\n  beta: {backend: reference, preset: int8-per-token}\n") {
    write_model(dir, "m");
    std::vector<std::uint16_t> tokens;
    for (int i = 0; i < 64; ++i) tokens.push_back(static_cast<std::uint16_t>((i * i + 3) % 16));
    dir.write("tokens.npy", npy_tokens(tokens));
    config = dir.write("x.yaml",
                       "version: 1\nname: t\nmodels: {m: {path: m}}\ndata: {tokens: tokens.npy}\n"
                       "baseline: {backend: reference}\ntargets:\n" +
                           targets)
                 .string();
  }
  std::string said(const std::vector<std::string>& arguments) const {
    const Outcome outcome = qfid_here(arguments);
    return std::to_string(outcome.code) + "|" + dir.shown(outcome.out) + "|" + dir.shown(outcome.err);
  }
  TemporaryDirectory dir;
  std::string config;
};

}  // namespace

TEST_CASE("help says what there is, on stdout, with exit code 0") {
  const Outcome help = qfid_here({"--help"});
  CHECK(help.code == 0);
  CHECK(help.err.empty());
  for (const char* text : {"run", "plan", "validate", "report", "inspect", "tokenize", "backends", "schema", "completion",
                           "Exit codes: 0 pass", "130 interrupted", "qfid run configs/quickstart.yaml"})
    CHECK(help.out.find(text) != std::string::npos);
  for (const char* command :
       {"run", "plan", "validate", "report", "inspect", "tokenize", "backends", "schema", "completion"}) {
    CAPTURE(command);
    const Outcome one = qfid_here({command, "--help"});
    CHECK(one.code == 0);
    CHECK(one.err.empty());
    CHECK(one.out.find("--help") != std::string::npos);
  }
  for (const char* option : {"--set", "--model", "--target", "--out", "--quiet", "CONFIG"})
    CHECK(qfid_here({"run", "--help"}).out.find(option) != std::string::npos);
  CHECK(qfid_here({"--version"}).out.starts_with("qfid "));
}

TEST_CASE("--windows and --set go together, in any order", "[cli]") {
  const Experiment x;
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--windows", "1", "--set", "name=a", "--set", "run.threads=1"},
        {"--set", "name=a", "--windows", "1", "--set", "run.threads=1"},
        {"--set", "name=a", "--set", "run.threads=1", "--windows", "1"}}) {
    std::vector<std::string> arguments{"plan", x.config};
    arguments.insert(arguments.end(), words.begin(), words.end());
    const std::string plan = qfid_here(arguments).out;
    for (const char* set : {"--set data.windows=1", "--set name=a", "--set run.threads=1"})
      CHECK(plan.find(set) != std::string::npos);
  }
}

TEST_CASE("usage errors: exit code 2, on stderr, with the nearest word") {
  const Experiment x;
  const std::string commands =
      "expected one of run, merge, plan, validate, check, baseline, report, recommend, compare, attention, inspect, cache, "
      "tokenize, "
      "backends, metrics, schema, completion";
  CHECK(x.said({"rum"}) == "2||qfid: unknown command \"rum\", " + commands + ", did you mean \"run\"?\n");
  CHECK(x.said({"quantize"}) == "2||qfid: unknown command \"quantize\", " + commands + "\n");
  CHECK(x.said({"\x1b[31mrun"}).starts_with("2||qfid: unknown command \"\\x1b[31mrun\""));
  CHECK(x.said({}).starts_with("2||A subcommand is required"));
  CHECK(x.said({"run"}).starts_with("2||CONFIG is required"));
  CHECK(x.said({"inspect"}).starts_with("2||MODEL is required"));
  CHECK(x.said({"run", x.config, "--ouT", "x"}).starts_with("2||The following arguments were not expected"));
  CHECK(x.said({"validate", x.config, "another.yaml"}).starts_with("2||The following argument was not expected"));
  CHECK(x.said({"validate", x.config, "--model", "n"}) ==
        "2||qfid: no model \"n\" in the configuration, did you mean \"m\"?\n");
  CHECK(x.said({"validate", x.config, "--target", "alhpa"}) ==
        "2||qfid: no target \"alhpa\" in the configuration, did you mean \"alpha\"?\n");
  CHECK(x.said({"completion", "bahs"}) ==
        "2||qfid: unknown shell \"bahs\", expected bash, zsh or fish, did you mean \"bash\"?\n");
  CHECK(x.said({"validate", x.config, "--set", "data.windws=3"}) ==
        "2||qfid: --set data.windws=3: unknown key \"windws\" in data, expected one of tokens, targets, bigram_backcopy, "
        "text, tokenizer, "
        "documents, detokenize, protocol, windows, first_token, context, batch_windows, calibration, did you mean "
        "\"windows\"?\n");
  CHECK(x.said({"validate", (x.dir.path() / "none.yaml").string()}) ==
        "2||qfid: DIR/none.yaml: no such configuration file\n");
  CHECK(x.said({"validate", x.dir.path().string()}) == "2||qfid: DIR: expected a regular file, found a directory\n");
}

TEST_CASE("validate: options before or after the configuration, one value each") {
  const Experiment x;
  const std::string valid = "0|DIR/x.yaml: valid, 1 models x 2 targets\n|";
  CHECK(x.said({"validate", x.config}) == valid);
  CHECK(x.said({"validate", "--set", "data.windows=2", x.config}) == valid);
  CHECK(x.said({"validate", x.config, "--set", "data.windows=2", "--set", "name=u"}) == valid);
  // With options behind it too: what is left on the line must not make --set greedy.
  CHECK(x.said({"validate", "--set", "data.windows=2", x.config, "--target", "alpha", "--target", "beta"}) == valid);
  CHECK(x.said({"validate", "--target", "alpha", x.config}) == "0|DIR/x.yaml: valid, 1 models x 1 targets\n|");
  CHECK(x.said({"validate", "--target", "alpha", "--target", "beta", x.config}) == valid);
}

TEST_CASE("an unavailable backend: exit code 4 naming every target before anything runs, or skipped on request") {
  if (qfid::kernels::make_backend("gpu")->available().ok) SKIP("there is a GPU here");
  const std::string why = qfid::kernels::make_backend("gpu")->available().reason;
  const Experiment fails("  a: {backend: reference}\n  b: {backend: gpu}\n  c: {backend: gpu, preset: bf16}\n");
  const std::string out = (fails.dir.path() / "out").string(),
                    line = ", model m: backend gpu is not available: " + why + " (when_unavailable: skip leaves it out)\n";
  CHECK(fails.said({"run", fails.config, "--out", out}) == "4||qfid: target b" + line + "target c" + line);
  CHECK_FALSE(fs::exists(fs::path(out) / "results.json"));
  const Outcome plan = qfid_here({"plan", fails.config});
  CHECK(plan.code == 4);
  CHECK(plan.out.find("m / b on gpu: can't run: backend gpu is not available: " + why) != std::string::npos);
  CHECK(fails.said({"run", fails.config, "--set", "baseline.backend=gpu", "--target", "a"}) ==
        "4||qfid: baseline, model m: backend gpu is not available: " + why + "\n");

  const Experiment skips("  a: {backend: reference}\n  b: {backend: gpu, when_unavailable: skip}\n");
  const Outcome skipped_plan = qfid_here({"plan", skips.config});
  CHECK(skipped_plan.code == 0);
  CHECK(skipped_plan.out.find("m / b on gpu: skipped: backend gpu is not available: " + why) != std::string::npos);
  const Outcome run = qfid_here({"run", skips.config, "--out", (skips.dir.path() / "out").string()});
  CHECK(run.code == 0);
  CHECK(run.out.find("skipped: backend gpu is not available") != std::string::npos);
  const auto json = nlohmann::json::parse(read_file(skips.dir.path() / "out" / "results.json"));
  CHECK(json["runs"][1]["status"] == "ok");
  CHECK(json["runs"][2]["status"] == "skipped");
  CHECK(json["runs"][2]["message"] == "backend gpu is not available: " + why);
}

TEST_CASE("plan: one line a run, with a command that the shell reads back") {
  const Experiment x;
  const fs::path odd = x.dir.path() / "it's my.yaml";
  fs::copy_file(x.config, odd);
  const Outcome plan = qfid_here({"plan", odd.string(), "--set", "name='a b'"});
  CHECK(plan.code == 0);
  CHECK(plan.err.empty());
  CHECK(x.dir.shown(plan.out).find(
            "  qfid run 'DIR/it'\\''s my.yaml' --model m --target beta --set 'name='\\''a b'\\'''\n") != std::string::npos);
  CHECK(qfid_here({"plan", x.config}).out.find("qfid run " + x.config + " --model m --target alpha\n") != std::string::npos);
}

TEST_CASE("inspect: every tensor and its role; control characters in names are shown, not sent") {
  const TemporaryDirectory dir;
  RawTensors tensors = tiny_tensors();
  tensors["evil\x1b[2J\n"] = {"I64", {}, std::string(8, 0)};
  write_model(dir, "m", tiny_config(), tensors);
  const Outcome outcome = qfid_here({"inspect", (dir.path() / "m").string()});
  CHECK(outcome.code == 0);
  CHECK(outcome.err.empty());
  CHECK(outcome.out.find(
            "opt (softmax), 1 layers, hidden 8, 2 heads of 4, ffn 16, vocabulary 16, 8 positions, 825 parameters") !=
        std::string::npos);
  CHECK(outcome.out.find("layers.0.q_proj.weight\n") != std::string::npos);
  CHECK(outcome.out.find("UNUSED\n") != std::string::npos);
  CHECK(outcome.out.find('\x1b') == std::string::npos);
  CHECK(outcome.out.find("evil\\x1b[2J") != std::string::npos);
}

TEST_CASE("backends and schema") {
  const Outcome backends = qfid_here({"backends"});
  CHECK(backends.code == 0);
  for (const char* name : {"reference", "cpu", "gpu"}) CHECK(backends.out.find(name) != std::string::npos);
  const Outcome schema = qfid_here({"schema"});
  CHECK(schema.code == 0);
  CHECK(nlohmann::json::parse(schema.out)["title"] == "qfid experiment");
}

TEST_CASE("completion scripts are what their shells accept, and offer every command") {
  const TemporaryDirectory dir;
  for (const char* shell : {"bash", "zsh", "fish"}) {
    CAPTURE(shell);
    const Outcome script = qfid_here({"completion", shell});
    CHECK(script.code == 0);
    CHECK(script.err.empty());
    for (const char* command :
         {"run", "plan", "validate", "report", "inspect", "tokenize", "backends", "schema", "completion"})
      CHECK(script.out.find(command) != std::string::npos);
    const std::string file = dir.write(std::string("completion.") + shell, script.out).string();
    const Outcome syntax = process(shell, {"-n", file});
    if (syntax.code == 127) {
      WARN(shell << " isn't installed: its syntax check is left out");
      continue;
    }
    CHECK(syntax.code == 0);
    CHECK(syntax.err.empty());
  }
  const std::string file = (dir.path() / "completion.bash").string();
  const Outcome words =
      process("bash", {"-c", ". " + file + "; COMP_WORDS=(qfid va); COMP_CWORD=1; _qfid; echo \"${COMPREPLY[@]}\""});
  CHECK(words.out == "validate\n");
  const Outcome options = process(
      "bash", {"-c", ". " + file + "; COMP_WORDS=(qfid report --op); COMP_CWORD=2; _qfid; echo \"${COMPREPLY[@]}\""});
  CHECK(options.out == "--openmetrics\n");
}
