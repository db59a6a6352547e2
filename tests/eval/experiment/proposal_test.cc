// What to keep in higher precision, from budgets whose truth is known: the fewest that suffice, as a configuration that
// validates and evaluates windows on which nothing was chosen.
#include "eval/experiment/proposal.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>
#include <sstream>

#include "eval/experiment/spec_reader.h"
#include "eval/experiment/yaml_tree.h"
#include "tests/support/temporary_directory.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int windows = 128, budget_windows = 16;
constexpr std::int64_t context = 256;

RunRecord run_of(const std::string& target, double kl) {
  RunRecord run;
  run.model = "m";
  run.target = target;
  run.seconds = 1;
  for (int w = 0; w < windows; ++w) {
    run.windows.tokens.push_back(100);
    run.windows.nll.push_back(300);
    run.windows.kl.push_back(100 * kl * (1 + 0.01 * (w % 3)));
    run.windows.kl_reverse.push_back(100 * kl);
    run.windows.top1_agree.push_back(95);
  }
  return run;
}

BudgetEntry entry(const std::string& name, double alone) {
  return {name, std::vector<double>(budget_windows, alone), std::vector<double>(budget_windows, 1 - alone), {}, {}};
}

/// k_proj half, p and v a fifth each, fc1 a tenth; layer 2 six tenths, layer 0 three, layer 1 one.
ErrorBudget budget_of(const std::string& target) {
  ErrorBudget budget;
  budget.model = "m";
  budget.target = target;
  budget.tokens.assign(budget_windows, 100);
  budget.whole_kl.assign(budget_windows, 1.0);
  budget.parts.entries = {entry("k_proj", 0.5), entry("p", 0.2), entry("v", 0.2), entry("fc1", 0.1)};
  budget.layers.entries = {entry("layers.0", 0.3), entry("layers.1", 0.1), entry("layers.2", 0.6)};
  compute_shares(budget, 0.95);
  return budget;
}

std::string spec_text(const std::string& more = "", const std::string& data = "") {
  return "version: 1\nname: x\nmodels: {m: {path: models/tiny-softmax}, other: {path: models/tiny-sink}}\n"
         "data: {tokens: data/tiny-tokens.npy, first_token: 512" +
         data +
         "}\ntargets:\n  a:\n    linear: {weights: int8/channel, activations: int8/token}\n"
         "    attention: {q: int8/token, k: int8/token, p: uint8, v: int8/channel}\n" +
         more + "  f: {backend: cpu}\n";
}

ExperimentRecord record_of(const std::string& text) {
  ExperimentRecord record;
  record.spec_file = std::string(QFID_SOURCE_DIR) + "/configs/mine.yaml";
  record.spec_text = text;
  record.provenance.first_token = 512;
  record.models.push_back({"m", "models/tiny-softmax", "opt", "hash", 1, "softmax", {}});
  record.runs = {run_of("baseline", 0), run_of("a", 0.01)};
  record.budgets = {budget_of("a")};
  return record;
}

std::vector<GateSpec> budget(double most) {
  return read_gates("budget", "gates: {b: {metric: kl.mean, max: " + std::to_string(most) + "}}");
}

Proposal proposal_of(const ExperimentRecord& record, double most, const std::filesystem::path& file) {
  const std::vector<GateSpec> gates = budget(most);
  const Recommendation r = recommend(record, gates, Objective::speed).at(0);
  REQUIRE_FALSE(r.choice);
  return propose(record, r, gates, file);
}

std::vector<std::string> names(const Proposal& p) {
  std::vector<std::string> all;
  for (const ProposedTarget& t : p.targets) all.push_back(t.name);
  return all;
}

}  // namespace

