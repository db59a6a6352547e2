// What to keep in higher precision, from budgets whose truth is known: the fewest that suffice, as a configuration that
// validates; what is refused.
#include "eval/experiment/proposal.h"

#include <array>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>
#include <sstream>

#include "eval/experiment/spec_reader.h"
#include "eval/experiment/yaml_tree.h"
#include "tests/eval/experiment/proposal_records.h"
#include "tests/support/temporary_directory.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;
using Catch::Matchers::ContainsSubstring;

namespace {

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
  CHECK(spec.data.first_token == 512 + windows * context);  // after all that the run evaluated
  CHECK_FALSE(p.measured);
  CHECK_THAT(p.yaml, ContainsSubstring("# 128 windows from token 33280 on, after all that the run evaluated: nothing"));
  CHECK(*spec.data.windows == windows);
}

TEST_CASE("what can't be proposed says why", "[proposal]") {
  const TemporaryDirectory dir;
  const std::filesystem::path file = dir.path() / "p.yaml";
  ExperimentRecord record = record_of(spec_text());
  CHECK_THAT(proposal_of(record, 0.0001, file).why_not, ContainsSubstring("nearly everything would stay in bf16"));
  record.budgets.clear();
  CHECK_THAT(proposal_of(record, 0.0061, file).why_not, ContainsSubstring("metrics.budget_windows=16"));
  record.spec_text = "";
  CHECK_THAT(proposal_of(record, 0.0061, file).why_not, ContainsSubstring("don't hold their configuration"));
  CHECK(proposal_of(record, 0.0061, file).yaml.empty());
  record = record_of(spec_text());
  record.spec_text = replaced(record.spec_text, "{m: ", "{other-name: ");
  CHECK(proposal_of(record, 0.0061, file).why_not == "the results' configuration has no such model");
}

TEST_CASE("a configuration in the results that no run could have had is refused in words", "[proposal]") {
  const TemporaryDirectory dir;
  const auto said = [&](const ExperimentRecord& record) {
    return failure_of([&] { proposal_of(record, 0.0061, dir.path() / "p.yaml"); });
  };
  const auto with = [](const std::string& from, const std::string& to) {
    const std::string text = spec_text("", ", windows: 128, calibration: {first_token: 0, windows: 2}");
    REQUIRE(text.find(from) != std::string::npos);
    return record_of(replaced(text, from, to));
  };
  const std::string where = "the results' configuration:";
  for (const auto& [from, to, what] : std::vector<std::array<std::string, 3>>{
           {"windows: 128", "windows: {}", "4:65: data.windows is a map, expected a whole number, 1..10000000"},
           {"first_token: 512", "first_token: abc", "data.first_token is \"abc\", expected a whole number"},
           {"first_token: 512", "first_token: 99999999999999999999999", "data.first_token is \"9999"},
           {"{first_token: 0, windows: 2}", "{windows: 2}", "missing key \"first_token\" in data.calibration"},
           {"{path: models/tiny-softmax}", "5", "models.m is \"5\", expected a map"},
           {"tokens: data/tiny-tokens.npy, ", "", "data has neither tokens nor text"},
           {"tokens: data/tiny-tokens.npy", "text: mine.yaml", "data.text without data.tokenizer"},
           {"data: {", "data: [{", "not valid YAML"},
           {"name: x", "name: &x x", "anchors are not supported"},
           {"f: {backend: cpu}", "f: {backend: cpu}\n  \"a\\n: b\": {}", "expected 1 to 64 letters"}}) {
    CAPTURE(to);
    const Failure failure = said(with(from, to));
    CHECK(failure.code == 2);
    CHECK_THAT(failure.message, Catch::Matchers::StartsWith(where) && ContainsSubstring(what));
  }
  ExperimentRecord record = record_of(spec_text());
  record.sets = {"data.context=x"};
  CHECK_THAT(said(record).message,
             ContainsSubstring("--set data.context=x: data.context is \"x\", expected a whole number"));
  for (const char* name : {"k_proj\ntargets: {}", "\"]", "", "k proj"}) {
    CAPTURE(name);
    for (const bool layer : {false, true}) {
      record = record_of(spec_text());
      (layer ? record.budgets[0].layers : record.budgets[0].parts).entries[0].name = name;
      CHECK_THAT(said(record).message, ContainsSubstring("error budgets name a part that no model has"));
    }
  }
}

TEST_CASE("long names are cut to 64, equal ones numbered, and no proposal is lost", "[proposal]") {
  const TemporaryDirectory dir;
  const std::string stem(60, 'b'), one = stem + "-one", two = stem + "-two";
  std::string text = replaced(spec_text(), "  a:\n", "  " + one + ":\n");
  const std::size_t begin = text.find("  " + one), end = text.find("  f: ");
  text.insert(end, replaced(text.substr(begin, end - begin), one, two));
  text.insert(text.size(), "  " + std::string(50, 'b') + "-keep-layers-2: {backend: cpu}\n");  // taken already
  ExperimentRecord record = record_of(text);
  record.runs = {run_of("baseline", 0), run_of(one, 0.01), run_of(two, 0.01)};
  record.budgets = {budget_of(one), budget_of(two)};
  const Proposal p = proposal_of(record, 0.0061, dir.path() / "p.yaml");
  const auto name = [](std::size_t kept, const std::string& suffix) { return std::string(kept, 'b') + suffix; };
  CHECK(names(p) == std::vector<std::string>{name(50, "-keep-layers-1"), name(51, "-keep-parts-2"),
                                             name(48, "-keep-layers-2-2"), name(48, "-keep-layers-1-2"),
                                             name(49, "-keep-parts-2-2"), name(48, "-keep-layers-2-3")});
  for (const std::string& n : names(p)) CHECK(n.size() <= 64);
  CHECK(read_spec(dir.write("p.yaml", p.yaml)).targets.size() == 6);

  const std::string name_89(89, 'x');  // the next character's two bytes would be the 90th and the 91st
  record = record_of(replaced(spec_text(), "name: x\n", "name: \"" + name_89 + "\u00e9\u00e9\"\n"));
  const Proposal torn = proposal_of(record, 0.0061, dir.path() / "p.yaml");
  CHECK(read_spec(dir.write("p.yaml", torn.yaml)).name == name_89 + "-proposal");
}

TEST_CASE("a target that the budget compares with runs too", "[proposal]") {
  const TemporaryDirectory dir;
  ExperimentRecord record = record_of(spec_text());
  record.runs.push_back(run_of("f", 0.001));
  const std::vector<GateSpec> gates =
      read_gates("budget", "gates: {b: {metric: kl.mean, max: 0.005, targets: a, relative_to: {target: f}}}");
  const Recommendation r = recommend(record, gates, Objective::speed).at(0);
  REQUIRE_FALSE(r.choice);
  const Spec spec = read_spec(dir.write("p.yaml", propose(record, r, gates, dir.path() / "p.yaml").yaml));
  CHECK(spec.targets.back().name == "f");
  REQUIRE(spec.gates.size() == 1);
  CHECK(spec.gates[0].relative_target == "f");
  CHECK(spec.gates[0].bound == 0.005);
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
