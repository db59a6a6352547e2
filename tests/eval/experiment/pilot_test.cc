// What a pilot says about a plan, and which pilots say nothing.
#include "eval/experiment/pilot.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>

#include "eval/experiment/spec_reader.h"
#include "eval/metrics/gate.h"
#include "eval/model/checkpoint.h"
#include "quant/core/error.h"

using namespace qfid::eval;
using Catch::Matchers::ContainsSubstring;

namespace {

Spec spec() { return read_spec(std::string(QFID_SOURCE_DIR) + "/configs/gates.yaml"); }

RunRecord run_of(const std::string& target, double rise, int windows = 32) {
  RunRecord run;
  run.model = "softmax";
  run.target = target;
  for (int w = 0; w < windows; ++w) {
    run.windows.tokens.push_back(256);
    run.windows.nll.push_back(256 * (3 + rise * (1 + 0.1 * ((w * 37) % 11 - 5))));
    run.windows.kl.push_back(1 + 0.1 * (w % 3));
    run.windows.kl_reverse.push_back(1);
    run.windows.top1_agree.push_back(240 - w % 5);
  }
  return run;
}

ExperimentRecord pilot() {
  const Spec s = spec();
  ExperimentRecord record;
  record.provenance.protocol = "window";
  record.provenance.context = 256;
  record.models.push_back({"softmax", "", "opt", Checkpoint::open(s.models.at(0).path).content_hash(), 1, "softmax", {}});
  record.runs = {run_of("baseline", 0), run_of("bf16", 0.001), run_of("int8-token", 0.01), run_of("int8-tensor", 0.02, 8)};
  record.runs.back().status = RunStatus::interrupted;
  return record;
}

Plan plan_of(std::int64_t windows) {
  Plan plan;
  for (const char* target : {"baseline", "bf16", "int8-token", "int8-tensor", "new"}) {
    PlannedRun run;
    run.model = "softmax";
    run.target = target;
    run.windows = windows;
    plan.runs.push_back(run);
  }
  return plan;
}

PilotEffect of(const std::vector<PilotEffect>& effects, const std::string& gate, const std::string& target) {
  for (const PilotEffect& e : effects)
    if (e.gate == gate && e.target == target) return e;
  throw std::runtime_error("no effect");
}

}  // namespace

TEST_CASE("a pilot says what the planned windows can see, gate by gate") {
  const Spec s = spec();
  const ExperimentRecord p = pilot();
  const std::vector<PilotEffect> few = effects_of_pilot(s, plan_of(64), p, "p"),
                                 many = effects_of_pilot(s, plan_of(256), p, "p");
  const PilotEffect ratio = of(few, "perplexity", "int8-token");
  CHECK(ratio.factor);
  CHECK(ratio.pilot_windows == 32);
  CHECK(ratio.windows == 64);
  CHECK(*ratio.least > 1);
  CHECK(std::log(*of(many, "perplexity", "int8-token").least) < std::log(*ratio.least) / 2);
  CHECK_FALSE(of(few, "kl", "int8-token").factor);
  CHECK(of(few, "perplexity", "int8-tensor").why_not == "the pilot's run isn't complete");
  CHECK(of(few, "perplexity", "new").why_not == "the pilot has no such run");
  CHECK(of(effects_of_pilot(s, plan_of(15), p, "p"), "kl", "int8-token").why_not.find("16 windows or more") !=
        std::string::npos);
}

TEST_CASE("without gates the usual metrics are looked at") {
  Spec s = spec();
  s.gates.clear();
  const std::vector<PilotEffect> effects = effects_of_pilot(s, plan_of(64), pilot(), "p");
  CHECK(of(effects, "perplexity.ratio", "bf16").least);
  CHECK(of(effects, "kl.mean", "bf16").least);
  CHECK(of(effects, "top1.agreement", "bf16").least);
}

TEST_CASE("a pilot of another protocol, context or checkpoint is refused by name of what differs") {
  const Spec s = spec();
  ExperimentRecord other = pilot();
  other.provenance.protocol = "llamacpp";
  CHECK_THROWS_WITH(effects_of_pilot(s, plan_of(64), other, "p"),
                    ContainsSubstring("pilot p says nothing about this plan: the protocol differs (llamacpp, planned"));
  other = pilot();
  other.provenance.context = 128;
  CHECK_THROWS_WITH(effects_of_pilot(s, plan_of(64), other, "p"),
                    ContainsSubstring("the context differs (128, planned 256)"));
  other = pilot();
  other.models[0].content_hash = "x";
  CHECK_THROWS_WITH(effects_of_pilot(s, plan_of(64), other, "p"),
                    ContainsSubstring("the checkpoint of model softmax differs (x"));
}
