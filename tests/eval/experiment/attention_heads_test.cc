// Which heads' attention is kept: strongest sinks of the baseline, worst local errors of any target, each once.
#include "eval/experiment/attention_heads.h"

#include <catch2/catch_test_macros.hpp>

using namespace qfid::eval;

TEST_CASE("two sinks and two errors are kept, a head that is both once; runs without numbers are left out", "[attention]") {
  RunRecord base, good, bad, failed;
  base.model = "m";
  base.target = "baseline";
  good.target = "good";
  bad.target = "bad";
  failed.target = "failed";
  for (RunRecord* run : {&base, &good, &bad}) run->metrics = {{"perplexity", 1.0, {}, "", ""}};
  for (int h = 0; h < 4; ++h) base.layers.push_back({0, "attention_to_first", h, "none", {{"alpha0.q64", 0.1 * h}}});
  good.layers = {{0, "output", 3, "local", {{"nmse", 0.5}}}, {0, "output", -1, "local", {{"nmse", 9.0}}}};
  bad.layers = {{0, "output", 3, "local", {{"nmse", 0.7}}},
                {0, "output", 1, "local", {{"nmse", 0.6}}},
                {0, "output", 0, "local", {{"nmse", 0.1}}},
                {0, "q", 0, "local", {{"nmse", 8.0}}},
                {0, "output", 0, "cumulative", {{"nmse", 7.0}}}};
  AttentionSketches sketches;
  for (int h = 0; h < 4; ++h) sketches[{0, h}] = {1, {{1000}, {h, 1000 - h}}};
  const auto heads = attention_heads({&base, &good, &bad, &failed}, {&sketches, &sketches, &sketches, &sketches});
  REQUIRE(heads.size() == 3);
  CHECK(heads[0].head == 3);
  CHECK(heads[0].why == "among the baseline's strongest sinks, among the worst local errors of attention (bad)");
  CHECK(heads[1].head == 2);
  CHECK(heads[2].head == 1);
  CHECK(heads[2].why == "among the worst local errors of attention (bad)");
  REQUIRE(heads[0].maps.size() == 3);
  CHECK(heads[0].maps[0].first == "baseline");
  CHECK(heads[0].maps[2].first == "bad");
  CHECK(heads[2].maps[0].second == std::vector<std::vector<int>>{{1000}, {1, 999}});
  const AttentionSketches none;
  CHECK(attention_heads({&base, &bad}, {&none, &none}).empty());
  CHECK(attention_heads({}, {}).empty());
}
