// Faults planted in a kernel, each run through a whole experiment: the record must name the layer, the head, the tap and the
// party, and nobody where nothing was planted.
#include "eval/metrics/blame.h"

#include <catch2/catch_test_macros.hpp>

#include "kernels/registry/registry.h"
#include "tests/eval/experiment/checkpoints.h"
#include "tests/support/faulty_backend.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

namespace {

TargetSpec target_of(const std::string& weights, const std::string& activations, const std::string& v,
                     const std::string& p) {
  TargetSpec t;
  t.name = "t";
  t.linear = {quant::parse_scheme(weights), quant::parse_scheme(activations)};
  t.attention.q = t.attention.k = quant::parse_scheme(activations);
  t.attention.v = quant::parse_scheme(v);
  t.attention.p = kernels::parse_prob_scheme(p);
  return t;
}
TargetSpec int8() { return target_of("int8/channel", "int8/token", "int8/channel", "uint8"); }
TargetSpec fp8() { return target_of("e4m3/channel", "e4m3/token", "e4m3/channel", "e4m3"); }

Blame blame_of(const std::string& model, const TargetSpec& target, Fault fault, const FaultPlace& place) {
  Spec spec = checkpoint_spec(model);
  spec.data.windows = 1;
  spec.targets = {target};
  spec.metrics.sink_windows = 0;
  const ExperimentRecord record =
      run_experiment(spec, {}, std::atomic<bool>(false), [&](const std::string& name, int device) {
        std::unique_ptr<kernels::Backend> backend = kernels::make_backend(name, device);
        if (name != "cpu" || fault == Fault::none) return backend;
        return std::unique_ptr<kernels::Backend>(std::make_unique<FaultyBackend>(std::move(backend), fault, place));
      });
  const RunRecord& run = *record.find(model, "t");
  REQUIRE(run.status == RunStatus::ok);
  return blame(run.layers, {});
}
Blame blame_of(const TargetSpec& target, Fault fault, const FaultPlace& place = {}) {
  return blame_of("tiny-softmax", target, fault, place);
}

bool has_cpu() { return kernels::make_backend("cpu")->available().ok; }

}  // namespace

TEST_CASE("a head's V scale off by 1 %: the kernel, in that layer and head, at the output, by its gain", "[blame]") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  for (const TargetSpec& target : {int8(), fp8()}) {
    const Blame found = blame_of(target, Fault::v_scale, {2, 1});
    REQUIRE(found.kernel);
    CHECK(found.kernel->layer == 2);
    CHECK(found.kernel->head == 1);
    CHECK(found.kernel->tap == "output");
    CHECK(std::fabs(*found.kernel->gain - 1.01) < 1e-4);
    CHECK(found.kernel->places <= 2);     // that head, and the heads pooled
    CHECK(found.party == Party::format);  // 1 % of one head is less than the format's worst
  }
}

TEST_CASE("a layer's K transposed within a head: the kernel, there, in the probabilities that it makes", "[blame]") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  for (const TargetSpec& target : {int8(), fp8()}) {
    const Blame found = blame_of(target, Fault::k_transposed, {3, 0});
    REQUIRE(found.kernel);
    CHECK(found.kernel->layer == 3);
    CHECK(found.kernel->head == 0);
    CHECK(found.kernel->tap == "probs");
    CHECK(*found.kernel->kl > 0.1);
    CHECK(found.kernel->places <= 6);  // probs, p_codes, output: that head, and the heads pooled
    REQUIRE(found.damage);             // it is also the worst local error of all, and the kernel's
    CHECK(found.damage->layer == 3);
    CHECK(found.damage->head == 0);
    CHECK(found.damage->tap == "output");
    CHECK(found.party == Party::kernel);
  }
}

TEST_CASE("P coded at scale 1 where 256 was asked: the kernel, the codes of P, in every head of where it is", "[blame]") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  FaultPlace everywhere;
  everywhere.layer = -1;
  const Blame found = blame_of(fp8(), Fault::p_scale, everywhere);
  REQUIRE(found.kernel);
  // Every nonzero code is another. At the output it shows in one head of all alone, where attention is spread widest:
  // elsewhere the mass below 2^-10 is less than P codes that round the other way may carry.
  CHECK(found.kernel->layer == -1);
  CHECK(found.kernel->head == -1);
  CHECK(found.kernel->tap == "p_codes");
  CHECK(*found.kernel->histogram_distance > 0.9);
  CHECK(found.kernel->places >= 6 * 3);  // every head and those pooled of six layers, and outputs where they show
  CHECK(found.kernel->places <= 6 * 3 + 4);
  const Blame here = blame_of(fp8(), Fault::p_scale, {3, 0});
  REQUIRE(here.kernel);
  CHECK(here.kernel->layer == 3);
  CHECK(here.kernel->head == -1);
  CHECK(here.kernel->tap == "p_codes");
  CHECK(here.kernel->places >= 3);
}

TEST_CASE("linears that keep 14 bits of a sum: the kernel, the linears of every layer, attention untouched", "[blame]") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  const Blame found = blame_of(fp8(), Fault::fast_accum);
  REQUIRE(found.kernel);
  CHECK(found.kernel->layer == -1);
  CHECK(found.kernel->head == -1);
  CHECK(found.kernel->tap != "output");
  CHECK(found.kernel->tap != "probs");
  CHECK(found.kernel->places == 6 * 12);       // q, k, v by head and pooled; attn_out, ffn_act, ffn_out
  CHECK(found.kernel->of == 6 * (5 * 3 + 6));  // and output, probs and p_codes
  CHECK(found.party == Party::format);         // the format costs more than the narrow sum
}

TEST_CASE("one output channel with a stale weight scale: the kernel, that linear's tap, the channel's head", "[blame]") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  struct Case {
    const char *linear, *tap;
    int channel, head;
  };
  for (const Case& c : {Case{"k_proj", "k", 70, 1}, Case{"v_proj", "v", 3, 0}, Case{"fc2", "ffn_out", 5, -1}}) {
    CAPTURE(c.linear);
    const Blame found = blame_of(int8(), Fault::stale_scale, {4, 0, c.linear, c.channel});
    REQUIRE(found.kernel);
    CHECK(found.kernel->layer == 4);
    CHECK(found.kernel->head == c.head);
    CHECK(found.kernel->tap == c.tap);
    CHECK(found.kernel->places <= 2);
  }
}

TEST_CASE("nothing planted, nobody suspected: every tiny model under INT8, FP8 and bf16", "[blame]") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  TargetSpec stored = fp8();
  stored.attention.scores_storage = quant::DType::bf16;
  TargetSpec running = fp8();
  running.attention.p = kernels::parse_prob_scheme("e4m3/running_forward(64)");
  for (const char* model : {"tiny-softmax", "tiny-vga-output", "tiny-vga-value", "tiny-sink"})
    for (const TargetSpec& target :
         {int8(), fp8(), stored, running, target_of("int8/tensor", "int8/tensor", "int8/tensor", "uint8"),
          target_of("e5m2/tensor", "e5m2/tensor", "e5m2/tensor", "e5m2"), target_of("bf16", "bf16", "bf16", "bf16")}) {
      const Blame found = blame_of(model, target, Fault::none, {});
      CAPTURE(model, quant::to_string(target.attention.q), kernels::to_string(target.attention.p));
      CHECK_FALSE(found.kernel);
      CHECK(found.damage);
      CHECK(found.party == Party::format);
    }
}
