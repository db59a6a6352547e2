// The answer of `qfid recommend`, in words and as JSON.
#include <catch2/catch_test_macros.hpp>

#include "eval/experiment/spec_reader.h"
#include "eval/report/report.h"

using namespace qfid::eval;

namespace {

RunRecord run_of(const std::string& target, double rise, double seconds, double bytes) {
  RunRecord run;
  run.model = "m";
  run.target = target;
  run.seconds = seconds;
  run.metrics.push_back({"weights.bytes", bytes, {}, "bytes", ""});
  for (int w = 0; w < 128; ++w) {
    run.windows.tokens.push_back(100);
    run.windows.nll.push_back(100 * (3 + rise * (1 + 0.1 * ((w * 37) % 11 - 5))));
    run.windows.kl.push_back(0);
    run.windows.kl_reverse.push_back(0);
    run.windows.top1_agree.push_back(100);
  }
  return run;
}

std::vector<GateSpec> budget(const std::string& bound) {
  return read_gates("budget", "gates: {b: {metric: nll.difference, max: " + bound + "}}");
}

}  // namespace

TEST_CASE("a recommendation in words and as JSON") {
  ExperimentRecord record;
  record.models.push_back({"m", "m", "opt", "hash", 1, "softmax", {}});
  record.runs = {run_of("baseline", 0, 10, 400), run_of("good", 0.001, 4, 1048576), run_of("bad", 0.05, 2, 100)};
  const std::vector<Recommendation> all = recommend(record, budget("0.01"), Objective::speed);
  const std::string text = console_recommendation(record, all), json = recommendation_json(all);
  CHECK(text.starts_with("Model m: good\n"));
  CHECK(text.find("=> good") != std::string::npos);
  CHECK(text.find("3200 tokens/s (2.50x the baseline's), weights 1.00 MiB") != std::string::npos);
  CHECK(text.find("fail on the first half: nll.difference is 0.05") != std::string::npos);
  CHECK(json.find("\"choice\": \"good\"") != std::string::npos);
  const std::vector<Recommendation> nothing = recommend(record, budget("0.0001"), Objective::speed);
  CHECK(console_recommendation(record, nothing).starts_with("Model m: none: no target is shown to be within the budget"));
  CHECK(recommendation_json(nothing).find("\"choice\": null") != std::string::npos);
}
