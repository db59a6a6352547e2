// A run whose error budget is known, for the tests of proposals.
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "eval/experiment/proposal.h"
#include "eval/experiment/spec_reader.h"

namespace qfid::tests {

inline constexpr int windows = 128, budget_windows = 16;
inline constexpr std::int64_t context = 256;

inline eval::RunRecord run_of(const std::string& target, double kl, std::int64_t count = windows) {
  eval::RunRecord run;
  run.model = "m";
  run.target = target;
  run.seconds = 1;
  for (int w = 0; w < count; ++w) {
    run.windows.tokens.push_back(100);
    run.windows.nll.push_back(300);
    run.windows.kl.push_back(100 * kl * (1 + 0.01 * (w % 3)));
    run.windows.kl_reverse.push_back(100 * kl);
    run.windows.top1_agree.push_back(95);
  }
  return run;
}

inline eval::BudgetEntry entry(const std::string& name, double alone) {
  return {name, std::vector<double>(budget_windows, alone), std::vector<double>(budget_windows, 1 - alone), {}, {}};
}

/// k_proj half, p and v a fifth each, fc1 a tenth; layer 2 six tenths, layer 0 three, layer 1 one.
inline eval::ErrorBudget budget_of(const std::string& target) {
  eval::ErrorBudget budget;
  budget.model = "m";
  budget.target = target;
  budget.tokens.assign(budget_windows, 100);
  budget.whole_kl.assign(budget_windows, 1.0);
  budget.parts.entries = {entry("k_proj", 0.5), entry("p", 0.2), entry("v", 0.2), entry("fc1", 0.1)};
  budget.layers.entries = {entry("layers.0", 0.3), entry("layers.1", 0.1), entry("layers.2", 0.6)};
  eval::compute_shares(budget, 0.95);
  return budget;
}

inline std::string spec_text(const std::string& more = "", const std::string& data = "") {
  return "version: 1\nname: x\nmodels: {m: {path: models/tiny-softmax}, other: {path: models/tiny-sink}}\n"
         "data: {tokens: data/tiny-tokens.npy, first_token: 512" +
         data +
         "}\ntargets:\n  a:\n    linear: {weights: int8/channel, activations: int8/token}\n"
         "    attention: {q: int8/token, k: int8/token, p: uint8, v: int8/channel}\n" +
         more + "  f: {backend: cpu}\n";
}

inline eval::ExperimentRecord record_of(const std::string& text, std::int64_t count = windows) {
  eval::ExperimentRecord record;
  record.spec_file = std::string(QFID_SOURCE_DIR) + "/configs/mine.yaml";
  record.spec_text = text;
  record.provenance.first_token = 512;
  record.models.push_back({"m", "models/tiny-softmax", "opt", "hash", 1, "softmax", {}});
  record.runs = {run_of("baseline", 0, count), run_of("a", 0.01, count)};
  record.budgets = {budget_of("a")};
  return record;
}

inline std::vector<eval::GateSpec> budget(double most) {
  return eval::read_gates("budget", "gates: {b: {metric: kl.mean, max: " + std::to_string(most) + "}}");
}

inline eval::Proposal proposal_of(const eval::ExperimentRecord& record, double most, const std::filesystem::path& file) {
  const std::vector<eval::GateSpec> gates = budget(most);
  const eval::Recommendation r = eval::recommend(record, gates, eval::Objective::speed).at(0);
  REQUIRE_FALSE(r.choice);
  return eval::propose(record, r, gates, file);
}

}  // namespace qfid::tests
