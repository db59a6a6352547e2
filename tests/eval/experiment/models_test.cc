// The built-in models under INT8 and FP8, whole pipeline: the order of precisions, the kernels' share of the damage,
// attention sinks, value drains and outliers against the values known of them (docs/results/known-values.md).
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <map>

#include "eval/experiment/spec_reader.h"
#include "kernels/registry/registry.h"
#include "tests/eval/experiment/checkpoints.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

namespace {

const char* const tiny_models[] = {"tiny-softmax",    "tiny-vga-output", "tiny-vga-value",
                                   "tiny-iga-output", "tiny-iga-value",  "tiny-sink"};

TargetSpec target(const std::string& name, const std::string& linear, const std::string& activations, const std::string& v,
                  const std::string& p) {
  TargetSpec t;
  t.name = name;
  t.linear = {quant::parse_scheme(linear), quant::parse_scheme(activations)};
  t.attention.q = t.attention.k = quant::parse_scheme(activations);
  t.attention.v = quant::parse_scheme(v);
  t.attention.p = kernels::parse_prob_scheme(p);
  return t;
}

std::vector<TargetSpec> precisions() {
  std::vector<TargetSpec> all;
  for (const std::string format : {"int8", "e4m3", "e5m2"}) {
    const std::string p = format == "int8" ? "uint8" : format;
    all.push_back(target(format + "-tensor", format + "/tensor", format + "/tensor", format + "/tensor", p));
    all.push_back(target(format + "-token", format + "/channel", format + "/token", format + "/channel", p));
  }
  return all;
}

ExperimentRecord run(const std::string& model, std::int64_t windows, std::vector<TargetSpec> targets, std::int64_t sampled) {
  Spec spec = checkpoint_spec(model);
  spec.data.windows = windows;
  spec.targets = std::move(targets);
  spec.metrics.sink_windows = spec.metrics.local_windows = sampled;
  return run_experiment(spec, {}, std::atomic<bool>(false));
}

/// Paired difference NLL_b - NLL_a.
const Metric& difference(const ExperimentRecord& record, const std::string& a, const std::string& b) {
  for (const PairRecord& pair : record.pairs)
    if (pair.a == a && pair.b == b) return pair.difference;
  FAIL("no pair " << a << ", " << b);
  throw 0;
}

double value(const ExperimentRecord& record, const std::string& target, const std::string& name) {
  const RunRecord& run = *record.find(record.models.at(0).name, target);
  const Metric* metric = find_metric(run, name);
  return metric != nullptr && metric->value ? *metric->value : NAN;
}

}  // namespace

TEST_CASE("per token beats per tensor and E4M3 beats E5M2 wherever 256 windows can tell") {
  if (!kernels::make_backend("cpu")->available()) SKIP("the cpu backend isn't part of this build");
  int decided = 0;
  for (const char* model : tiny_models) {
    const ExperimentRecord record = run(model, 256, precisions(), 0);
    const auto better = [&](const std::string& worse, const std::string& best) {
      const bool swapped = worse.substr(0, 4) != best.substr(0, 4);  // pairs are in the order of targets
      const Metric& d = swapped ? difference(record, best, worse) : difference(record, worse, best);
      CAPTURE(model, worse, best, *d.value, d.ci->low, d.ci->high);
      CHECK((swapped ? d.ci->high > 0 : d.ci->low < 0));  // never the opposite
      decided += swapped ? d.ci->low > 0 : d.ci->high < 0;
    };
    for (const std::string format : {"int8", "e4m3", "e5m2"}) better(format + "-tensor", format + "-token");
    for (const std::string granularity : {"-tensor", "-token"}) better("e5m2" + granularity, "e4m3" + granularity);
    for (const TargetSpec& t : precisions()) {
      CAPTURE(model, t.name);
      CHECK(value(record, t.name, "perplexity.ratio") < 1.6);
      CHECK(value(record, t.name, "kl.mean") > 0);
    }
  }
  CHECK(decided >= 24);  // of 30: the test can tell
}

TEST_CASE("real kernels keep to their emulated twins, locally, in every layer, head and tap of every model") {
  if (!kernels::make_backend("cpu")->available()) SKIP("the cpu backend isn't part of this build");
  for (const char* model : tiny_models) {
    const ExperimentRecord record = run(model, 1, precisions(), 1);
    for (const TargetSpec& t : precisions()) {
      CAPTURE(model, t.name);
      CHECK(value(record, t.name, "kernel.gain.deviation.max") <= gain_real_emulated);
      CHECK(value(record, t.name, "kernel.gain.deviation.max") > 0);
      int rows = 0;
      for (const LayerRow& row : record.find(model, t.name)->layers) {
        if (row.error != "kernel" || row.tap == "probs") continue;
        ++rows;
        CAPTURE(row.layer, row.tap, row.head);
        for (const auto& [name, number] : row.values) {
          if (name == "nmse") CHECK(*number <= prob_codes_nmse);
          if (name == "histogram_distance") CHECK(*number <= prob_codes_moved);
        }
      }
      CHECK(rows == 6 * (5 * 3 + 3));  // q, k, v, p_codes, output by head and pooled; attn_out, ffn_act, ffn_out
    }
  }
}

TEST_CASE("attention sinks, value drains and the largest residual are those known of each model") {
  if (!kernels::make_backend("cpu")->available()) SKIP("the cpu backend isn't part of this build");
  struct Known {
    const char* model;
    double q64, T64, drain, drain_gated, residual;  // NaN: no sink heads, or not known
  };
  constexpr double none = NAN;
  const Known known[] = {{"tiny-softmax", .245, .583, .05, .05, 42.6},     {"tiny-vga-output", .021, .333, none, none, 31.8},
                         {"tiny-vga-value", .109, .422, 1.57, .10, 21.5},  {"tiny-iga-output", .010, .182, none, none, 30.2},
                         {"tiny-iga-value", none, none, none, none, 15.7}, {"tiny-sink", 0, 0, none, none, 26.2},
                         {"lm-softmax", none, none, none, none, 128},      {"lm-vga-output", none, none, none, none, 66},
                         {"lm-vga-value", none, none, none, none, 48},     {"lm-iga-output", none, none, none, none, 55},
                         {"lm-sink", none, none, none, none, 72}};
  int skipped = 0;
  for (const Known& entry : known) {
    if (!checkpoint_is_here(entry.model)) {
      ++skipped;
      continue;
    }
    const ExperimentRecord record = run(entry.model, 16, {}, 16);
    const auto check = [&](const char* name, double expected, double tolerance) {
      if (std::isnan(expected)) return;
      CAPTURE(entry.model, name, expected, value(record, "baseline", name));
      CHECK(std::fabs(value(record, "baseline", name) - expected) <= tolerance);
    };
    check("sink_rate.q64.t0.3", entry.q64, sink_rate_absolute);
    check("sink_rate.T64.q0.t0.3", entry.T64, sink_rate_absolute);
    check("drain.v.sinks", entry.drain, sink_rate_absolute);
    check("drain.v_gated.sinks", entry.drain_gated, sink_rate_absolute);
    check("residual.inf_norm.max", entry.residual, 0.01 * entry.residual);
  }
  if (skipped > 0) WARN(skipped << " larger models aren't here and were left out");
}
