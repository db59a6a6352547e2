// Gates through the program: exact ones from run to saved baseline to check, and mistakes that come to light after a run,
// whose results are there all the same.
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/checkpoint_files.h"
#include "tests/support/command_line.h"

using namespace qfid::tests;
using nlohmann::json;

namespace {

struct GatedExperiment {
  GatedExperiment() {
    write_model(dir, "m", tiny_config(), tiny_tensors());
    std::vector<std::uint16_t> ids;
    for (int i = 0; i < 256; ++i) ids.push_back(static_cast<std::uint16_t>((i % 16) * (i % 16 + 3) % 16));
    dir.write("tokens.npy", npy_tokens(ids));
  }
  std::string config(const std::string& gates, const std::string& metrics = "") const {
    return dir
        .write("x.yaml",
               "version: 1\nname: t\nmodels: {m: {path: m}}\ndata: {tokens: tokens.npy}\nbaseline: {backend: reference}\n"
               "metrics: {kernel_windows: 0, sink_windows: 0, local_windows: 4" +
                   metrics + "}\ntargets:\n  int8: {backend: reference, preset: int8-per-token}\ngates:\n" + gates)
        .string();
  }
  Outcome run(const std::string& config, const std::string& name, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"run", config, "--quiet", "--out", out(name)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return qfid_here(arguments);
  }
  json results(const std::string& name) const { return json::parse(read_file(dir.path() / name / "results.json")); }
  std::string out(const std::string& name) const { return (dir.path() / name).string(); }
  TemporaryDirectory dir;
};

bool contains(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

/// The console's lines as one.
std::string unwrapped(std::string text) {
  for (std::size_t at = 0; (at = text.find("\n    ", at)) != std::string::npos;) text.replace(at, 5, " ");
  return text;
}

}  // namespace

TEST_CASE("an exact gate: saved, passed, refused for another machine's hashes, failed by another precision") {
  const GatedExperiment x;
  const std::string config = x.config("  same: {exact: taps, relative_to: {file: b.json}}\n");
  const Outcome first = x.run(config, "first");
  CHECK(first.code == 1);  // nothing to compare with yet
  CHECK(contains(first.err, "isn't there yet: qfid baseline save"));
  CHECK(x.results("first")["runs"][1]["hashes"]["windows"] == 4);
  CHECK_FALSE(x.results("first")["runs"][0].contains("hashes"));
  REQUIRE(qfid_here({"baseline", "save", x.out("first"), "-o", x.out("b.json")}).code == 0);
  CHECK(contains(qfid_here({"baseline", "show", x.out("b.json")}).out, "hashes of "));
  CHECK(x.run(config, "second").code == 0);
  CHECK(qfid_here({"check", x.out("second")}).code == 0);
  const Outcome same = qfid_here({"baseline", "update", x.out("second"), x.out("b.json")});
  CHECK(same.out == "m / int8: unchanged\n");
  CHECK(x.run(config, "other", {"--set", "targets.int8.attention.p=int8"}).code == 1);
  CHECK(contains(unwrapped(qfid_here({"check", x.out("other")}).out), "not comparable: the precision differs ("));
  // One digit of one saved hash: that tensor is what changed.
  std::string saved = read_file(x.dir.path() / "b.json");
  const std::size_t at = saved.find("\"layer0.attn_out\": \"") + 20;
  saved[at] = saved[at] == '0' ? '1' : '0';
  x.dir.write("b.json", saved);
  const Outcome changed = qfid_here({"check", x.out("second")});
  CHECK(changed.code == 1);
  CHECK(contains(unwrapped(changed.out), "layer 0, attn_out is the first"));
}

TEST_CASE("a mistake in a gate that only a run brings to light: exit code 2, and the results are there") {
  const GatedExperiment x;
  const Outcome low = x.run(x.config("  kl: {metric: kl.mean, max: 0.0}\n", ", noise_windows: 4"), "low");
  CHECK(low.code == 2);
  CHECK(contains(low.err, "qfid: gate \"kl\": max 0 of kl.mean lies within the noise floor of model m: "));
  CHECK(x.results("low")["noise"].size() == 2);
  CHECK(x.results("low")["gates"][0]["noise_floor"].get<double>() > 0);
  CHECK(qfid_here({"check", x.out("low")}).code == 2);
  const std::string relative = x.config("  kl: {metric: kl.mean, max: 1, relative_to: {file: b.json}}\n");
  REQUIRE(x.run(relative, "first").code == 1);
  REQUIRE(qfid_here({"baseline", "save", x.out("first"), "-o", x.out("b.json")}).code == 0);
  const Outcome other = x.run(relative, "gptq", {"--set", "data.protocol=gptq"});
  CHECK(other.code == 2);
  CHECK(contains(other.err, "aren't comparable: the protocol differs (gptq, window)"));
  CHECK(x.results("gptq")["runs"][1]["status"] == "ok");
}

TEST_CASE("interventions by name; an unknown one has its place") {
  const GatedExperiment x;
  const std::string good = x.config("  kl: {metric: kl.mean, max: 100, on_inconclusive: warn}\n",
                                    ", interventions: [mask_key_0, gate_one], intervention_windows: 2");
  REQUIRE(x.run(good, "out").code == 0);
  const json all = x.results("out")["interventions"];
  REQUIRE(all.size() == 4);
  CHECK(all[0]["target"] == "baseline");
  CHECK(all[0]["tokens"].size() == 2);
  CHECK(all[3]["message"] == "the model has no gates");
  const Outcome bad = x.run(x.config("  kl: {metric: kl.mean, max: 1}\n", ", interventions: [mask_key_1]"), "bad");
  CHECK(bad.code == 2);
  CHECK(contains(bad.err,
                 "metrics.interventions[0] is \"mask_key_1\", expected one of mask_key_0, zero_v_0, gate_one, gate_mean, "
                 "did you mean \"mask_key_0\"?"));
}
