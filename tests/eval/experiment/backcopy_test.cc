// Bigram-backcopy from the configuration's generator to the record: trained checkpoints show what their training saw.
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/experiment/training_claims.h"
#include "quant/core/error.h"
#include "tests/eval/experiment/checkpoints.h"

using namespace qfid::eval;
namespace fs = std::filesystem;

namespace {

const fs::path configs = fs::path(QFID_SOURCE_DIR) / "configs";

Spec backcopy_spec(const std::string& group, std::initializer_list<int> steps) {
  Spec spec;
  spec.name = "test";
  spec.file = "test.yaml";
  for (const int step : steps) {
    const std::string written = "backcopy/" + group + "/step-" + std::to_string(step);
    spec.models.push_back({group + "-" + std::to_string(step), configs / "models" / written, written, group, 0, step});
  }
  spec.data.backcopy = BackcopySource{configs / "data/bigram-backcopy", 1, 64, 64};
  spec.baseline.name = "baseline";
  spec.metrics.sink_windows = 64;
  return spec;
}

ExperimentRecord record_of(const Spec& spec) {
  const std::atomic<bool> stop{false};
  return run_experiment(spec, {}, stop);
}

double value(const ExperimentRecord& record, const std::string& model, const std::string& name) {
  const RunRecord* run = record.find(model, "baseline");
  REQUIRE(run != nullptr);
  const Metric* metric = find_metric(*run, name);
  REQUIRE(metric != nullptr);
  REQUIRE(metric->value);
  return *metric->value;
}

/// What training.json says PyTorch measured, on 256 other sequences.
double trained(const std::string& group, int step, const char* name) {
  std::ifstream file(configs / "models/backcopy" / group / ("step-" + std::to_string(step)) / "training.json");
  return nlohmann::json::parse(file).at(name).get<double>();
}

std::string error_of(const Spec& spec) {
  try {
    record_of(spec);
  } catch (const qfid::quant::Error& error) { return error.what(); }
  return "";
}

}  // namespace

TEST_CASE("checkpoints show what PyTorch saw when they were trained") {
  // Means over 64 and 256 other sequences, weights rounded to bf16: .05 is several deviations of each, and the checkpoints
  // lie far further apart.
  for (const char* group : {"softmax", "vga-value"}) {
    const ExperimentRecord record = record_of(backcopy_spec(group, {0, 68, 10000}));
    for (const int step : {0, 68, 10000}) {
      CAPTURE(group, step);
      const std::string model = std::string(group) + "-" + std::to_string(step);
      for (const auto& [ours, theirs] :
           {std::pair{"backcopy.excess_risk.bigram", "excess_bigram"}, std::pair{"backcopy.excess_risk.copy", "excess_copy"},
            std::pair{"backcopy.attention_to_first.bigram", "attention_bigram"},
            std::pair{"backcopy.attention_to_first.copy", "attention_copy"},
            std::pair{"backcopy.value_norm.ratio", "value_ratio"},
            std::pair{"backcopy.gated_value_norm.ratio", "gated_value_ratio"}}) {
        CAPTURE(ours);
        CHECK(std::abs(value(record, model, ours) - trained(group, step, theirs)) < 0.05);
      }
    }
    CHECK(value(record, std::string(group) + "-0", "backcopy.excess_risk.bigram") > 1);
  }
}

TEST_CASE("trained softmax has learnt the task, sinks and drains; before training it hasn't") {
  const ExperimentRecord record = record_of(backcopy_spec("softmax", {10000, 0}));
  const std::vector<Training> all = trainings(record);
  REQUIRE(all.size() == 1);
  REQUIRE(all[0].checkpoints.size() == 2);
  CHECK(all[0].checkpoints[1]->step == 10000);
  for (const TrainingClaim& claim : training_claims(record, all[0], "baseline")) {
    CAPTURE(claim.bound->metric);
    CHECK(claim.verdict == TrainingVerdict::reproduced);
    CHECK(claim.since == 10000);
  }
  const ExperimentRecord untrained = record_of(backcopy_spec("softmax", {0}));
  for (const TrainingClaim& claim : training_claims(untrained, trainings(untrained)[0], "baseline"))
    CHECK(claim.verdict == TrainingVerdict::not_reproduced);
  const ExperimentRecord last = without_earlier_checkpoints(record);
  CHECK(last.models.size() == 1);
  CHECK(last.models[0].name == "softmax-10000");
  CHECK(last.runs.size() == 1);
}

TEST_CASE("models, positions and windows that don't go with the sequences are refused") {
  Spec spec = backcopy_spec("softmax", {0});
  spec.models = {{"tiny", configs / "models/tiny-softmax", "tiny"}};
  const std::string tables = (configs / "data/bigram-backcopy").string();
  CHECK(error_of(spec) ==
        "test.yaml: model tiny begins with token 2 (bos_token_id), bigram-backcopy of " + tables + " with 65");
  spec = backcopy_spec("softmax", {0});
  spec.data.first_token = 10;
  CHECK(error_of(spec) == "test.yaml: data.first_token 10 isn't where a sequence of bigram-backcopy of " + tables +
                              " begins, expected a multiple of its 64 tokens");
  spec = backcopy_spec("softmax", {0});
  spec.data.backcopy->length = 65;
  CHECK(error_of(spec) == "test.yaml: context 65 is above the model's 64 positions");
}
