#include "eval/metrics/outlier_error.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>

using namespace qfid::eval;

TEST_CASE("rank correlation by hand: order, ties, too few, constant") {
  const std::vector<double> x{1, 2, 3, 4}, rising{1, 10, 100, 1000}, falling{4, 3, 2, 1}, mixed{1, 3, 2, 4};
  CHECK(*rank_correlation(x, rising) == 1);
  CHECK(*rank_correlation(x, falling) == -1);
  CHECK(std::fabs(*rank_correlation(x, mixed) - 0.8) < 1e-15);  // 1 - 6 * 2 / (4 * 15)
  const std::vector<double> tied{1, 2, 2, 3};                   // ranks 0, 1.5, 1.5, 3
  CHECK(std::fabs(*rank_correlation(x, tied) - 4.5 / std::sqrt(5 * 4.5)) < 1e-15);
  CHECK_FALSE(rank_correlation(x, std::vector<double>{1, 1, 1, 1}));
  CHECK_FALSE(rank_correlation(std::vector<double>{1, 2}, std::vector<double>{1, 2}));
}

TEST_CASE("outliers are joined with errors of the same place; a monotone map can't be seen") {
  std::vector<LayerRow> baseline, target;
  for (int l = 0; l < 3; ++l) {
    baseline.push_back({l, "attn_in", -1, "none", {{"inf_norm", 10.0 - l}, {"kurtosis", 3.0 + l}}});
    baseline.push_back({l, "attention_to_first", 0, "none", {{"alpha0.q64", 0.1 * l}}});
    target.push_back({l, "q", -1, "local", {{"nmse", std::exp(l)}}});
    target.push_back({l, "probs", -1, "local", {{"kl", 1.0 + l}}});
    target.push_back({l, "probs", 0, "local", {{"kl", 5.0 - l}}});
    target.push_back({l, "q", -1, "cumulative", {{"nmse", -1.0 * l}}});  // another error: not joined
  }
  const auto named = [](const std::vector<Metric>& all, const std::string& name) {
    for (const Metric& metric : all)
      if (metric.name == name) return metric;
    FAIL(name);
    return Metric{};
  };
  std::vector<Metric> all = outlier_error(baseline, target);
  CHECK(*named(all, "outlier_error.kurtosis.nmse").value == 1);
  CHECK(named(all, "outlier_error.kurtosis.nmse").note == "over 3 linears (q, k, v, fc1 of each layer)");
  CHECK(*named(all, "outlier_error.inf_norm.nmse").value == -1);
  CHECK(*named(all, "outlier_error.kurtosis.kl").value == 1);
  CHECK(*named(all, "outlier_error.sink.kl").value == -1);
  CHECK_FALSE(named(all, "outlier_error.sink.nmse").value);
  for (LayerRow& row : target)
    for (auto& [name, value] : row.values) value = *value * *value * *value;
  CHECK(*named(outlier_error(baseline, target), "outlier_error.kurtosis.nmse").value == 1);
  CHECK(outlier_error(baseline, {}).empty());
}
