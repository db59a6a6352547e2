// Noise floors and interventions through whole experiments: what the record holds, gates within the floor, what is told of
// progress and of models that lack what an intervention is about.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <numeric>
#include <set>

#include "eval/experiment/noise_floor.h"
#include "eval/experiment/spec_reader.h"
#include "kernels/registry/registry.h"
#include "quant/core/error.h"
#include "tests/eval/experiment/checkpoints.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

namespace {

/// 16 windows of 32 tokens, INT8 on the cpu backend where it is built.
Spec small_spec(const std::string& model) {
  Spec spec = checkpoint_spec(model);
  spec.data.windows = 16;
  spec.data.context = 32;
  spec.metrics.local_windows = spec.metrics.sink_windows = spec.metrics.kernel_windows = 0;
  const std::string backend = kernels::make_backend("cpu")->available() ? "cpu" : "reference";
  spec.baseline.backend = backend;
  TargetSpec target;
  target.name = "int8";
  target.backend = backend;
  target.linear = {quant::parse_scheme("int8/channel"), quant::parse_scheme("int8/token")};
  target.attention.q = target.attention.k = quant::parse_scheme("int8/token");
  target.attention.v = quant::parse_scheme("int8/channel");
  target.attention.p = kernels::parse_prob_scheme("uint8");
  spec.targets = {target};
  return spec;
}

ExperimentRecord run(const Spec& spec, const ProgressCallback& progress = {}) {
  return run_experiment(spec, progress, std::atomic<bool>(false));
}

const Metric& metric(const ScoredChange& change, const std::string& name) {
  for (const Metric& m : change.metrics)
    if (m.name == name) return m;
  FAIL("no " << name << " of " << change.name);
  return change.metrics.front();
}

double mean(const std::vector<double>& sums, const std::vector<std::int64_t>& tokens) {
  return std::accumulate(sums.begin(), sums.end(), 0.0) /
         static_cast<double>(std::accumulate(tokens.begin(), tokens.end(), std::int64_t{0}));
}

const ScoredChange& change_of(const ExperimentRecord& record, const std::string& target, const std::string& name) {
  for (const ScoredChange& change : record.interventions)
    if (change.target == target && change.name == name) return change;
  FAIL("no " << name << " of " << target);
  return record.interventions.front();
}

std::string within_floor(const ExperimentRecord& record, const std::string& gates) {
  try {
    require_above_noise(record, read_gates("/x/g.yaml", "gates:\n" + gates));
  } catch (const quant::Error& error) {
    CHECK(error.exit_code() == 2);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the noise floor: the same on any chunk and thread count, larger than another backend's", "[noise]") {
  Spec spec = small_spec("tiny-softmax");
  CHECK(run(spec).noise.empty());
  spec.metrics.noise_windows = 16;
  const ExperimentRecord record = run(spec);
  REQUIRE(record.noise.size() >= 1);
  const ScoredChange& noise = record.noise[0];
  CHECK(noise.name == "module outputs off by 2^-9");
  CHECK(noise.tokens == record.runs[0].windows.tokens);
  CHECK(*metric(noise, "kl.mean").value > 1e-7);
  CHECK(*metric(noise, "kl.mean").value < 1e-3);
  CHECK(std::fabs(*metric(noise, "kl.mean").value - mean(noise.kl, noise.tokens)) < 1e-15);
  CHECK(std::fabs(*metric(noise, "nll.difference").value - mean(noise.nll_difference, noise.tokens)) < 1e-15);
  CHECK(*metric(noise, "kl.mean").value < *find_metric(record.runs[1], "kl.mean")->value);  // INT8 costs more than that
  if (spec.baseline.backend == "cpu") {
    REQUIRE(record.noise.size() == 2);
    CHECK(record.noise[1].name.starts_with("backend "));
    CHECK(*metric(record.noise[1], "kl.mean").value < *metric(noise, "kl.mean").value / 10);
  }
  spec.run.chunk_windows = 1;
  spec.run.threads = 1;
  spec.metrics.noise_windows = 3;
  const ExperimentRecord fewer = run(spec);
  REQUIRE(fewer.noise[0].kl.size() == 3);
  // Perturbations are the same bits; f32 products of the cpu backend may be summed otherwise by another number of threads.
  for (std::size_t w = 0; w < 3; ++w) CHECK(std::fabs(fewer.noise[0].kl[w] / noise.kl[w] - 1) < 1e-3);
  kernels::set_threads(2);
}

TEST_CASE("a bound within the noise floor is a mistake, one beyond it isn't", "[noise]") {
  ExperimentRecord record;
  RunRecord base, target;
  base.model = target.model = "m";
  base.target = "baseline";
  target.target = "int8";
  record.runs = {base, target};
  ScoredChange noise{"m", "baseline", "module outputs off by 2^-9"};
  noise.metrics = {{"perplexity.ratio", 1.001, Interval{std::exp(-0.004), std::exp(0.002)}, "ratio", ""},
                   {"kl.mean", 2e-4, Interval{1e-4, 3e-4}, "nats", ""},
                   {"top1.agreement", 0.99, {}, "share", ""}};
  record.noise = {noise};
  const NoiseFloor ratio = *noise_floor(record, "m", gate_metric("perplexity.ratio"));
  CHECK(std::fabs(ratio.distance - 0.004) < 1e-12);  // the farther end, on either side
  CHECK(std::fabs(ratio.shown - std::exp(0.004)) < 1e-12);
  CHECK(noise_floor(record, "m", gate_metric("kl.mean"))->shown == 3e-4);
  CHECK(std::fabs(noise_floor(record, "m", gate_metric("top1.agreement"))->shown - 0.99) < 1e-12);  // no interval: itself
  CHECK_FALSE(noise_floor(record, "m", gate_metric("top1.flips")));
  CHECK_FALSE(noise_floor(record, "n", gate_metric("kl.mean")));
  CHECK(within_floor(record, "  a: {metric: perplexity.ratio, max: 1.003}\n") ==
        "gate \"a\": max 1.003 of perplexity.ratio lies within the noise floor of model m: module outputs off by 2^-9 alone "
        "reaches 1.00401 in full precision; take a bound beyond it, or more metrics.noise_windows, which narrow it");
  CHECK(within_floor(record, "  a: {metric: perplexity.ratio, max: 1.005}\n") == "");
  CHECK(within_floor(record, "  a: {metric: perplexity.ratio, min: 0.998}\n") != "");
  CHECK(within_floor(record, "  a: {metric: perplexity.ratio, min: 0.99}\n") == "");
  CHECK(within_floor(record, "  a: {metric: kl.mean, max: 0.0002}\n").ends_with("take a bound beyond it"));
  CHECK(within_floor(record, "  a: {metric: kl.mean, max: 0.0004}\n") == "");
  CHECK(within_floor(record, "  a: {metric: top1.agreement, min: 0.995}\n") != "");
  CHECK(within_floor(record, "  a: {metric: top1.agreement, min: 0.98}\n") == "");
  CHECK(within_floor(record, "  a: {metric: kl.mean, max: 0.0001, relative_to: {file: b.json}}\n") == "");
  CHECK(within_floor(record, "  a: {metric: kl.mean, max: 0.0001, targets: fp8}\n") == "");
  record.noise.push_back({"m", "baseline", "backend reference"});
  record.noise[1].metrics = {{"kl.mean", 5e-4, {}, "nats", ""}};
  CHECK(noise_floor(record, "m", gate_metric("kl.mean"))->source == "backend reference");
}

TEST_CASE("gates show the floor beside their metric", "[noise]") {
  Spec spec = small_spec("tiny-softmax");
  spec.metrics.noise_windows = 16;
  const ExperimentRecord record = run(spec);
  const auto gates = evaluate_gates(
      record, read_gates("/x/g.yaml", "gates:\n  a: {metric: kl.mean, max: 1}\n  b: {metric: kl.mean, max: 0.000000001}\n"),
      {}, "2026-11-24");
  const NoiseFloor floor = *noise_floor(record, "tiny-softmax", gate_metric("kl.mean"));
  CHECK(gates[0].noise_floor == floor.shown);
  CHECK(gates[0].words.find("; noise floor ") != std::string::npos);
  CHECK(gates[0].words.find("tells nothing") == std::string::npos);
  CHECK(gates[1].words.ends_with(", which the bound lies within: it tells nothing"));
}

TEST_CASE("interventions: full precision and every target, against themselves untouched", "[interventions]") {
  Spec spec = small_spec("tiny-vga-output");
  spec.metrics.interventions = {"mask_key_0", "zero_v_0", "gate_one", "gate_mean"};
  spec.metrics.intervention_windows = 16;
  spec.metrics.noise_windows = 2;
  std::set<std::string> passes;
  const ExperimentRecord record = run(spec, [&](const Progress& p) {
    passes.insert(p.pass);
    CHECK(p.done_windows <= p.total_windows);
  });
  CHECK(passes == std::set<std::string>{"", "noise floor", "interventions on baseline", "interventions on int8"});
  REQUIRE(record.interventions.size() == 8);
  for (const ScoredChange& change : record.interventions) {
    CAPTURE(change.target, change.name);
    CHECK(change.message.empty());
    CHECK(change.tokens == record.runs[0].windows.tokens);
    CHECK(*metric(change, "kl.mean").value > 1e-6);  // each does something
    CHECK(std::fabs(*metric(change, "nll.difference").value - mean(change.nll_difference, change.tokens)) < 1e-15);
    // Perplexity is the changed run's: the untouched run's, times the ratio.
    const double untouched = *find_metric(*record.find(change.model, change.target), "perplexity")->value;
    CHECK(std::fabs(*metric(change, "perplexity").value / (untouched * *metric(change, "perplexity.ratio").value) - 1) <
          1e-5);
    CHECK(metric(change, "nll.difference").ci);
  }
  // What full precision loses by an intervention, INT8 loses about as well: it is the same model.
  const double full = *metric(change_of(record, "baseline", "gate_one"), "nll.difference").value;
  CHECK(std::fabs(*metric(change_of(record, "int8", "gate_one"), "nll.difference").value / full - 1) < 0.2);
}

TEST_CASE("interventions on gates where there are none say so; the others run", "[interventions]") {
  Spec spec = small_spec("tiny-softmax");
  spec.targets.clear();
  spec.metrics.interventions = {"gate_mean", "zero_v_0"};
  spec.metrics.intervention_windows = 2;
  const ExperimentRecord record = run(spec);
  CHECK(change_of(record, "baseline", "gate_mean").message == "the model has no gates");
  CHECK(change_of(record, "baseline", "gate_mean").metrics.empty());
  CHECK(change_of(record, "baseline", "zero_v_0").tokens.size() == 2);
  CHECK(metric(change_of(record, "baseline", "zero_v_0"), "nll.difference").note == "no interval below 16 windows");
}

TEST_CASE("a plan counts the passes: interventions on every run, noise on the baseline alone", "[noise][interventions]") {
  Spec spec = small_spec("tiny-vga-output");
  const auto relative = [&] {  // seconds of the baseline and of int8, in passes over all windows of a run without more
    const Plan plan = make_plan(spec);
    const double pass = 1.6 * plan.runs[1].gflop / plan.assumed_gflops;
    return std::pair{plan.runs[0].seconds / pass, plan.runs[1].seconds / pass};
  };
  const auto near = [](double found, double expected) { return std::fabs(found - expected) < 1e-9; };
  CHECK(near(relative().first, 1));
  spec.metrics.interventions = {"mask_key_0", "gate_mean"};
  spec.metrics.intervention_windows = 8;
  CHECK(near(relative().first, 1 + 0.5 * 4));   // untouched, two interventions, the mean gates
  CHECK(near(relative().second, 1 + 0.5 * 3));  // without the mean gates
  const std::int64_t memory = make_plan(spec).memory_bytes;
  spec.metrics.noise_windows = 4;
  CHECK(relative().first > 1 + 0.5 * 4 + 0.25 * 2);  // and the twin, at its own backend's speed
  CHECK(near(relative().second, 1 + 0.5 * 3));
  if (spec.baseline.backend == "cpu") CHECK(make_plan(spec).memory_bytes > memory);
}

TEST_CASE("error budgets tell of their progress", "[budget]") {
  Spec spec = small_spec("tiny-softmax");
  spec.data.windows = 2;
  spec.metrics.budget_windows = 2;
  std::vector<std::int64_t> done;
  run(spec, [&](const Progress& p) {
    if (p.pass == "error budget of int8") done.push_back(p.done_windows);
  });
  CHECK(done == std::vector<std::int64_t>{1, 2});
}
