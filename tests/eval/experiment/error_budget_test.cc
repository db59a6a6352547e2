// Error budgets of real runs: each arm is the run that a configuration with overrides describes, to the bit; parts that are
// everything have the whole KL; gates, static ranges and lm_head are parts where they are quantized.
#include <catch2/catch_test_macros.hpp>

#include "eval/experiment/budget_arms.h"
#include "kernels/registry/registry.h"
#include "tests/eval/experiment/checkpoints.h"

using namespace qfid;
using namespace qfid::eval;

namespace {

LinearSchemes int8_linear(const std::string& activations = "int8/token") {
  return {quant::parse_scheme("int8/channel"), quant::parse_scheme(activations)};
}

TargetSpec int8_target(const std::string& name) {
  TargetSpec t;
  t.name = name;
  t.linear = int8_linear();
  t.attention.q = t.attention.k = quant::parse_scheme("int8/token");
  t.attention.v = quant::parse_scheme("int8/channel");
  t.attention.p = kernels::parse_prob_scheme("uint8");
  return t;
}

ExperimentRecord run(const std::string& model, std::vector<TargetSpec> targets, std::int64_t budget_windows) {
  Spec spec = tests::checkpoint_spec(model);
  spec.data.windows = 2;
  spec.targets = std::move(targets);
  spec.run.chunk_windows = 1;
  spec.metrics.sink_windows = spec.metrics.local_windows = 0;
  spec.metrics.budget_windows = budget_windows;
  return run_experiment(spec, {}, std::atomic<bool>(false));
}

const BudgetEntry& entry(const BudgetGroup& group, const std::string& name) {
  for (const BudgetEntry& e : group.entries)
    if (e.name == name) return e;
  FAIL("no part " << name);
  throw 0;
}

std::vector<std::string> names(const BudgetGroup& group) {
  std::vector<std::string> all;
  for (const BudgetEntry& e : group.entries) all.push_back(e.name);
  return all;
}

bool has_cpu() { return kernels::make_backend("cpu")->available().ok; }

}  // namespace

TEST_CASE("each arm is the run that its own target describes, to the bit", "[budget]") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  TargetSpec whole = int8_target("whole");
  std::vector<TargetSpec> targets{whole};
  const auto add = [&](const std::string& name, TargetSpec t, std::vector<OverrideSpec> overrides) {
    t.name = name;
    t.mode = kernels::ExecutionMode::emulated;
    t.overrides = std::move(overrides);
    targets.push_back(std::move(t));
  };
  TargetSpec p_alone, full;
  p_alone.attention.p = whole.attention.p;
  add("emulated", whole, {});
  add("p alone", p_alone, {});
  add("fc1 alone", full, {{"*.fc1", whole.linear, {}}});
  add("without fc1", whole, {{"*.fc1", LinearSchemes{}, {}}});
  add("layer 2 alone", full, {{"layers.2.*", whole.linear, whole.attention}});
  add("without layer 2", whole, {{"layers.2.*", LinearSchemes{}, kernels::AttentionSchemes{}}});
  const ExperimentRecord record = run("tiny-softmax", targets, 2);
  CHECK(record.warnings.empty());
  const ErrorBudget& budget = *record.budget_of("tiny-softmax", "whole");
  const auto kl = [&](const char* target) { return record.find("tiny-softmax", target)->windows.kl; };
  CHECK(budget.backend == "cpu");
  CHECK(budget.tokens == record.runs[0].windows.tokens);
  CHECK(names(budget.parts) ==
        std::vector<std::string>{"q_proj", "k_proj", "v_proj", "q", "k", "p", "v", "out_proj", "fc1", "fc2"});
  CHECK(names(budget.layers).size() == 6);
  CHECK(budget.whole_kl == kl("emulated"));
  CHECK(budget.whole_kl != kl("whole"));  // real kernels add something
  CHECK(entry(budget.parts, "p").alone_kl == kl("p alone"));
  CHECK(entry(budget.parts, "fc1").alone_kl == kl("fc1 alone"));
  CHECK(entry(budget.parts, "fc1").without_kl == kl("without fc1"));
  CHECK(entry(budget.layers, "layers.2").alone_kl == kl("layer 2 alone"));
  CHECK(entry(budget.layers, "layers.2").without_kl == kl("without layer 2"));
  // What is everything has all of it.
  const ErrorBudget& alone = *record.budget_of("tiny-softmax", "p alone");
  CHECK(names(alone.parts) == std::vector<std::string>{"p"});
  CHECK(*alone.parts.alone.value == 1);
  CHECK(*alone.parts.without.value == 1);
  CHECK(record.budgets.size() == targets.size());
}

TEST_CASE("gate, lm_head, stored scores and static ranges are parts; full precision has no budget", "[budget]") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  Spec spec = tests::checkpoint_spec("tiny-vga-output");
  TargetSpec t = int8_target("t"), full;
  full.name = "f32";
  t.linear = int8_linear("int8/tensor/absmax/static");
  t.attention.q = quant::parse_scheme("int8/tensor/absmax/static");
  t.attention.scores_storage = quant::DType::bf16;
  t.attention.output = quant::parse_scheme("int8/tensor/absmax/static");
  t.overrides = {{"*gate_proj", int8_linear(), {}}, {"lm_head", int8_linear(), {}}};
  spec.targets = {t, full};
  spec.data.windows = 1;
  spec.data.calibration = CalibrationSpec{262144, 1};
  spec.metrics.sink_windows = spec.metrics.local_windows = 0;
  spec.metrics.budget_windows = 16;  // as many as there are
  const ExperimentRecord record = run_experiment(spec, {}, std::atomic<bool>(false));
  CHECK(record.warnings.empty());
  REQUIRE(record.budgets.size() == 1);
  const ErrorBudget& budget = record.budgets[0];
  CHECK(names(budget.parts) == std::vector<std::string>{"q_proj", "k_proj", "v_proj", "gate_proj", "q", "k", "scores", "p",
                                                        "v", "output", "out_proj", "fc1", "fc2", "lm_head"});
  CHECK(names(budget.layers).back() == "lm_head");
  CHECK(budget.tokens.size() == 1);
  for (const BudgetEntry& e : budget.parts.entries) {
    CAPTURE(e.name);
    CHECK(*e.alone.value > 0);
    CHECK(*e.alone.value < 1);
  }
  CHECK(record.timings.budget_seconds > 0);
}

TEST_CASE("a plan counts the arms of a budget", "[budget]") {
  DecoderPrecision precision;
  precision.layers.resize(3);
  for (DecoderPrecision::Layer& layer : precision.layers) layer.attention.q = quant::parse_scheme("bf16");
  precision.layers[1].gate_proj = int8_linear();
  CHECK(budget_parts(precision, false).parts.size() == 1);
  CHECK(budget_parts(precision, true).parts.size() == 2);
  CHECK(budget_forwards(precision, false) == 2 + 2 * 1 + 3);
  CHECK(budget_parts(precision, true).layers.size() == 3);
  CHECK(budget_parts(precision, true).parts[0].alone.layers[1].gate_proj == int8_linear());
  CHECK(budget_parts(precision, true).parts[0].without.layers[1].gate_proj == LinearSchemes{});
}
