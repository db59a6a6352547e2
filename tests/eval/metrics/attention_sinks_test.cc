#include "eval/metrics/attention_sinks.h"

#include <catch2/catch_test_macros.hpp>

using namespace qfid;
using namespace qfid::eval;

namespace {

const Metric* named(const std::vector<Metric>& metrics, const std::string& name) {
  for (const Metric& metric : metrics)
    if (metric.name == name) return &metric;
  return nullptr;
}

}  // namespace

TEST_CASE("drains before and after gate and projection, and the gate at the first position, by hand") {
  AttentionSinks sinks(1, 2, 0.3);
  sinks.add_attention(0, {0.5, 0.1}, {});
  // Norms [tokens, heads]: head 0's first value is half of the others', head 1's equal.
  sinks.add_norms(0, {1, 4, 2, 4, 2, 4}, {0.5, 4, 2, 4, 2, 4});
  sinks.add_projected(0, {0.2, 3, 2, 1, 2, 2});
  sinks.add_gates(0, {0.25, 0.75, 0.5, 0.5, 0.5, 0.5});
  const std::vector<bool> only_first{true, false};
  const std::vector<Metric> metrics = sinks.metrics(only_first);
  CHECK(*named(metrics, "drain.v")->value == 0.75);
  CHECK(*named(metrics, "drain.v.sinks")->value == 0.5);
  CHECK(*named(metrics, "drain.v_gated.sinks")->value == 0.25);
  CHECK(*named(metrics, "drain.out.sinks")->value == 0.1);
  CHECK(*named(metrics, "drain.out")->value == (0.1 + 2) / 2);  // head 1: 3 over 1.5
  CHECK(*named(metrics, "gate.at_first")->value == 0.5);
  CHECK(*named(metrics, "gate.at_first.sinks")->value == 0.25);
  CHECK_FALSE(named(sinks.metrics({false, false}), "drain.out.sinks")->value);
  CHECK(sinks.sink_heads() == only_first);
}

TEST_CASE("a drain can't see the direction of a value; without gates there is no gate at the first position") {
  AttentionSinks a(1, 1, 0.3), b(1, 1, 0.3);
  a.add_norms(0, {1, 2, 2}, {1, 2, 2});
  b.add_norms(0, {1, 2, 2}, {1, 2, 2});
  a.add_projected(0, {1, 1, 1});
  b.add_projected(0, {0, 1, 1});  // the projection doesn't see v_0: another direction of the same length
  CHECK(named(a.metrics({false}), "drain.v")->value == named(b.metrics({false}), "drain.v")->value);
  CHECK(named(a.metrics({false}), "drain.out")->value != named(b.metrics({false}), "drain.out")->value);
  CHECK(named(a.metrics({false}), "gate.at_first") == nullptr);
}
