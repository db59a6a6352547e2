// Choosing a target: selection on one half of the windows, confirmation on the other, on records whose truth is known.
#include "eval/experiment/recommend.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "eval/experiment/footprint.h"
#include "eval/experiment/spec_reader.h"
#include "quant/core/error.h"
#include "quant/core/random.h"

using namespace qfid;
using namespace qfid::eval;

namespace {

constexpr int windows = 128, tokens = 100;

/// NLL rises by `first` nats a token on the first half of the windows, by `second` on the other, with noise.
RunRecord run_of(const std::string& target, double first, double second, double seconds, double bytes) {
  quant::Random random(7);
  RunRecord run;
  run.model = "m";
  run.target = target;
  run.seconds = seconds;
  run.metrics.push_back({"weights.bytes", bytes, {}, "bytes", ""});
  for (int w = 0; w < windows; ++w) {
    const double noise = 0.001 * (random.uniform() - 0.5);
    run.windows.tokens.push_back(tokens);
    run.windows.nll.push_back(tokens * (3.0 + (w < windows / 2 ? first : second) + noise));
    run.windows.kl.push_back(0.1);
    run.windows.kl_reverse.push_back(0.1);
    run.windows.top1_agree.push_back(95);
  }
  return run;
}

RunRecord baseline() {
  RunRecord run = run_of("baseline", 0, 0, 10, 400);
  for (double& nll : run.windows.nll) nll = tokens * 3.0;
  return run;
}

std::vector<GateSpec> budget(const std::string& text = "{metric: nll.difference, max: 0.01}") {
  return read_gates("budget", "gates: {b: " + text + "}");
}

const Candidate& of(const Recommendation& r, const std::string& target) {
  for (const Candidate& c : r.candidates)
    if (c.run->target == target) return c;
  throw std::runtime_error("no " + target);
}

std::string choice(const Recommendation& r) { return r.choice ? r.candidates[*r.choice].run->target : ""; }

ExperimentRecord record_of(std::vector<RunRecord> targets) {
  ExperimentRecord record;
  record.models.push_back({"m", "m", "opt", "hash", 1, "softmax", {}});
  record.runs.push_back(baseline());
  for (RunRecord& run : targets) record.runs.push_back(std::move(run));
  return record;
}

}  // namespace

TEST_CASE("the fastest target within the budget is chosen, the smallest under the other objective") {
  const ExperimentRecord record = record_of({run_of("slow", 0.001, 0.001, 8, 200), run_of("fast", 0.005, 0.005, 4, 300),
                                             run_of("faster, beyond", 0.02, 0.02, 2, 100)});
  const Recommendation speed = recommend(record, budget(), Objective::speed).at(0);
  CHECK(choice(speed) == "fast");
  CHECK(speed.selection_windows == 64);
  CHECK(speed.confirmation_windows == 64);
  CHECK_FALSE(of(speed, "faster, beyond").selected);
  CHECK(of(speed, "slow").front);
  CHECK(*of(speed, "fast").tokens_per_second == windows * tokens / 4.0);
  CHECK(choice(recommend(record, budget(), Objective::memory).at(0)) == "slow");
}

TEST_CASE("what is dominated isn't confirmed, and two of the front are confirmed at half the risk each") {
  const ExperimentRecord record = record_of({run_of("fast", 0.001, 0.001, 4, 300), run_of("small", 0.001, 0.001, 8, 200),
                                             run_of("neither", 0.001, 0.001, 9, 300)});
  const Recommendation r = recommend(record, budget(), Objective::speed).at(0);
  CHECK(of(r, "neither").selected);
  CHECK_FALSE(of(r, "neither").front);
  CHECK(of(r, "neither").confirmation.empty());
  CHECK(of(r, "fast").confirmation.at(0).confidence == 1 - 0.01 / 2);
  CHECK(of(r, "fast").selection.at(0).confidence == 0.99);
}

