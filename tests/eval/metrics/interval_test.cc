#include "eval/metrics/interval.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <vector>

#include "eval/metrics/token_metrics.h"
#include "quant/core/error.h"
#include "quant/core/random.h"

using namespace qfid;
using namespace qfid::eval;

TEST_CASE("Student's t quantiles against tables") {
  // NIST/SEMATECH e-Handbook, table of critical values.
  CHECK(std::fabs(student_t_quantile(0.975, 10) - 2.228) < 5e-4);
  CHECK(std::fabs(student_t_quantile(0.995, 15) - 2.947) < 5e-4);
  CHECK(std::fabs(student_t_quantile(0.95, 1) - 6.314) < 5e-4);
  CHECK(std::fabs(student_t_quantile(0.975, 1e6) - 1.95996) < 1e-4);
  CHECK(std::fabs(student_t_quantile(0.025, 10) + 2.228) < 5e-4);
  CHECK(std::fabs(incomplete_beta(2, 3, 0.4) - 0.5248) < 1e-12);  // 1 - (1-x)^3 (1+3x) at x = .4
}

TEST_CASE("clustered mean by hand, and no interval below 16 windows") {
  std::vector<double> sums{2, 4, 6};
  const std::vector<std::int64_t> counts{2, 2, 2};
  const ClusteredMean mean = clustered_mean(sums, counts, 0.95);
  CHECK(mean.mean == 2);
  CHECK(std::fabs(mean.standard_error - std::sqrt(1.0 / 3)) < 1e-12);
  CHECK_FALSE(mean.interval);
  CHECK_THROWS_AS(clustered_mean({}, {}, 0.95), quant::Error);
}

TEST_CASE("the interval covers the truth about as often as it says") {
  quant::Random random(9);
  int covered = 0;
  constexpr int trials = 2000;
  for (int t = 0; t < trials; ++t) {
    std::vector<double> sums;
    const std::vector<std::int64_t> counts(20, 10);
    for (int w = 0; w < 20; ++w) sums.push_back(10 * (1.0 + random.normal()));
    const ClusteredMean mean = clustered_mean(sums, counts, 0.9);
    covered += mean.interval->low <= 1.0 && 1.0 <= mean.interval->high;
  }
  // Binomial standard deviation of the share is .0067.
  CHECK(std::fabs(covered / static_cast<double>(trials) - 0.9) < 0.025);
}

TEST_CASE("quantiles interpolate linearly at q (n - 1)") {
  std::vector<double> values{4, 1, 3, 2};
  CHECK(quantile(values, 0.5) == 2.5);
  CHECK(quantile(values, 0) == 1);
  CHECK(quantile(values, 1) == 4);
}

TEST_CASE("token measures by hand") {
  TokenData data;
  for (int w = 0; w < 16; ++w) {
    kernels::TokenComparison t{};
    t.nll_base = 1;
    t.nll_test = w % 2 == 0 ? 1.5 : 1.1;
    t.kl = 0.25;
    t.top1_test = w == 0 ? 1 : 0;
    t.margin_base = 1;
    data.windows.push_back({t});
  }
  const auto metrics = compute_token_metrics(data);
  const auto value = [&](const std::string& name) {
    for (const Metric& m : metrics)
      if (m.name == name) return *m.value;
    return -1.0;
  };
  CHECK(std::fabs(value("perplexity") - std::exp(1.3)) < 1e-12);
  CHECK(std::fabs(value("perplexity.ratio") - std::exp(0.3)) < 1e-12);
  CHECK(value("kl.mean") == 0.25);
  CHECK(std::fabs(value("top1.agreement") - 15.0 / 16) < 1e-12);
  CHECK(std::fabs(value("top1.decided_flips.m2") - 1.0 / 16) < 1e-12);
  CHECK(window_sums(data).nll.size() == 16);
  CHECK(*paired_difference(window_sums(data), window_sums(data), 0.95).value == 0);
}