TEST_CASE("the fewest layers or parts that leave 0.8 of what the budget allows, and one more", "[proposal]") {
  const TemporaryDirectory dir;
  const std::filesystem::path file = dir.path() / "proposal.yaml";
  const Proposal p = proposal_of(record_of(spec_text()), 0.0061, file);  // 6 of 10 allowed: 0.48 may remain
  CHECK(names(p) == std::vector<std::string>{"a-keep-layers-1", "a-keep-parts-2", "a-keep-layers-2"});
  CHECK(p.targets[0].kept == std::vector<std::string>{"layers.2"});
  CHECK(p.targets[0].remains == Catch::Approx(0.4));
  CHECK(p.targets[0].allowed == Catch::Approx(0.0061 / 0.0101).epsilon(0.01));
  CHECK(p.targets[1].kept == std::vector<std::string>{"k_proj", "p and v"});
  CHECK(p.targets[2].kept == std::vector<std::string>{"layers.2", "layers.0"});

  dir.write("proposal.yaml", p.yaml);
  const Spec spec = read_spec(file);
  CHECK(spec.name == "x-proposal");
  REQUIRE(spec.models.size() == 1);
  CHECK(spec.models[0].path == std::filesystem::path(QFID_SOURCE_DIR) / "configs/models/tiny-softmax");
  REQUIRE(spec.targets.size() == 3);
  CHECK(spec.targets[0].linear_at("layers.2.fc1").weights == quant::parse_scheme("bf16"));
  CHECK(spec.targets[0].attention_at("layers.2.attention").p == kernels::parse_prob_scheme("bf16"));
  CHECK(spec.targets[0].linear_at("layers.1.fc1").weights == quant::parse_scheme("int8/channel"));
  const kernels::AttentionSchemes pv = spec.targets[1].attention_at("layers.5.attention");
  CHECK(pv.v == quant::parse_scheme("bf16"));
  CHECK(pv.k == quant::parse_scheme("int8/token"));
  CHECK(spec.targets[1].linear_at("layers.0.k_proj").activations == quant::parse_scheme("bf16"));
  CHECK(spec.targets[1].linear_at("layers.0.q_proj").activations == quant::parse_scheme("int8/token"));
  REQUIRE(spec.gates.size() == 1);
  CHECK(spec.gates[0].bound == 0.0061);
  CHECK(spec.gates[0].targets == "*-keep-*");
  CHECK(spec.data.first_token == 512 + windows * context);  // after all that the run saw
  CHECK(*spec.data.windows == windows);
}

TEST_CASE("windows beside the calibration's, after the run's, or where the text ends, after the budgets'", "[proposal]") {
  const TemporaryDirectory dir;
  const std::filesystem::path file = dir.path() / "p.yaml";
  const std::int64_t after = 512 + windows * context;
  const auto with = [&](std::int64_t first) {
    return record_of(spec_text("", ", calibration: {first_token: " + std::to_string(first) + ", windows: 4}"));
  };
  const Proposal before = proposal_of(with(after + 40 * context), 0.0061, file);
  CHECK(before.first_token == after);
  CHECK(before.windows == 40);
  const Proposal behind = proposal_of(with(after), 0.0061, file);
  CHECK(behind.first_token == after + 4 * context);
  CHECK(behind.windows == windows);
  ExperimentRecord all = record_of(spec_text());  // a context so long that the run used up the text
  for (RunRecord& run : all.runs)
    for (int n = 0; n < 13; ++n) {
      const WindowSums w = run.windows;
      if (w.tokens.size() > 1500) break;
      run.windows.tokens.insert(run.windows.tokens.end(), w.tokens.begin(), w.tokens.end());
      run.windows.nll.insert(run.windows.nll.end(), w.nll.begin(), w.nll.end());
      run.windows.kl.insert(run.windows.kl.end(), w.kl.begin(), w.kl.end());
      run.windows.kl_reverse.insert(run.windows.kl_reverse.end(), w.kl_reverse.begin(), w.kl_reverse.end());
      run.windows.top1_agree.insert(run.windows.top1_agree.end(), w.top1_agree.begin(), w.top1_agree.end());
    }
  const Proposal late = proposal_of(all, 0.0061, file);
  CHECK(late.first_token == 512 + budget_windows * context);
  CHECK(late.windows > 32);
}

