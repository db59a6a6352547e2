// Hidden states against full precision's, on numbers that can be worked out by hand.
#include "eval/metrics/hidden_states.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>

#include "eval/metrics/interval.h"
#include "quant/core/error.h"

using namespace qfid;
using namespace qfid::eval;

namespace {

quant::Tensor states(std::int64_t windows, std::int64_t length, const std::vector<float>& values) {
  quant::Tensor x(quant::DType::f32,
                  quant::Shape{windows, length, static_cast<std::int64_t>(values.size()) / windows / length});
  std::copy(values.begin(), values.end(), x.view<float>().data());
  return x;
}

Metric named(const std::vector<Metric>& all, const std::string& name) {
  for (const Metric& metric : all)
    if (metric.name == name) return metric;
  FAIL("no metric " << name);
  return {};
}

bool near(double a, double b) { return std::fabs(a - b) <= 1e-12 * std::fmax(1, std::fabs(b)); }

std::string refusal(const quant::Tensor& x, const quant::Tensor& y, const std::vector<bool>& counts) {
  HiddenData data;
  try {
    add_hidden_window(data, x, y, 0, counts);
  } catch (const quant::Error& error) { return error.what(); }
  return "";
}

}  // namespace

TEST_CASE("hidden states: errors over energies, cosine distances, and those of means; padding is no part of them") {
  // Window 0: (3, 4) -> (4, 3): error 2 of 25, cosine 24/25. (1, 0) -> (0, 2): error 5 of 1, cosine 0. A third is padding.
  // Window 1: one token that only grew: error .25 of 1, no angle.
  const quant::Tensor x = states(2, 3, {3, 4, 1, 0, 9, 9, 0, 1, 5, 5, 5, 5}),
                      y = states(2, 3, {4, 3, 0, 2, -9, 9, 0, 1.5, 6, 1, 6, 1});
  HiddenData data;
  add_hidden_window(data, x, y, 0, {true, true, false});
  add_hidden_window(data, x, y, 1, {true, false, false});
  REQUIRE(data.windows.size() == 2);
  REQUIRE(data.windows[0].size() == 2);
  CHECK(near(data.windows[0][0].nmse, 2.0 / 25));
  CHECK(near(data.windows[0][0].cosine_distance, 1.0 / 25));
  CHECK(near(data.windows[0][1].nmse, 5));
  CHECK(near(data.windows[0][1].cosine_distance, 1));
  CHECK(near(data.windows[1][0].nmse, 0.25));
  CHECK(data.windows[1][0].cosine_distance == 0);
  // Means (2, 2) and (2, 2.5), up to a factor.
  CHECK(near(data.pooled[0], 1 - 9 / std::sqrt(8 * 10.25)));
  CHECK(data.pooled[1] == 0);

  const std::vector<Metric> all = hidden_metrics(data);
  CHECK(near(*named(all, "hidden.nmse.mean").value, (0.08 + 5 + 0.25) / 3));
  CHECK(near(*named(all, "hidden.sqnr").value, -10 * std::log10((0.08 + 5 + 0.25) / 3)));
  CHECK(near(*named(all, "hidden.nmse.median").value, 0.25));
  CHECK(near(*named(all, "hidden.nmse.max").value, 5));
  CHECK(near(*named(all, "hidden.cosine_distance.mean").value, 1.04 / 3));
  CHECK(near(*named(all, "hidden.pooled.cosine_distance.mean").value, data.pooled[0] / 2));
  CHECK(*named(all, "hidden.pooled.cosine_distance.max").value == data.pooled[0]);
  CHECK_FALSE(named(all, "hidden.nmse.mean").ci);

  const WindowSums sums = hidden_window_sums(data);
  CHECK(sums.tokens == std::vector<std::int64_t>{2, 1});
  CHECK(near(sums.nmse[0], 5.08));
  CHECK(sums.nll.empty());
  CHECK(hidden_series(data).nmse == std::vector<float>{0.08F, 5, 0.25F});
}

TEST_CASE("cosine distances far below rounding are kept") {
  const quant::Tensor x = states(1, 1, {1, 0}), y = states(1, 1, {1, 1e-9F});
  HiddenData data;
  add_hidden_window(data, x, y, 0, {true});
  CHECK(std::fabs(data.windows[0][0].cosine_distance - 5e-19) < 1e-24);  // 1 - cos would be 0
}

TEST_CASE("hidden states: an interval from sixteen windows on, that of SQNR the mean's") {
  HiddenData data;
  std::vector<double> sums;
  for (int w = 0; w < 16; ++w) {
    data.windows.push_back({{0.01 * (w + 1), 0}, {0.02, 0}});
    data.pooled.push_back(0.001 * w);
    sums.push_back(0.01 * (w + 1) + 0.02);
  }
  const std::vector<Metric> all = hidden_metrics(data);
  const Metric nmse = named(all, "hidden.nmse.mean"), sqnr = named(all, "hidden.sqnr");
  const ClusteredMean expected = clustered_mean(sums, std::vector<std::int64_t>(16, 2), 0.95);
  REQUIRE(nmse.ci);
  CHECK(near(nmse.ci->low, expected.interval->low));
  REQUIRE(sqnr.ci);
  CHECK(near(sqnr.ci->low, -10 * std::log10(nmse.ci->high)));
  CHECK(named(all, "hidden.pooled.cosine_distance.mean").ci);
}

TEST_CASE("hidden states that aren't finite or have no direction are refused by position; equal ones have no error") {
  const quant::Tensor x = states(1, 2, {1, 2, 3, 4}), zero = states(1, 2, {1, 2, 0, 0}),
                      nan = states(1, 2, {1, 2, std::numeric_limits<float>::quiet_NaN(), 0});
  CHECK(refusal(x, nan, {true, true}) == "non-finite hidden states: position 1");
  CHECK(refusal(nan, x, {true, true}) == "non-finite hidden states: position 1");
  CHECK(refusal(x, nan, {true, false}).empty());
  CHECK(refusal(x, zero, {true, true}) == "position 1: a hidden state is all zeros, which has no direction");
  const quant::Tensor opposite = states(1, 2, {1, 2, -1, -2});
  CHECK(refusal(x, opposite, {true, true}) == "the mean over tokens: a hidden state is all zeros, which has no direction");
  HiddenData data;
  add_hidden_window(data, x, x, 0, {true, true});
  const std::vector<Metric> all = hidden_metrics(data);
  CHECK(*named(all, "hidden.nmse.mean").value == 0);
  CHECK_FALSE(named(all, "hidden.sqnr").value);
}
