// Gates mean what they say: error rates and power of the whole rule on real windows whose true mean is known, because it is
// the mean of all 1,024. With the bound on that mean, every fail is a false fail and every pass a false pass.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <format>
#include <numeric>

#include "eval/metrics/gate.h"
#include "eval/metrics/interval.h"
#include "quant/core/random.h"
#include "tests/eval/metrics/window_fixture.h"

using namespace qfid;
using namespace qfid::eval;
using namespace qfid::tests;

namespace {

constexpr double alpha = 0.01;
constexpr int trials = 20'000;

/// How a trial draws its windows: one at a time; in blocks of 8 neighbours, so that their dependence comes along; or as one
/// stretch of the text, as an evaluation does (the end joins the beginning, which keeps the mean exact).
enum class Draw { windows, blocks, stretch };
constexpr const char* to_string(Draw draw) {
  return draw == Draw::windows ? "windows" : draw == Draw::blocks ? "blocks of 8" : "one stretch";
}

void draw_windows(const std::vector<double>& from, Draw draw, quant::Random& random, std::vector<double>& sums) {
  const std::size_t length = draw == Draw::windows ? 1 : draw == Draw::blocks ? 8 : sums.size();
  for (std::size_t i = 0; i < sums.size(); i += length) {
    const std::size_t start = random.below(from.size());
    for (std::size_t j = 0; j < length; ++j) sums[i + j] = from[(start + j) % from.size()];
  }
}

/// What a binomial share of `independent` trials may show above the nominal rate: 3 standard deviations. Stretches overlap:
/// only 1024 / n of them are independent.
double allowed(Draw draw, std::size_t n) {
  const double independent = draw == Draw::stretch ? 1024.0 / static_cast<double>(n) : trials;
  return alpha + 3 * std::sqrt(alpha * (1 - alpha) / independent);
}

struct Rates {
  double fail = 0, pass = 0, t_fail = 0, t_pass = 0;
};

Rates measured(const WindowColumn& column, Draw draw, std::size_t n) {
  quant::Random random(n * 1000 + column.name.size() * 10 + static_cast<std::size_t>(draw));
  const std::vector<std::int64_t> counts(n, fixture_tokens);
  std::vector<double> sums(n);
  Rates rates;
  for (int trial = 0; trial < trials; ++trial) {
    draw_windows(column.sums, draw, random, sums);
    const MeanTest test(sums, counts, column.kind, {9999, static_cast<std::uint64_t>(trial)});
    rates.fail += test.p_above(column.mean, alpha) <= alpha;
    rates.pass += test.p_below(column.mean, alpha) <= alpha;
    const ClusteredMean plain = clustered_mean(sums, counts, 0.5);
    const double tail = student_t_upper_tail((plain.mean - column.mean) / plain.standard_error, static_cast<double>(n) - 1);
    rates.t_fail += tail <= alpha;
    rates.t_pass += 1 - tail <= alpha;
  }
  for (double* rate : {&rates.fail, &rates.pass, &rates.t_fail, &rates.t_pass}) *rate /= trials;
  return rates;
}

}  // namespace

TEST_CASE("false fails and false passes stay within the nominal rate at 16, 64 and 256 windows", "[gates]") {
  double worst_t = 0;
  std::string text;  // docs/gates.md quotes it: eval_metrics_test -s "false fails*"
  for (const WindowColumn& column : window_fixture())
    for (const Draw draw : {Draw::windows, Draw::blocks, Draw::stretch})
      for (const std::size_t n : {16U, 64U, 256U}) {
        const Rates rates = measured(column, draw, n);
        CAPTURE(column.name, to_string(draw), n, rates.t_fail, rates.t_pass);
        CHECK(rates.fail <= allowed(draw, n));
        CHECK(rates.pass <= allowed(draw, n));
        if (draw == Draw::blocks) worst_t = std::max({worst_t, rates.t_fail, rates.t_pass});
        text += std::format("{:<26} {:<11} {:>3}  fail {:.2f} %, pass {:.2f} %; t alone {:.2f} %, {:.2f} %\n", column.name,
                            to_string(draw), n, 100 * rates.fail, 100 * rates.pass, 100 * rates.t_fail, 100 * rates.t_pass);
      }
  INFO(text);
  CHECK(worst_t > 0.04);  // these windows do tell a rule that holds from one that doesn't
}

