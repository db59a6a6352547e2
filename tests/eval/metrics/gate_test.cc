// Verdicts by hand: the three outcomes, both directions, small samples, no variance, no events, Holm.
#include "eval/metrics/gate.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "eval/metrics/interval.h"
#include "quant/core/error.h"
#include "quant/core/random.h"

using namespace qfid;
using namespace qfid::eval;

namespace {

const std::vector<std::int64_t> counts(32, 10);

/// 32 windows of 10 tokens, mean 1 per token, standard deviation of the window means 0.1.
std::vector<double> noisy() {
  std::vector<double> sums;
  quant::Random random(3);
  for (int i = 0; i < 32; ++i) sums.push_back(10 + random.normal());
  return sums;
}

GateStatistics verdict(const std::vector<double>& sums, GateBound bound, SumKind kind = SumKind::real) {
  return evaluate_bound(sums, std::span(counts).first(sums.size()), kind, bound, 0.99);
}

}  // namespace

TEST_CASE("three outcomes, for max and for min", "[gates]") {
  const std::vector<double> sums = noisy();
  CHECK(verdict(sums, {0.5, true}).outcome == GateOutcome::fail);
  CHECK(verdict(sums, {1.5, true}).outcome == GateOutcome::pass);
  CHECK(verdict(sums, {0.5, false}).outcome == GateOutcome::pass);
  CHECK(verdict(sums, {1.5, false}).outcome == GateOutcome::fail);
  const GateStatistics open = verdict(sums, {1.01, true});
  CHECK(open.outcome == GateOutcome::inconclusive);
  CHECK(open.limits->low < 1.01);
  CHECK(open.limits->high > 1.01);
  CHECK(*open.detectable > 0.02);  // more than the standard error of 0.018
  CHECK(*open.detectable < 0.5);
  CHECK(*open.windows_needed > 32);
}

TEST_CASE("a pilot's detectable difference: what a verdict says at as many windows, less with more", "[gates]") {
  const std::vector<double> sums = noisy();
  const auto at = [&](std::int64_t windows) { return detectable_difference(sums, counts, SumKind::real, 0.99, windows); };
  CHECK(at(32) == *verdict(sums, {1.01, true}).detectable);
  CHECK(at(128) < at(32) / 2);  // half by the windows' number, the rest by the degrees of freedom
  CHECK(at(128) > at(32) / 4);
  CHECK(at(16) > at(32));
  CHECK_THROWS_AS(at(15), quant::Error);
  CHECK_THROWS_AS(detectable_difference(std::span(sums).first(15), std::span(counts).first(15), SumKind::real, 0.99, 32),
                  quant::Error);
}

TEST_CASE("the verdict is where the bound lies to the limits", "[gates]") {
  const std::vector<double> sums = noisy();
  const Interval limits = *verdict(sums, {1, true}).limits;
  const double mean = MeanTest(sums, counts).mean(), hair = 1e-9;
  CHECK(limits.low < mean);
  CHECK(mean < limits.high);
  CHECK(verdict(sums, {limits.low - hair, true}).outcome == GateOutcome::fail);
  CHECK(verdict(sums, {limits.low + hair, true}).outcome == GateOutcome::inconclusive);
  CHECK(verdict(sums, {limits.high - hair, true}).outcome == GateOutcome::inconclusive);
  CHECK(verdict(sums, {limits.high + hair, true}).outcome == GateOutcome::pass);
  // Never narrower than Student's t alone.
  const double half = student_t_quantile(0.99, 31) * clustered_mean(sums, counts, 0.5).standard_error;
  CHECK(limits.high - mean >= half * (1 - 1e-9));
  CHECK(mean - limits.low >= half * (1 - 1e-9));
}

TEST_CASE("below 16 windows nothing is settled", "[gates]") {
  const std::vector<double> sums(15, 0.0);
  const GateStatistics few = verdict(sums, {1, true});
  CHECK(few.outcome == GateOutcome::inconclusive);
  CHECK_FALSE(few.limits);
  CHECK(verdict({}, {1, true}).outcome == GateOutcome::inconclusive);
  CHECK(verdict(std::vector<double>(16, 0.0), {1, true}).outcome == GateOutcome::pass);
}