TEST_CASE("what can't be proposed says why", "[proposal]") {
  const TemporaryDirectory dir;
  const std::filesystem::path file = dir.path() / "p.yaml";
  ExperimentRecord record = record_of(spec_text());
  CHECK_THAT(proposal_of(record, 0.0001, file).why_not, ContainsSubstring("nearly everything would stay in bf16"));
  record.budgets.clear();
  CHECK_THAT(proposal_of(record, 0.0061, file).why_not, ContainsSubstring("metrics.budget_windows=16"));
  record.spec_text = "version: 1\n";
  CHECK_THAT(proposal_of(record, 0.0061, file).why_not, ContainsSubstring("don't hold their configuration"));
  CHECK(proposal_of(record, 0.0061, file).yaml.empty());
}

TEST_CASE("a target's own overrides stay, and operands aren't proposed where they would be undone", "[proposal]") {
  const TemporaryDirectory dir;
  const Proposal p = proposal_of(record_of(spec_text("    overrides: [{match: \"layers.0.*\", precision: bf16}]\n")), 0.0061,
                                 dir.path() / "p.yaml");
  for (const ProposedTarget& t : p.targets)
    for (const std::string& word : t.kept) CHECK(word != "p and v");
  const Spec spec = read_spec(dir.write("p.yaml", p.yaml));
  CHECK(spec.targets[0].overrides.size() == 2);
  CHECK(spec.targets[0].overrides[0].match == "layers.0.*");
}

TEST_CASE("what a gate leaves room for, as a share of the KL", "[proposal]") {
  const auto share = [](const char* metric, bool upper, double bound, double effect) {
    GateRecord gate;
    gate.metric = metric;
    gate.upper = upper;
    gate.bound = bound;
    gate.statistics.effect = effect;
    return allowed_share(gate);
  };
  CHECK(share("kl.mean", true, 0.01, 0.04) == Catch::Approx(0.25));
  CHECK(share("kl.mean", true, 0.04, 0.01) == 1);
  CHECK(share("perplexity.ratio", true, 1.01, 1.0201) == Catch::Approx(0.5));
  CHECK(share("top1.flips", true, 0.01, 0.02) == Catch::Approx(0.25));
  CHECK(share("top1.agreement", false, 0.99, 0.98) == Catch::Approx(0.25));
  CHECK(share("nll.difference", true, -1, 0.01) == 0);
  CHECK(share("perplexity.ratio", true, 0.9, 1.1) == 0);
  CHECK(share("perplexity.ratio", true, -1, 1.1) == 0);
}

TEST_CASE("YAML that is written parses to what it was: every built-in configuration, and every awkward string",
          "[proposal]") {
  const auto same = [](const YamlNode& a, const YamlNode& b, const auto& again) -> bool {
    if (a.kind != b.kind || a.text != b.text || a.items.size() != b.items.size() || a.entries.size() != b.entries.size())
      return false;
    for (std::size_t i = 0; i < a.items.size(); ++i)
      if (!again(a.items[i], b.items[i], again)) return false;
    for (std::size_t i = 0; i < a.entries.size(); ++i)
      if (a.entries[i].first.text != b.entries[i].first.text || !again(a.entries[i].second, b.entries[i].second, again))
        return false;
    return true;
  };
  int files = 0;
  for (const auto& file : std::filesystem::directory_iterator(std::string(QFID_SOURCE_DIR) + "/configs")) {
    if (file.path().extension() != ".yaml") continue;
    std::ifstream stream(file.path());
    std::ostringstream text;
    text << stream.rdbuf();
    CAPTURE(file.path());
    const YamlNode tree = parse_yaml(text.str());
    CHECK(same(tree, parse_yaml(write_yaml(tree)), same));
    ++files;
  }
  CHECK(files >= 8);
  for (const char* text : {"a: \"x: y # z\"", "a: '*'", "a: \"- b\"", "a: \"\"", "a: \"q\\\"\\\\\\n\\t\"", "\"k: e\": 1",
                           "a: []", "a: {}", "a:", "[[1, 2], {a: [b, {c: d}]}, [], ~]", "a: \"\\u00e9\"", "a: '&x'",
                           "a: \"true\"", "a: -5", "a: \"---\"", "a: '0x1F'"}) {
    CAPTURE(text);
    const YamlNode tree = parse_yaml(text);
    CAPTURE(write_yaml(tree));
    CHECK(same(tree, parse_yaml(write_yaml(tree)), same));
  }
}