TEST_CASE("what looks good on the first half only is selected and not chosen; the second half never selects") {
  const ExperimentRecord lucky = record_of({run_of("lucky", 0.001, 0.02, 2, 100), run_of("honest", 0.001, 0.001, 4, 90)});
  const Recommendation r = recommend(lucky, budget(), Objective::speed).at(0);
  CHECK(of(r, "lucky").selected);
  CHECK_FALSE(of(r, "lucky").confirmed);
  CHECK(choice(r) == "honest");
  const Recommendation late = recommend(record_of({run_of("late", 0.02, 0.001, 2, 100)}), budget(), Objective::speed).at(0);
  CHECK_FALSE(of(late, "late").selected);
  CHECK(choice(late).empty());
  CHECK(of(late, "late").confirmation.empty());
}

TEST_CASE("inconclusive is not within the budget; runs that failed, and runs no budget is meant for, aren't chosen") {
  RunRecord failed = run_of("failed", 0.001, 0.001, 1, 1);
  failed.status = RunStatus::failed;
  const ExperimentRecord record =
      record_of({run_of("on the bound", 0.01, 0.01, 2, 100), std::move(failed), run_of("other", 0.001, 0.001, 3, 100)});
  const Recommendation r =
      recommend(record, budget("{metric: nll.difference, max: 0.01, targets: \"*n the*\"}"), Objective::speed).at(0);
  CHECK(of(r, "on the bound").selection.at(0).statistics.outcome == GateOutcome::inconclusive);
  CHECK(of(r, "other").selection.empty());
  CHECK(choice(r).empty());
  CHECK(choice(recommend(record, budget(), Objective::speed).at(0)) == "other");
}

TEST_CASE("budgets that halves can't answer, or that match nothing, are errors that say so") {
  const ExperimentRecord record = record_of({run_of("t", 0.001, 0.001, 1, 1)});
  using Catch::Matchers::ContainsSubstring;
  CHECK_THROWS_WITH(recommend(record, budget("{metric: kl.mean, max: 1, relative_to: {file: b.json}}"), Objective::speed),
                    ContainsSubstring("relative to a file"));
  CHECK_THROWS_WITH(recommend(record, budget("{metric: kl.mean, max: 1, targets: x}"), Objective::speed),
                    ContainsSubstring("matches no run (models *, targets x)"));
  ExperimentRecord broken = record;
  broken.runs[0].status = RunStatus::interrupted;
  CHECK_THROWS_WITH(recommend(broken, budget(), Objective::speed), ContainsSubstring("no model has a complete baseline"));
}

TEST_CASE("bytes of weights and of the key/value cache, by hand") {
  ModelConfig config;
  config.vocab_size = 10;
  config.hidden_size = 4;
  config.num_hidden_layers = 1;
  config.ffn_dim = 8;
  config.num_attention_heads = 2;
  config.max_position_embeddings = 6;
  DecoderPrecision precision;
  precision.layers.resize(1);
  // Embeddings 4 (10 + 8), norms 6 * 4, linears 4 * 4 * 4 and 2 * 4 * 8, biases 4 * 4 + 8 + 4: f32.
  CHECK(weight_bytes(config, precision) == 4 * (72 + 24 + 64 + 64 + 28));
  CHECK(kv_bytes_per_token(config, precision) == 2 * 4 * 4);
  precision.layers[0].fc1.weights = quant::parse_scheme("int8/channel");  // 32 codes and 8 scales
  CHECK(weight_bytes(config, precision) == 4 * (72 + 24 + 64 + 32 + 28) + 32 + 8 * 4);
  precision.lm_head.weights = quant::parse_scheme("bf16");  // no longer the embedding's
  CHECK(weight_bytes(config, precision) == 4 * (72 + 24 + 64 + 32 + 28) + 32 + 8 * 4 + 80);
  precision.layers[0].attention.k = quant::parse_scheme("int8/token");
  precision.layers[0].attention.v = quant::parse_scheme("e4m3/tensor");
  CHECK(kv_bytes_per_token(config, precision) == Catch::Approx(4 + 2 * 4 + 4 + 4.0 / 6));  // k: a scale for each head
}
