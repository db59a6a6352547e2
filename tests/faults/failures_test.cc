// What fails in the middle of a run: numbers that aren't finite, a device that is lost, memory that is short. It is named,
// by model, target, layer, tap and window; everything else is reported; and what may succeed another time is tried again.
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <iostream>

#include "eval/cli/run_parts.h"
#include "eval/experiment/journal.h"
#include "eval/experiment/runner.h"
#include "eval/experiment/spec_reader.h"
#include "eval/report/report.h"
#include "kernels/registry/registry.h"
#include "tests/support/faulty_backend.h"
#include "tests/support/tiny_experiment.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

const std::atomic<bool> never{false};

/// A model whose tensor has this value in one place.
void write_spoiled(const TemporaryDirectory& dir, const std::string& folder, const std::string& tensor, float value) {
  RawTensors tensors = tiny_tensors();
  std::memcpy(tensors.at("model.decoder." + tensor).data.data(), &value, sizeof value);
  write_model(dir, folder, tiny_config(), tensors);
}

/// int8 runs on the cpu backend, which a fault is planted in, fp8 and full precision on the reference.
struct Planted {
  TinyExperiment x;
  Spec spec;
  Planted() {
    x.dir.write("x.yaml", replaced(TinyExperiment::text(), "int8: {backend: reference", "int8: {backend: cpu"));
    spec = read_spec(x.config_path, {});
    fs::create_directories(x.out("o"));
  }
  static BackendMaker with(Fault fault, FaultPlace place) {
    return [=](const std::string& name, int device) {
      std::unique_ptr<kernels::Backend> backend = kernels::make_backend(name, device);
      if (name != "cpu" || fault == Fault::none) return backend;
      return std::unique_ptr<kernels::Backend>(std::make_unique<FaultyBackend>(std::move(backend), fault, place));
    };
  }
  /// The record, and how many units its journal holds.
  std::pair<ExperimentRecord, std::int64_t> run(Fault fault, const FaultPlace& place) const {
    Journal journal(x.out("o"), {.restart = false, .forgets = false, .shard = {}, .origin = "", .say = {}});
    ExperimentRecord record = run_experiment(spec, {}, never, journal, with(fault, place));
    leave_out_timings(record);
    return {std::move(record), journal.kept()};
  }
};

bool has_cpu() { return kernels::make_backend("cpu")->available().ok; }

}  // namespace

TEST_CASE("weights that aren't finite, or overflow: model, layer and tap are named; the other model is reported") {
  int faults = 0;
  for (const float value : {INFINITY, NAN, 3e38F})
    for (const auto& [tensor, tap] :
         std::vector<std::pair<std::string, std::string>>{{"embed_tokens.weight", "embedding"},
                                                          {"layers.0.self_attn_layer_norm.weight", "attn_in of layer 0"},
                                                                                                       {"layers.0.self_attn.v_proj.weight", "attn_out of layer 0"},
                                                          {"layers.0.self_attn.out_proj.weight", "attn_out of layer 0"},
                                                          {"layers.0.final_layer_norm.weight", "ffn_in of layer 0"},
                                                          {"layers.0.fc2.weight", "ffn_out of layer 0"},
                                                          {"final_layer_norm.weight", "final_norm"}}) {
      CAPTURE(value, tensor);
      const TinyExperiment x;
      write_spoiled(x.dir, "m", tensor, value);
      const Outcome outcome = x.run("o");
      CAPTURE(outcome.err);
      const nlohmann::json results = nlohmann::json::parse(read_file(x.dir.path() / "o/results.json"));
      int sound = 0;
      for (const auto& run : results["runs"]) sound += run["model"] == "n" && run["status"] == "ok" ? 1 : 0;
      CHECK(sound == 3);
      if (outcome.code == 0) {  // large, and yet everything is finite
        CHECK(value == 3e38F);
        continue;
      }
      ++faults;
      CHECK(outcome.code == 5);
      CHECK(outcome.err.find("m / baseline failed: non-finite logits: window ") != std::string::npos);
      if (!std::isfinite(value)) CHECK(outcome.err.find("; the first ones are in " + tap) != std::string::npos);
      CHECK((outcome.err.find("; the first ones are in ") != std::string::npos ||
             outcome.err.find("; every tap before them is finite") != std::string::npos));
      CHECK(outcome.err.find("m / int8 failed: ") != std::string::npos);
      CHECK(outcome.err.find("n / ") == std::string::npos);
      const Outcome second = x.run("o");  // finished: it would fail again
      CHECK(second.code == 5);
    }
  std::cout << faults << " faults injected into weights\n";
  CHECK(faults >= 14);
}

TEST_CASE("one target's numbers aren't finite: it fails by name, layer, tap and window; baseline and others are reported") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  const Planted p;
  const auto [record, kept] = p.run(Fault::not_finite, {.layer = 0, .linear = "fc2", .channel = 3});
  for (const char* model : {"m", "n"}) {
    const RunRecord& failed = *record.find(model, "int8");
    CHECK(failed.status == RunStatus::failed);
    CHECK(failed.message.starts_with("non-finite logits: window 0, position "));
    CHECK(failed.message.find("; the first ones are in ffn_out of layer 0: 1 of ") != std::string::npos);
    CHECK(record.find(model, "fp8")->status == RunStatus::ok);
    CHECK(record.find(model, "baseline")->status == RunStatus::ok);
    if (std::string_view(model) == "m") break;  // the fault is planted in the first quantized layer alone
  }
  CHECK_FALSE(record.unfinished);
  CHECK(kept > 10);
}

TEST_CASE("a device is lost, or memory is short, anywhere: named with its place, the others are reported, then taken up") {
  if (!has_cpu()) SKIP("the cpu backend isn't part of this build");
  int faults = 0;
  for (const Fault fault : {Fault::gone, Fault::no_memory})
    for (const int calls : {0, 1, 7, 20, 47, 80, 115, 140, 170, 200, 230}) {
      CAPTURE(static_cast<int>(fault), calls);
      const Planted p;
      ExperimentRecord whole = run_experiment(p.spec, {}, never);
      leave_out_timings(whole);
      const auto [record, kept] = p.run(fault, {.calls = calls});
      const RunRecord& m = *record.find("m", "int8");
      CAPTURE(m.message, kept);
      ++faults;
      CHECK(record.unfinished);
      for (const char* model : {"m", "n"}) {
        const RunRecord& other = *record.find(model, "fp8");
        CHECK(other.status == RunStatus::ok);
        const RunRecord& full = *whole.find(model, "fp8");
        REQUIRE(other.metrics.size() == full.metrics.size());
        for (std::size_t i = 0; i < full.metrics.size(); ++i) CHECK(other.metrics[i].value == full.metrics[i].value);
      }
      if (m.status == RunStatus::failed) {
        CHECK((m.message.find("uncorrectable ECC error") != std::string::npos ||
               m.message.starts_with("out of memory on Test GPU")));
        CHECK(m.message.find("layer 0") != std::string::npos);
        CHECK(m.message.find("windows ") != std::string::npos);
      }
      auto [resumed, all] = p.run(Fault::none, {});
      CHECK_FALSE(resumed.unfinished);
      CHECK(all > kept);
      CHECK(results_json(resumed) == results_json(whole));
    }
  std::cout << faults << " devices lost\n";
}
