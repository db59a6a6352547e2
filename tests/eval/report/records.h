// Records made by hand for the reports' tests.
#pragma once

#include <string>

#include "eval/report/report.h"

namespace qfid::tests {

/// k alone makes half of the KL and v a third; layers add up.
inline eval::ErrorBudget budget_of(const eval::RunRecord& run, int layers) {
  eval::ErrorBudget budget;
  budget.model = run.model;
  budget.target = run.target;
  budget.backend = "cpu";
  budget.tokens = run.windows.tokens;
  budget.whole_kl = run.windows.kl;
  const auto entry = [&](const std::string& name, double alone, double saves) {
    eval::BudgetEntry e{name, budget.whole_kl, budget.whole_kl, {}, {}};
    for (double& kl : e.alone_kl) kl *= alone;
    for (double& kl : e.without_kl) kl *= 1 - saves;
    return e;
  };
  budget.parts.entries = {entry("v", 1.0 / 3, 0.25), entry("k", 0.5, 0.75)};
  for (int l = 0; l < layers; ++l)
    budget.layers.entries.push_back(entry("layers." + std::to_string(l), 1.0 / layers, 1.0 / layers));
  eval::compute_shares(budget, 0.95);
  return budget;
}

/// One model, a baseline and the targets named, with every kind of row; numbers are small and known.
inline eval::ExperimentRecord record_with(const std::vector<std::string>& targets, int layers = 2, int heads = 2,
                                          const std::string& model = "m") {
  using namespace eval;
  ExperimentRecord r;
  r.name = "by hand";
  r.spec_file = "x.yaml";
  r.spec_text = "version: 1\n";
  r.provenance = {"1", "abc", "g++", {{"lib", "2"}}, "cpu", "isa", 1, 4, "t.npy", "hash", "window", 128, 0, 16};
  r.models.push_back({model, "models/m", "opt", "content", 1'500'000, "softmax", {}});
  r.timings.started = "2026-01-02T03:04:05Z";
  std::vector<std::string> names{"baseline"};
  names.insert(names.end(), targets.begin(), targets.end());
  for (std::size_t t = 0; t < names.size(); ++t) {
    RunRecord run;
    run.model = model;
    run.target = names[t];
    run.backend = "cpu";
    run.mode = "real";
    run.description = "int8/token/absmax/dynamic";
    run.repro = "qfid run x.yaml --target " + names[t];
    run.implementations = {{"q_proj", "gemm"}, {"fc1", "gemm"}, {"attention", "brgemm"}};
    const auto size = static_cast<double>(t);
    run.metrics = {{"perplexity", 20 + size, Interval{19 + size, 21 + size}, "", ""}};
    run.seconds = 2.0 / (1 + size);
    if (t > 0)
      for (const Metric& metric : std::vector<Metric>{
               {"perplexity.ratio", 1 + 0.01 * size, Interval{1 + 0.008 * size, 1 + 0.012 * size}, "ratio", ""},
               {"kl.mean", 0.01 * size, Interval{0.009 * size, 0.011 * size}, "nats", ""},
               {"top1.agreement", 0.9, {}, "share", ""},
               {"kernel.gain.deviation.max", 1e-6, {}, "", "largest: 0.q"},
               {"kernel.damage.share.max", 0.01, {}, "ratio", "largest: 0.q"}})
        run.metrics.push_back(metric);
    for (int l = 0; l < layers; ++l) {
      run.layers.push_back({l, "residual", -1, "none", {{"inf_norm", 4.0 + l}, {"kurtosis", 3.0 + l}}});
      if (t > 0) run.layers.push_back({l, "residual", -1, "cumulative", {{"sqnr_db", 30.0}, {"nmse", 0.001}}});
      for (int h = 0; h < heads; ++h) {
        run.layers.push_back({l, "attention_to_first", h, "none", {{"alpha0.q64", 0.25 * h}}});
        if (t == 0) continue;
        run.layers.push_back({l, "output", h, "local", {{"sqnr_db", 40.0 - 10 * l - h}, {"nmse", 1e-4}}});
        run.layers.push_back({l, "probs", h, "local", {{"kl", 0.001 * (1 + l + h)}}});
      }
      if (t > 0) run.layers.push_back({l, "output", -1, "local", {{"sqnr_db", 39.5 - 10 * l}, {"nmse", 1e-3 * (l + 1)}}});
      if (t > 0) run.layers.push_back({l, "p_codes", -1, "none", {{"zero_share", 0.5}}});
      if (t > 0)
        run.layers.push_back({l, "context", -1, "local", {{"nmse", 1e-3 * (l + 1)}, {"nmse_p", 2e-3}, {"nmse_v", 5e-4}}});
      if (t > 0) {
        CodeHistogram codes{l, "uint8", 255, std::vector<std::int64_t>(256)};
        codes.counts[0] = 75, codes.counts[1] = 20, codes.counts[255] = 5;
        run.p_codes.push_back(codes);
      }
      if (t > 0) run.layers.push_back({l, "q_proj", -1, "none", {{"saturated_share", 0.0}, {"flushed_share", 0.02}}});
    }
    for (int w = 0; w < 16; ++w) {
      run.windows.tokens.push_back(2);
      run.windows.nll.push_back(6);
      run.windows.kl.push_back(0.02 * size);
      run.windows.kl_reverse.push_back(0.02 * size);
      run.windows.top1_agree.push_back(2);
      for (int i = 0; i < 2; ++i) {
        run.tokens.nll.push_back(3);
        run.tokens.kl.push_back(static_cast<float>(t == 0 ? 0.0 : 0.001 * size * (1 + w)));
        run.tokens.top1.push_back(i);
      }
    }
    if (t > 0) r.budgets.push_back(budget_of(run, layers));
    r.runs.push_back(std::move(run));
  }
  return r;
}

inline eval::GateRecord gate_on(const std::string& target, eval::GateVerdict verdict, const std::string& name = "quality") {
  eval::GateRecord gate;
  gate.name = name;
  gate.model = "m";
  gate.target = target;
  gate.metric = "perplexity.ratio";
  gate.bound = 1.02;
  gate.verdict = verdict;
  gate.words = "perplexity.ratio is 1.01, max 1.02";
  return gate;
}

}  // namespace qfid::tests
