// What a part of a run is found by in a cache: every key of the vocabulary counts, but for those named here.
#include <catch2/catch_test_macros.hpp>
#include <set>

#include "eval/experiment/keys.h"
#include "eval/experiment/known_parts.h"
#include "tests/support/temporary_directory.h"

using namespace qfid::eval;

namespace {

Spec spec_with(const std::vector<std::string>& sets) {
  Spec spec;
  spec.text =
      "version: 1\nname: t\nmodels: {m: {path: m}}\ndata: {tokens: t.npy, calibration: {first_token: 8}}\n"
      "presets: {p: {precision: bf16}}\ntargets: {a: {preset: p, overrides: [{match: \"*\", precision: bf16}]}}\n"
      "metrics: {interventions: [zero_v_0]}\ngates: {g: {metric: kl.mean, max: 1}}\n";
  spec.sets = sets;
  spec.targets.resize(2);
  spec.targets[0].name = "a";
  spec.targets[1].name = "b";
  return spec;
}

RunIdentity identity() {
  RunIdentity run;
  run.entries = {{"configuration file", "x.yaml"},
                 {"configuration", "text"},
                 {"--set", ""},
                 {"models", "m n"},
                 {"targets", "a b"},
                 {"tokens", "T"},
                 {"tokenizer", "Z"},
                 {"model m", "M"},
                 {"model n", "N"},
                 {"baseline of gate g, f", "F"},
                 {"program", "P"}};
  run.machine_entries = {{"device", "D"},    {"instruction set", "I"},    {"number of threads", "2"},
                         {"library l", "L"}, {"device of target a", "A"}, {"device of target b", "B"}};
  return run;
}

const std::vector<Window> windows{{{1, 2, 3}, {2, 3, 4}, 0, 3}, {{4, 5, 6}, {5, 6, 7}, 0, 3}};

std::string key_of(const Spec& spec, const RunIdentity& run = identity(), const TargetSpec* target = nullptr) {
  return part_key({run, spec, "m", 7}, target, windows, {0, 2});
}
std::string key_of_a(const std::vector<std::string>& sets, const RunIdentity& run = identity()) {
  const Spec spec = spec_with(sets);
  return key_of(spec, run, &spec.targets[0]);
}

/// A concrete path of a row: the names that the configuration above has.
std::string concrete(const std::string& pattern) {
  std::string path = pattern;
  for (const auto& [from, to] : {std::pair{"models.*", "models.m"},
                                 {"presets.*", "presets.p"},
                                 {"targets.*", "targets.a"},
                                 {"gates.*", "gates.g"},
                                 {"overrides.*", "overrides.0"},
                                 {"interventions.*", "interventions.0"}})
    path = qfid::tests::replaced(path, from, to);
  return path;
}

}  // namespace

TEST_CASE("every key of the vocabulary decides what a target's part is, but for those that can't", "[part_key]") {
  const std::string plain = key_of_a({});
  const std::set<std::string> free{"name", "data.tokens", "data.targets", "data.text", "data.tokenizer", "data.windows"};
  int counted = 0;
  for (const KeyRow& row : key_table()) {
    const std::string path(row.path);
    if (row.type == KeyType::map || row.type == KeyType::names || row.type == KeyType::list) continue;
    CAPTURE(path);
    if (path.find("overrides.*") != std::string::npos || path.ends_with("interventions.*"))
      continue;  // lists are replaced as wholes: below
    const bool same = key_of_a({concrete(path) + "=another"}) == plain;
    CHECK(same == (free.contains(path) || path.starts_with("models.") || path.starts_with("gates.")));
    ++counted;
  }
  CHECK(counted > 60);
  CHECK(key_of_a({"targets.a.overrides=[{match: \"*\", precision: f32}]"}) != plain);
  CHECK(key_of_a({"metrics.interventions=[gate_one]"}) != plain);
  CHECK(key_of_a({"targets.a.overrides=[{match: q_proj, precision: bf16}]"}) != plain);
}

TEST_CASE("the baseline's part doesn't know the targets; a target's not its name, nor the others", "[part_key]") {
  const Spec plain = spec_with({}), renamed = spec_with({"targets.b={preset: bf16}", "targets.a.backend=gpu"});
  CHECK(key_of(plain) == key_of(renamed));
  CHECK(key_of(plain) != key_of_a({}));
  CHECK(key_of_a({}) == key_of_a({"targets.b={preset: bf16}"}));
  CHECK(key_of_a({}) != key_of_a({"targets.a.backend=gpu"}));
  // Under b's name what was under a's.
  Spec b = spec_with({"targets={b: {preset: p, overrides: [{match: \"*\", precision: bf16}]}}"});
  RunIdentity swapped = identity();
  std::swap(swapped.machine_entries[4].second, swapped.machine_entries[5].second);
  CHECK(key_of(b, swapped, &b.targets[1]) == key_of_a({}));
}

TEST_CASE("content, program and machine decide, and nothing else of a run's identity", "[part_key]") {
  const std::string plain = key_of_a({});
  const std::set<std::string> free{"configuration file",    "configuration",     "--set", "models", "targets", "model n",
                                   "baseline of gate g, f", "device of target b"};
  for (const bool machine : {false, true})
    for (std::size_t i = 0; i < (machine ? identity().machine_entries : identity().entries).size(); ++i) {
      RunIdentity run = identity();
      auto& [name, value] = (machine ? run.machine_entries : run.entries)[i];
      value += "x";
      CAPTURE(name);
      CHECK((key_of_a({}, run) == plain) == free.contains(name));
    }
}

TEST_CASE("windows by their content, targets and scored positions; logits by how they are grouped", "[part_key]") {
  const Spec spec = spec_with({});
  const RunIdentity run = identity();
  const auto key = [&](const std::vector<Window>& all, WindowRange chunk = {0, 2}, std::int64_t at_once = 7) {
    return part_key({run, spec, "m", at_once}, nullptr, all, chunk);
  };
  std::vector<Window> other = windows;
  other[1].input[2] = 9;
  CHECK(key(other) != key(windows));
  CHECK(key(other, {0, 1}) == key(windows, {0, 1}));
  other = windows;
  other[1].target[0] = 9;
  CHECK(key(other) != key(windows));
  other = windows;
  other[1].first_scored = 1;
  CHECK(key(other) != key(windows));
  CHECK(key(windows, {0, 1}) != key(windows));
  CHECK(key(windows, {0, 2}, 8) != key(windows));
}
