// Shares of a KL from window sums, by hand; what adds up, what doesn't, and what has nothing to share.
#include "eval/metrics/error_budget.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "eval/metrics/interval.h"
#include "quant/core/random.h"

using namespace qfid;
using namespace qfid::eval;
using Catch::Approx;

namespace {

BudgetEntry entry(std::string name, std::vector<double> alone, std::vector<double> without) {
  return {std::move(name), std::move(alone), std::move(without), {}, {}};
}

}  // namespace

TEST_CASE("shares are ratios of sums over windows, not means of ratios", "[budget]") {
  ErrorBudget budget;
  budget.tokens = {10, 30};
  budget.whole_kl = {1, 3};
  budget.parts.entries = {entry("q", {1, 0}, {0.5, 2.5}), entry("v", {0.5, 2.5}, {1, 4})};
  compute_shares(budget, 0.95);
  CHECK(*budget.whole.value == 4.0 / 40);
  CHECK(*budget.parts.entries[0].alone.value == 0.25);    // the mean of ratios would be 0.5
  CHECK(*budget.parts.entries[0].without.value == 0.25);  // (4 - 3) / 4
  CHECK(*budget.parts.entries[1].alone.value == 0.75);
  CHECK(*budget.parts.entries[1].without.value == -0.25);  // without v it is worse
  CHECK(*budget.parts.alone.value == 1);
  CHECK(*budget.parts.without.value == 0);
  CHECK_FALSE(budget.parts.alone.ci);
  CHECK(budget.parts.alone.note == "fewer than 16 windows: no interval");
  CHECK(budget.parts.entries[0].alone.name == "budget.alone.q");
  CHECK(budget_metrics(budget).size() == 1 + 2 + 4 + 2);
}

TEST_CASE("intervals see that numerator and denominator share their windows", "[budget]") {
  quant::Random random(3);
  ErrorBudget budget;
  std::vector<double> half, noise;
  for (int w = 0; w < 64; ++w) {
    const double whole = 1 + random.uniform();  // windows differ by a factor of two
    budget.tokens.push_back(100);
    budget.whole_kl.push_back(whole);
    half.push_back(0.5 * whole);
    noise.push_back(0.5 * whole + 0.1 * (random.uniform() - 0.5));
  }
  budget.parts.entries = {entry("q", half, half), entry("k", noise, noise)};
  compute_shares(budget, 0.95);
  const Metric &exact = budget.parts.entries[0].alone, &noisy = budget.parts.entries[1].alone;
  CHECK(exact.ci->high - exact.ci->low < 1e-12);  // exactly half in every window: nothing is uncertain
  CHECK(noisy.ci->low < *noisy.value);
  CHECK(noisy.ci->high - noisy.ci->low < 0.03);
  CHECK(noisy.ci->high - noisy.ci->low > 0.002);
  CHECK(budget.whole.ci->high - budget.whole.ci->low > 0.001);
}

TEST_CASE("a ratio with token counts below the line is the clustered mean", "[budget]") {
  quant::Random random(5);
  std::vector<double> sums, tokens;
  std::vector<std::int64_t> counts;
  for (int w = 0; w < 20; ++w) {
    sums.push_back(random.normal());
    counts.push_back(10 + w);
    tokens.push_back(10 + w);
  }
  const ClusteredMean mean = clustered_mean(sums, counts, 0.9), ratio = clustered_ratio(sums, tokens, 0.9);
  CHECK(mean.mean == ratio.mean);
  CHECK(mean.interval->low == ratio.interval->low);
}

TEST_CASE("a whole without KL has no shares, and says so", "[budget]") {
  ErrorBudget budget;
  budget.tokens = {10};
  budget.whole_kl = {0};
  budget.parts.entries = {entry("q", {0}, {0})};
  compute_shares(budget, 0.95);
  CHECK(*budget.whole.value == 0);
  CHECK_FALSE(budget.parts.entries[0].alone.value);
  CHECK_FALSE(budget.parts.alone.value);
  CHECK(budget.parts.alone.note == "the whole has no KL to share out");
}
