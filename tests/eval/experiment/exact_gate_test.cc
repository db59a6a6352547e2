// Exact gates: hashes of a run's tensors, whole experiments through; what changed first is named, and what isn't comparable
// never passes.
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <fstream>

#include "eval/experiment/gates.h"
#include "eval/experiment/spec_reader.h"
#include "eval/experiment/tensor_hasher.h"
#include "eval/model/checkpoint.h"
#include "kernels/registry/registry.h"
#include "quant/core/error.h"
#include "tests/eval/experiment/checkpoints.h"
#include "tests/support/faulty_backend.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

namespace {

const std::string taps_gate = "  same: {exact: taps, relative_to: {file: b.json}}\n";
const std::string logits_gate = "  same: {exact: logits, relative_to: {file: b.json}}\n";

std::vector<GateSpec> gates_of(const std::string& text) { return read_gates("/x/g.yaml", "gates:\n" + text); }

/// One model, one INT8 target on the reference backend, 3 windows in chunks of 2, 2 of them hashed.
ExperimentRecord run_with(const std::string& gates, Fault fault = Fault::none, const FaultPlace& place = {},
                          std::int64_t chunk = 2, const std::string& model = "tiny-softmax") {
  Spec spec = checkpoint_spec(model);
  spec.data.windows = 3;
  spec.data.context = 32;
  spec.metrics.local_windows = 2;
  spec.metrics.sink_windows = spec.metrics.kernel_windows = 0;
  spec.run.chunk_windows = chunk;
  spec.baseline.backend = "reference";
  TargetSpec target;
  target.name = "int8";
  target.backend = "reference";
  target.linear = {quant::parse_scheme("int8/channel"), quant::parse_scheme("int8/token")};
  target.attention.q = target.attention.k = quant::parse_scheme("int8/token");
  target.attention.v = quant::parse_scheme("int8/channel");
  target.attention.p = kernels::parse_prob_scheme("uint8");
  spec.targets = {target};
  if (!gates.empty()) spec.gates = gates_of(gates);
  return run_experiment(spec, {}, std::atomic<bool>(false), [&](const std::string& name, int device) {
    std::unique_ptr<kernels::Backend> backend = kernels::make_backend(name, device);
    if (fault == Fault::none) return backend;
    return std::unique_ptr<kernels::Backend>(std::make_unique<FaultyBackend>(std::move(backend), fault, place));
  });
}

GateRecord verdict(const std::string& gates, const ExperimentRecord& now, const SavedBaseline& saved) {
  return evaluate_gates(now, gates_of(gates), {{"/x/b.json", saved}}, "2026-11-24").at(0);
}

bool says(const GateRecord& gate, const std::string& words) { return gate.words.find(words) != std::string::npos; }

}  // namespace

TEST_CASE("the hash of a head is the hash of its own numbers, window by window", "[exact]") {
  const auto backend = kernels::make_backend("reference");
  // Two windows of two tokens, two heads of one number: 1 2 | 3 4 and 5 6 | 7 8.
  quant::Tensor q(quant::DType::f32, quant::Shape{2, 2, 2});
  for (int i = 0; i < 8; ++i) q.view<float>().data()[i] = static_cast<float>(i + 1);
  LayerTrace trace;
  trace.hidden_in = trace.attn_in = trace.q = trace.k = trace.v = trace.output = trace.attn_out = trace.ffn_in =
      trace.ffn_act = trace.ffn_out = trace.residual = backend->upload(q);
  TensorHasher hasher(true);
  hasher.add_layer(0, trace, *backend, 2, 2);
  const auto bytes = [](std::initializer_list<float> numbers) {
    std::vector<std::byte> all(numbers.size() * 4);
    std::memcpy(all.data(), std::data(numbers), all.size());
    return all;
  };
  const auto chained = [&](std::initializer_list<float> first, std::initializer_list<float> second) {
    const std::vector<std::byte> a = bytes(first), b = bytes(second);
    const std::string before = bytes_hash({a});
    return bytes_hash({std::as_bytes(std::span(before)), b});
  };
  const TensorHashes found = hasher.hashes();
  REQUIRE(found.tensors.size() == 11);
  CHECK(found.tensors[0].first == "embedding");
  CHECK(found.tensors[0].second == std::vector<std::string>{chained({1, 2, 3, 4}, {5, 6, 7, 8})});
  CHECK(found.tensors[2].first == "layer0.q");
  CHECK(found.tensors[2].second == std::vector<std::string>{chained({1, 3}, {5, 7}), chained({2, 4}, {6, 8})});
}

