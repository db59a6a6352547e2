#include "eval/metrics/layer_tables.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>

using namespace qfid;
using namespace qfid::eval;

namespace {

quant::DistortionStats compared(float x, float y) {
  quant::DistortionStats stats;
  stats.add(x, y);
  return stats;
}

std::optional<double> named(const std::vector<Metric>& metrics, const std::string& name) {
  for (const Metric& metric : metrics)
    if (metric.name == name) return metric.value;
  return std::nullopt;
}

std::optional<double> cell(const LayerTables& tables, const std::string& tap, const std::string& error, int head,
                           const std::string& column) {
  for (const LayerRow& row : tables.rows())
    if (row.tap == tap && row.error == error && row.head == head)
      for (const auto& [name, number] : row.values)
        if (name == column) return number;
  return std::nullopt;
}

}  // namespace

TEST_CASE("distortion by head and pooled; windows merge") {
  LayerTables tables;
  tables.add_distortion(0, "q", "local", {compared(1, 1.5F), compared(2, 2)}, 2);
  tables.add_distortion(0, "q", "local", {compared(1, 0.5F), compared(2, 2)}, 2);
  CHECK(*cell(tables, "q", "local", 0, "gain") == 1.0);   // 1.5 and .5 cancel in the gain ...
  CHECK(*cell(tables, "q", "local", 0, "nmse") == 0.25);  // ... and not in the error
  CHECK(*cell(tables, "q", "local", 1, "share_exact") == 1.0);
  CHECK(*cell(tables, "q", "local", -1, "nmse") == 0.5 / 10);
  CHECK(tables.distortion(0, "q", "cumulative", 0) == nullptr);
}

TEST_CASE("the kernel's part: largest gain deviation and share of the format's error, with their places") {
  LayerTables tables;
  CHECK_FALSE(named(tables.summary(), "kernel.gain.deviation.max"));
  tables.add_distortion(2, "output", "format", {compared(100, 101), compared(100, 104)}, 2);
  tables.add_distortion(2, "output", "kernel", {compared(100, 100.5F), compared(100, 99)}, 2);
  tables.add_distortion(1, "fc", "format", {compared(1, 1)}, 1);  // exact: an f32 operation, whose rounding blames nobody
  tables.add_distortion(1, "fc", "kernel", {compared(1, 1.0000001F)}, 1);
  const std::vector<Metric> metrics = tables.summary();
  CHECK(std::fabs(*named(metrics, "kernel.gain.deviation.max") - 0.01) < 1e-12);
  CHECK(*named(metrics, "kernel.damage.share.max") == 0.5);
  for (const Metric& metric : metrics) {
    if (metric.name == "kernel.gain.deviation.max") CHECK(metric.note.ends_with(": 2.output, head 1"));
    if (metric.name == "kernel.damage.share.max") CHECK(metric.note.ends_with(": 2.output, head 0"));
  }
}

TEST_CASE("codes, gates, P codes and outliers by hand") {
  LayerTables tables;
  tables.add_codes(0, "fc1", {100, 5, 10, 0});
  tables.add_codes(1, "attention.q", {300, 0, 10, 1});
  kernels::RowStats gate;
  gate.elements = 8;
  gate.sum = 2;
  gate.below_tenth = 4;
  tables.add_rows(0, "gate", {gate});
  kernels::RowStats residual;
  residual.rows = 2;
  residual.max_abs = 7;
  residual.kurtosis_sum = 6;
  residual.elements = 8;
  tables.add_rows(0, "residual", {residual});
  tables.add_prob_counts(0, {{10, 4, 1}, {10, 0, 0}}, 2);
  const std::vector<Metric> metrics = tables.summary();
  CHECK(*named(metrics, "codes.saturated_share") == 5.0 / 400);
  CHECK(*named(metrics, "codes.flushed_share") == 20.0 / 400);
  CHECK(*named(metrics, "codes.nan") == 1);
  CHECK(*named(metrics, "gate.mean") == 0.25);
  CHECK(*named(metrics, "gate.share_below_0.1") == 0.5);
  CHECK(*named(metrics, "residual.inf_norm.max") == 7);
  CHECK(*named(metrics, "residual.kurtosis.token.max") == 3);
  CHECK(*named(metrics, "p_codes.zero_share") == 0.2);
  CHECK(*cell(tables, "fc1", "none", -1, "saturated_share") == 0.05);
  CHECK(*cell(tables, "p_codes", "none", 0, "masked_rows") == 1);
}

TEST_CASE(
    "outlier_free: largest mean over rows; tokens for fc2 and its norm, windows else; kurtosis of the first 101 windows") {
  LayerTables tables;
  kernels::RowStats window;
  window.rows = 2;
  window.elements = 8;
  window.max_abs = 10;
  window.inf_norm_sum = 12;
  window.kurtosis_sum = 8;
  window.window_kurtosis = 5;
  tables.add_rows(0, "residual", std::vector<kernels::RowStats>(101, window));
  CHECK(*named(tables.summary(), "inf_norm.outlier_free") == 10);  // of the window, not 6 of its tokens
  CHECK(*named(tables.summary(), "kurtosis.outlier_free") == 5);
  window.window_kurtosis = 500;
  window.max_abs = 112;
  tables.add_rows(0, "residual", {window});  // the 102nd: its kurtosis doesn't count, its norm does
  CHECK(*named(tables.summary(), "kurtosis.outlier_free") == 5);
  CHECK(*named(tables.summary(), "inf_norm.outlier_free") == 11);
  window.inf_norm_sum = 24;
  window.kurtosis_sum = 12;
  tables.add_rows(0, "ffn_out", {window});
  CHECK(*named(tables.summary(), "inf_norm.outlier_free") == 12);  // a token's mean; the window's largest, 112, isn't seen
  CHECK(*named(tables.summary(), "kurtosis.outlier_free") == 6);
  window.inf_norm_sum = 1e6;
  tables.add_rows(-1, "embedding", {window});  // not among its modules
  CHECK(*named(tables.summary(), "inf_norm.outlier_free") == 12);
  window.max_abs = 40;
  tables.add_rows(-1, "final_norm", {window});  // the model's own: rows are windows, as max_abs, not inf_norm_sum, shows
  for (const Metric& metric : tables.summary())
    if (metric.name == "inf_norm.outlier_free") CHECK((*metric.value == 40 && metric.note == "final_norm"));
}
