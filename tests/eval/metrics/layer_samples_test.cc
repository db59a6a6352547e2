#include "eval/metrics/layer_samples.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "eval/metrics/layer_tables.h"
#include "quant/core/error.h"
#include "quant/core/random.h"

using namespace qfid;
using namespace qfid::eval;

namespace {

std::optional<double> cell(const LayerSamples& samples, const std::string& tap, const std::string& error, int head,
                           const std::string& column, int layer = 0) {
  std::map<TableKey, TableValues> all;
  samples.add_to(all);
  for (const auto& [name, value] : all[table_key(layer, tap, error, head)])
    if (name == column) return value;
  FAIL("no column " << column);
  return std::nullopt;
}

const Metric* named(const std::vector<Metric>& metrics, const std::string& name) {
  for (const Metric& metric : metrics)
    if (metric.name == name) return &metric;
  return nullptr;
}

bool near(std::optional<double> a, double b) { return a && std::fabs(*a - b) <= 1e-12; }

}  // namespace

TEST_CASE("the 99th percentile by its definition, however many values were kept; blind to the rest") {
  quant::Random random(3);
  for (const std::int64_t n : {1, 2, 3, 99, 100, 101, 102, 1000, 20'000}) {
    UpperTail tail, shifted;
    std::vector<double> values;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto value = static_cast<float>(random.normal());
      values.push_back(static_cast<double>(value));
      tail.add(value, n);
    }
    std::sort(values.begin(), values.end());
    const double place = 0.99 * static_cast<double>(n - 1);
    const auto below = static_cast<std::size_t>(std::floor(place));
    const double next = values[std::min(below + 1, values.size() - 1)];
    const double expected = values[below] + (place - std::floor(place)) * (next - values[below]);
    CAPTURE(n);
    CHECK(near(tail.percentile(), expected));
    for (const double value : values) shifted.add(static_cast<float>(value < values[below] ? value - 100 : value), n);
    CHECK(near(shifted.percentile(), expected));
  }
  UpperTail tail;
  CHECK_FALSE(tail.percentile());
  for (int i = 0; i < 100'000; ++i) tail.add(static_cast<float>(i % 1000), 100);  // a thousand times what was announced
  CHECK_THROWS_AS(tail.percentile(), quant::Error);
  tail.add(NAN, 100);
  tail.add(1, 100);
  CHECK(std::isnan(*tail.percentile()));
}

TEST_CASE("a kernel's codes against its twin's: nonzero codes that are others, by head and pooled") {
  LayerSamples samples(2, 2);
  const auto counts = [](std::initializer_list<std::pair<std::size_t, std::int64_t>> some) {
    std::vector<std::int64_t> all(256);
    for (const auto& [code, n] : some) all[code] = n;
    return all;
  };
  // Head 0: 2 of 10 nonzero codes went up by one; head 1: all 4 are others, and one more is 0.
  const auto real = std::vector{counts({{0, 90}, {5, 8}, {6, 2}}), counts({{0, 97}, {1, 3}})};
  const auto emulated = std::vector{counts({{0, 90}, {5, 10}}), counts({{0, 96}, {200, 4}})};
  samples.add_recoded(3, real, emulated);
  CHECK(near(cell(samples, "p_codes", "kernel", 0, "histogram_distance", 3), 0.2));
  CHECK(near(cell(samples, "p_codes", "kernel", 1, "histogram_distance", 3), 1));
  CHECK(near(cell(samples, "p_codes", "kernel", -1, "histogram_distance", 3), 6.0 / 14));
  samples.add_recoded(3, {emulated[0], emulated[1]}, {emulated[0], emulated[1]});  // windows add up
  CHECK(near(cell(samples, "p_codes", "kernel", 0, "histogram_distance", 3), 0.1));
  // Blind to codes that change places: the same codes elsewhere are the same histogram.
  samples.add_recoded(4, real, real);
  CHECK(near(cell(samples, "p_codes", "kernel", 0, "histogram_distance", 4), 0));
  samples.add_recoded(5, {counts({{0, 5}})}, {counts({{0, 5}})});
  CHECK_FALSE(cell(samples, "p_codes", "kernel", 0, "histogram_distance", 5));
}

TEST_CASE("probability rows by head and pooled, before coding and after; unseen rows don't count") {
  LayerSamples samples(2, 2);
  // Two heads of two queries in one window, then another.
  samples.add_divergence(0, "local", {{1, 0.5, 1}, {3, 0.25, 1}, {8, 1, 1}, {0, 0, 0}}, 1, 2);
  samples.add_divergence(0, "local", {{2, 0.75, 1}, {2, 0.5, 1}, {0, 0, 1}, {4, 0.5, 1}}, 1, 2);
  CHECK(near(cell(samples, "probs", "local", 0, "kl"), 2));
  CHECK(near(cell(samples, "probs", "local", 1, "kl"), 4));
  CHECK(near(cell(samples, "probs", "local", -1, "kl"), 20.0 / 7));
  CHECK(near(cell(samples, "probs", "local", 0, "total_variation"), 0.5));
  CHECK(near(cell(samples, "probs", "local", 1, "kl_max"), 8));
  CHECK(near(cell(samples, "probs", "local", 1, "kl_p99"), 4 + 0.98 * 4));  // 0, 4, 8 at place 1.98
  samples.add_coded(0, "local", {{0.25, 0.125, 0.5, 1}, {0, 0, 0, 0}, {0.5, 0.25, 0, 1}, {0.75, 0.5, 1, 1}}, 1, 2);
  CHECK(near(cell(samples, "p_codes", "local", 0, "flushed_mass"), 0.5));
  CHECK(near(cell(samples, "p_codes", "local", 1, "total_variation"), 0.625));
  CHECK(near(cell(samples, "p_codes", "local", -1, "jsd"), 0.875 / 3));
  CHECK(near(cell(samples, "p_codes", "local", 1, "flushed_mass_p99"), 0.99));
  samples.add_coded(1, "local", {{1, 0.125, 0, 1}, {1, 0.125, 0, 1}}, 1, 2);
  samples.add_coded(1, "cumulative", {{1, 1, 1, 1}, {1, 1, 1, 1}}, 1, 2);  // no part of the summary
  const std::vector<Metric> metrics = samples.summary();
  CHECK(near(named(metrics, "p_codes.total_variation")->value, 3.5 / 5));
  CHECK(near(named(metrics, "p_codes.flushed_mass")->value, 1.5 / 5));
  CHECK(named(metrics, "p_codes.jsd")->note == "local, mean over 5 query rows");
}

TEST_CASE("windows of unequal length, long and short in any order: the percentile of all rows") {
  for (const bool long_first : {true, false}) {
    LayerSamples samples(2, 2000);
    std::vector<double> all;
    for (const bool is_long : {long_first, !long_first}) {
      std::vector<kernels::RowDivergence> rows;
      for (int i = 0; i < (is_long ? 2000 : 3); ++i) rows.push_back({static_cast<double>(i * 7 % 2000), 0, 1});
      for (const kernels::RowDivergence& row : rows) all.push_back(row.kl);
      samples.add_divergence(0, "local", rows, 1, 1);
    }
    std::sort(all.begin(), all.end());
    const double place = 0.99 * static_cast<double>(all.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const double expected = all[below] + (place - std::floor(place)) * (all[below + 1] - all[below]);
    CHECK(near(cell(samples, "probs", "local", 0, "kl_p99"), expected));
  }
}

TEST_CASE("magnitudes are averaged over windows; the largest layer and its place are the summary") {
  LayerSamples samples(2, 2);
  CHECK(samples.summary().empty());
  samples.add_magnitudes(-1, "embedding", {{10, 0, {4, 2, 1}, 2}});
  samples.add_magnitudes(0, "residual", {{10, 2, {3000, 200, 8}, 1}, {10, 1, {1000, 100, 6}, 3}});
  CHECK(near(cell(samples, "residual", "none", -1, "magnitude_1"), 2000));
  CHECK(near(cell(samples, "residual", "none", -1, "magnitude_3"), 7));
  CHECK(near(cell(samples, "residual", "none", -1, "magnitude_median"), 2));
  CHECK(near(cell(samples, "residual", "none", -1, "massive"), 1.5));
  const std::vector<Metric> metrics = samples.summary();
  CHECK(near(named(metrics, "residual.massive.max")->value, 1.5));
  CHECK(near(named(metrics, "residual.magnitude.ratio.max")->value, 1000));
  CHECK(named(metrics, "residual.massive.max")->note == "0.residual, over 2 windows");
}

TEST_CASE("attention's error in parts: sums over windows before any ratio; no output, no ratio") {
  LayerSamples samples(2, 2);
  kernels::OutputSplit a, b;
  a.output = 4, a.error = 1, a.p = 2, a.p_first = 1, a.p_others = 0.5, a.v = 0.25, a.v_first = 0.125, a.v_others = 0.0625;
  b.output = 12, b.error = 3;
  samples.add_parts(0, {a, b}, 2);
  samples.add_parts(0, {b, {}}, 2);
  CHECK(near(cell(samples, "context", "local", 0, "nmse"), 4.0 / 16));
  CHECK(near(cell(samples, "context", "local", 0, "nmse_p"), 2.0 / 16));
  CHECK(near(cell(samples, "context", "local", 1, "nmse_p"), 0));
  CHECK(near(cell(samples, "context", "local", -1, "nmse_p_first"), 1.0 / 28));
  CHECK(near(cell(samples, "context", "local", -1, "nmse_p_others"), 0.5 / 28));
  CHECK(near(cell(samples, "context", "local", -1, "nmse_v"), 0.25 / 28));
  CHECK(near(cell(samples, "context", "local", -1, "nmse_v_first"), 0.125 / 28));
  CHECK(near(cell(samples, "context", "local", -1, "nmse_v_others"), 0.0625 / 28));
  samples.add_parts(1, {{}}, 1);
  CHECK_FALSE(cell(samples, "context", "local", 0, "nmse", 1));
}

TEST_CASE("errors beside outliers join the tap's local row; shares of sums, and what is left without the first token") {
  LayerTables tables;
  quant::DistortionStats stats;
  stats.add(1.0F, 2.0F);
  tables.add_distortion(0, "q", "local", {stats}, 1);
  kernels::OutlierSplit window;
  window.tokens = 8, window.channels = 4, window.outlier_tokens = 2, window.outlier_channels = 1;
  window.energy = 100, window.product = 90, window.error = 10, window.token_error = 4, window.channel_error = 6;
  window.first_energy = 80, window.first_product = 74, window.first_error = 2;
  tables.samples().add_outliers(0, "q", {window, window});
  std::vector<LayerRow> rows = tables.rows();
  REQUIRE(rows.size() == 1);
  const auto value = [&](const std::string& column) {
    for (const auto& [name, number] : rows[0].values)
      if (name == column) return number;
    return std::optional<double>();
  };
  CHECK(near(value("gain"), 2));
  CHECK(near(value("outlier_tokens"), 0.25));
  CHECK(near(value("outlier_channels"), 0.25));
  CHECK(near(value("outlier_token_error"), 0.4));
  CHECK(near(value("outlier_channel_error"), 0.6));
  CHECK(near(value("nmse_but_first"), 8.0 / 20));
  CHECK(near(value("gain_but_first"), 16.0 / 20));
}

TEST_CASE("histograms add up, a layer each, and say what a code stands for") {
  LayerSamples samples(2, 2);
  std::vector<std::int64_t> counts(256);
  counts[3] = 5;
  samples.add_histogram(1, kernels::parse_prob_scheme("e4m3/scale=448"), counts);
  samples.add_histogram(1, kernels::parse_prob_scheme("e4m3/scale=448"), counts);
  const std::vector<CodeHistogram> all = samples.histograms();
  REQUIRE(all.size() == 1);
  CHECK((all[0].layer == 1 && all[0].format == "e4m3" && all[0].p_scale == 448 && all[0].counts[3] == 10));
}