TEST_CASE("without an exact gate nothing is hashed; logits alone hash logits alone", "[exact]") {
  CHECK_FALSE(run_with("").runs[1].hashes);
  const ExperimentRecord logits = run_with(logits_gate);
  REQUIRE(logits.runs[1].hashes);
  CHECK(logits.runs[1].hashes->tensors.size() == 1);
  CHECK(logits.runs[1].hashes->windows == 2);
  CHECK_FALSE(logits.runs[0].hashes);
  const ExperimentRecord taps = run_with(taps_gate);
  CHECK(taps.runs[1].hashes->tensors.size() == 1 + 6 * 10 + 1);
  CHECK(taps.runs[1].hashes->tensors.back() == logits.runs[1].hashes->tensors[0]);
  CHECK(taps.runs[1].hashes->key.at("backend") == "reference");
  CHECK(taps.runs[1].hashes->key.contains("implementation of attention"));
  CHECK(run_with(taps_gate, Fault::none, {}, 1).runs[1].hashes->tensors.size() == 62);
  const ExperimentRecord gated = run_with(taps_gate, Fault::none, {}, 2, "tiny-vga-value");
  CHECK(gated.runs[1].hashes->tensors.size() == 1 + 6 * 11 + 1);  // the gate's logits too
}

TEST_CASE("the same bits pass, whatever is saved in between; a fault is named where it first shows", "[exact]") {
  const ExperimentRecord good = run_with(taps_gate);
  const SavedBaseline made = baseline_of(good, gates_of(taps_gate));
  const fs::path file = fs::temp_directory_path() / "qfid-exact-gate-test.json";
  std::ofstream(file, std::ios::binary) << baseline_json(made);
  const SavedBaseline saved = read_baseline(file);
  CHECK(baseline_json(saved) == baseline_json(made));
  const GateRecord pass = verdict(taps_gate, run_with(taps_gate), saved);
  CHECK(pass.verdict == GateVerdict::pass);
  CHECK(pass.words == "exact.taps relative to file b.json: 62 tensors of 2 windows are the same, bit for bit");
  CHECK(verdict(logits_gate, good, saved).verdict == GateVerdict::pass);
  CHECK(verdict(taps_gate, run_with(taps_gate, Fault::stale_scale, {5, 0, "fc2", 3}), saved).statistics.effect == 3);
  const GateRecord scale = verdict(taps_gate, run_with(taps_gate, Fault::v_scale, {2, 1}), saved);
  CHECK(scale.verdict == GateVerdict::fail);
  CHECK(scale.blocks());
  CHECK(says(scale, "layer 2, head 1, output is the first of 37 tensors (of 62) that changed"));
  CHECK(says(verdict(taps_gate, run_with(taps_gate, Fault::stale_scale, {4, 0, "k_proj", 70}), saved),
             "layer 4, head 1, k is the first of "));
  CHECK(says(verdict(logits_gate, run_with(logits_gate, Fault::v_scale, {5, 0}), saved), "the logits of 2 windows changed"));
}

TEST_CASE("another key, or no hashes, is never a pass and says why", "[exact]") {
  const ExperimentRecord good = run_with(taps_gate);
  const SavedBaseline saved = baseline_of(good, gates_of(taps_gate));
  const auto changed = [&](const std::string& what, const std::string& value) {
    SavedBaseline other = saved;
    other.runs[0].hashes->key[what] = value;
    return verdict(taps_gate, good, other);
  };
  const GateRecord isa = changed("instruction set", "avx2");
  CHECK(isa.verdict == GateVerdict::inconclusive);
  CHECK(isa.blocks());
  CHECK(says(isa, "not comparable: the instruction set differs ("));
  CHECK(says(isa, ", avx2)"));
  CHECK(says(changed("backend", "gpu"), "the backend differs (reference, gpu)"));
  CHECK(says(changed("implementation of fc1", "x"), "the implementation of fc1 differs ("));
  CHECK(says(changed("implementation of fc9", "x"), "the implementation of fc9 differs (none, x)"));
  CHECK(says(changed("number of threads", "999"), "the number of threads differs ("));
  SavedBaseline fewer = saved;
  fewer.runs[0].hashes->tensors.erase(fewer.runs[0].hashes->tensors.begin() + 3);
  CHECK(says(verdict(taps_gate, good, fewer), "one side has no hash of layer0.k"));
  const ExperimentRecord bare = run_with("");
  CHECK(says(verdict(taps_gate, bare, saved), "these results hold no hashes of taps"));
  SavedBaseline logits = baseline_of(run_with(logits_gate), gates_of(logits_gate));
  CHECK(says(verdict(taps_gate, good, logits), "holds no hashes of taps: qfid baseline update"));
  CHECK_THROWS_AS(baseline_of(bare, gates_of(taps_gate)), quant::Error);
}

TEST_CASE("exact gates don't weigh on the others, and their mistakes have a place", "[exact]") {
  const auto message = [](const std::string& gates) {
    try {
      read_gates("g.yaml", "gates:\n" + gates);
    } catch (const quant::Error& error) { return std::string(error.what()); }
    return std::string();
  };
  CHECK(message("  a: {exact: taps}\n") ==
        "g.yaml:2:6: gate \"a\" is exact, expected relative_to: {file: ...}, a saved baseline");
  CHECK(message("  a: {exact: taps, max: 1, relative_to: {file: b}}\n").find("is exact and has no max") !=
        std::string::npos);
  CHECK(message("  a: {exact: logits, relative_to: {target: t}}\n").find("expected relative_to: {file") !=
        std::string::npos);
  CHECK(message("  a: {exact: tips, relative_to: {file: b}}\n").find("did you mean \"taps\"?") != std::string::npos);
  CHECK(message("  a: {max: 1}\n").find("expected one of metric, exact") != std::string::npos);
}