TEST_CASE("windows that don't vary are taken at their word, and a value on its bound is within it", "[gates]") {
  const std::vector<double> sums(32, 10.0);
  for (const bool upper : {true, false}) {
    CHECK(verdict(sums, {1, upper}).outcome == GateOutcome::pass);
    CHECK(verdict(sums, {upper ? 1.1 : 0.9, upper}).outcome == GateOutcome::pass);
    CHECK(verdict(sums, {upper ? 0.9 : 1.1, upper}).outcome == GateOutcome::fail);
  }
  std::vector<double> rounded = sums;
  rounded[3] += 1e-14;
  CHECK(verdict(rounded, {0.9, true}).outcome == GateOutcome::fail);
}

TEST_CASE("events that didn't happen may still have been missed", "[gates]") {
  const std::vector<double> none(32, 0.0), all(32, 10.0);  // 320 tokens, 213 effective
  CHECK(verdict(none, {0.001, true}, SumKind::events).outcome == GateOutcome::inconclusive);
  CHECK(verdict(none, {0.02, true}, SumKind::events).outcome == GateOutcome::inconclusive);  // 0.98^213 = 0.0135
  CHECK(verdict(none, {0.022, true}, SumKind::events).outcome == GateOutcome::pass);         // 0.978^213 = 0.0088
  CHECK(verdict(all, {0.978, false}, SumKind::events).outcome == GateOutcome::pass);
  CHECK(verdict(all, {0.98, false}, SumKind::events).outcome == GateOutcome::inconclusive);
  CHECK(verdict(none, {0.0, true}, SumKind::events).outcome == GateOutcome::inconclusive);
  CHECK(verdict(none, {0.022, true}, SumKind::event_differences).outcome == GateOutcome::pass);
  const Interval limits = *verdict(none, {0.02, true}, SumKind::events).limits;
  CHECK(limits.low == 0);
  CHECK(std::fabs(limits.high - (1 - std::pow(0.01, 1 / (320 / least_event_dispersion)))) < 1e-9);
}

TEST_CASE("the same data give the same bits; other windows of unequal length are weighted by tokens", "[gates]") {
  std::vector<double> sums = noisy();
  CHECK(MeanTest(sums, counts).limits(0.01).high == MeanTest(sums, counts).limits(0.01).high);
  std::vector<std::int64_t> unequal = counts;
  unequal[0] = 1000;
  sums[0] = 2000;
  const MeanTest test(sums, unequal);
  CHECK(std::fabs(test.mean() - (2000 + 310) / 1310.0) < 0.01);
  CHECK(test.limits(0.01).low < 1);  // one window carries the mean: nothing is sure
  CHECK_THROWS_AS(MeanTest(std::vector<double>{1}, std::vector<std::int64_t>{1}), quant::Error);
}

TEST_CASE("Holm's step-down, by hand, with levels of their own", "[gates]") {
  const std::vector<FailTest> tests{{0.004, 0.01}, {0.001, 0.01}, {0.02, 0.01}, {0.0034, 0.01}};
  // Ordered .001 <= .01/4, .0034 > .01/3: stop.
  CHECK(holm(tests) == std::vector<bool>{false, true, false, false});
  // .001 <= .01/3, .0034 <= .01/2, .004 <= .01.
  CHECK(holm(std::vector<FailTest>{{0.004, 0.01}, {0.001, 0.01}, {0.0034, 0.01}}) == std::vector<bool>{true, true, true});
  CHECK(holm(std::vector<FailTest>{{0.004, 0.01}, {0.03, 0.1}}) == std::vector<bool>{true, true});
  CHECK(holm({}).empty());
  CHECK(resamples_for(1, 0.99).resamples == 9999);
  CHECK(resamples_for(100, 0.99).resamples == 100'000);
}

TEST_CASE("Holm keeps any false fail of many gates rare", "[gates]") {
  // 10 gates whose true mean is on the bound; without Holm one in ten checks would fail.
  quant::Random random(11);
  constexpr int checks = 2000;
  double any = 0, raw = 0;
  for (int check = 0; check < checks; ++check) {
    std::vector<FailTest> tests;
    bool alone = false;
    for (int gate = 0; gate < 10; ++gate) {
      std::vector<double> sums(32);
      for (double& sum : sums) sum = 10 + random.normal();
      const ResampleOptions options{1999, static_cast<std::uint64_t>(check)};
      tests.push_back({MeanTest(sums, counts, SumKind::real, options).p_above(1, 0.05), 0.05});
      alone = alone || tests.back().p <= 0.05;
    }
    raw += alone;
    for (const bool failed : holm(tests))
      if (failed) {
        ++any;
        break;
      }
  }
  CHECK(any / checks <= 0.05 + 3 * std::sqrt(0.05 * 0.95 / checks));
  CHECK(raw / checks > 0.1);
}