TEST_CASE("events of these windows come no more together than the rule takes for granted", "[gates]") {
  for (const WindowColumn& column : window_fixture()) {
    if (column.kind != SumKind::events) continue;
    CAPTURE(column.name);
    double squares = 0;
    for (double sum : column.sums) squares += std::pow(sum - column.mean * fixture_tokens, 2);
    const double dispersion = squares / 1023 / (fixture_tokens * column.mean * (1 - column.mean));
    CHECK(dispersion < least_event_dispersion);
  }
}

TEST_CASE("rare events: neither few nor none give a false verdict", "[gates]") {
  // One event in 2,000 tokens, independent: 16 windows hold two on average, often none.
  constexpr double share = 1.0 / 2000;
  quant::Random random(5);
  const std::vector<std::int64_t> counts(16, fixture_tokens);
  std::vector<double> sums(16);
  double fails = 0, passes = 0, sure = 0;
  for (int trial = 0; trial < trials; ++trial) {
    for (double& sum : sums) {
      sum = 0;
      for (int i = 0; i < fixture_tokens; ++i) sum += random.uniform() < share;
    }
    const MeanTest test(sums, counts, SumKind::events);
    fails += test.p_above(share, alpha) <= alpha;
    passes += test.p_below(share, alpha) <= alpha;
    sure += test.p_below(20 * share, alpha) <= alpha;
  }
  CHECK(fails / trials <= allowed(Draw::windows, 16));
  CHECK(passes / trials <= allowed(Draw::windows, 16));
  CHECK(sure / trials > 0.8);  // and a bound 20 times as high is passed, not left open
}

TEST_CASE("power: what a pilot says it can see, other windows see", "[gates]") {
  // A pilot and the windows that are tested never share a window: random halves of the 1,024, drawn anew each time.
  constexpr int repeats = 500;
  for (const WindowColumn& column : window_fixture()) {
    if (!column.name.ends_with("nll.difference") && !column.name.ends_with(".kl")) continue;
    for (const std::size_t n : {64U, 256U}) {
      quant::Random random(n);
      std::vector<std::size_t> order(column.sums.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      const std::vector<std::int64_t> counts(n, fixture_tokens);
      double seen = 0, settled = 0, drawn = 0;
      for (int repeat = 0; repeat < repeats; ++repeat) {
        for (std::size_t i = 0; i + 1 < order.size(); ++i) std::swap(order[i], order[i + random.below(order.size() - i)]);
        std::vector<double> pilot(n), rest;
        for (std::size_t i = 0; i < n; ++i) pilot[i] = column.sums[order[i]];
        const double pilot_mean = clustered_mean(pilot, counts, 0.5).mean;
        // At a bound on its own mean no gate is settled: what it can see is the question.
        const GateStatistics open = evaluate_bound(pilot, counts, column.kind, {pilot_mean, true}, 1 - alpha, {999, 1});
        REQUIRE(open.outcome == GateOutcome::inconclusive);
        std::vector<double> other(n);
        for (std::size_t i = 0; i < n; ++i) other[i] = column.sums[order[n + i]];
        seen += MeanTest(other, counts, column.kind, {999, 1}).p_below(column.mean + *open.detectable, alpha) <= alpha;
        // A bound at 0.6 of it is open; `windows_needed` says how many settle it.
        const double distance = 0.6 * *open.detectable;
        const GateStatistics near =
            evaluate_bound(pilot, counts, column.kind, {pilot_mean + distance, true}, 1 - alpha, {999, 1});
        if (!near.windows_needed || n + static_cast<std::size_t>(*near.windows_needed) > order.size()) continue;
        rest.clear();
        for (std::size_t i = n; i < n + static_cast<std::size_t>(*near.windows_needed); ++i)
          rest.push_back(column.sums[order[i]]);
        ++drawn;
        const std::vector<std::int64_t> more(rest.size(), fixture_tokens);
        settled += MeanTest(rest, more, column.kind, {999, 1}).p_below(column.mean + distance, alpha) <= alpha;
      }
      CAPTURE(column.name, n);
      // Binomial, 3 standard deviations.
      CHECK(seen / repeats >= gate_power - 3 * std::sqrt(gate_power * (1 - gate_power) / repeats));
      REQUIRE(drawn >= 300);
      CHECK(settled / drawn >= gate_power - 3 * std::sqrt(gate_power * (1 - gate_power) / drawn));
    }
  }
}
