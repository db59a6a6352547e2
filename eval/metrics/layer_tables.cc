#include "eval/metrics/layer_tables.h"

#include <algorithm>
#include <cmath>

namespace qfid::eval {

namespace {

std::optional<double> ratio(double part, std::int64_t whole) {
  if (whole == 0) return std::nullopt;
  return part / static_cast<double>(whole);
}

TableValues distortion_values(const quant::DistortionStats& stats) {
  if (stats.count() == 0) return {{"nan", static_cast<double>(stats.nan_count())}};
  return {{"gain", stats.gain()},
          {"sqnr_db", stats.sqnr_db()},
          {"nmse", stats.nmse()},
          {"relative_l1", stats.relative_l1()},
          {"cosine", stats.cosine()},
          {"max_abs", stats.max_abs()},
          {"mean_signed_error", stats.mean_signed_error()},
          {"share_exact", stats.share_exact()},
          {"share_sign_flips", stats.share_sign_flips()},
          {"share_flushed", stats.share_flushed()},
          {"nan", static_cast<double>(stats.nan_count())}};
}

TableValues row_values(const kernels::RowStats& stats, bool gate) {
  if (gate)
    return {{"mean", ratio(stats.sum, stats.elements)},
            {"share_below_0.1", ratio(static_cast<double>(stats.below_tenth), stats.elements)},
            {"share_above_0.9", ratio(static_cast<double>(stats.above_nine_tenths), stats.elements)}};
  return {{"inf_norm", stats.max_abs},
          {"inf_norm_row_mean", ratio(stats.inf_norm_sum, stats.rows)},
          {"kurtosis", ratio(stats.kurtosis_sum, stats.rows)},
          {"non_finite", static_cast<double>(stats.non_finite)}};
}

void merge(kernels::RowStats& into, const kernels::RowStats& from) {
  into.rows += from.rows;
  into.max_abs = std::max(into.max_abs, from.max_abs);
  into.inf_norm_sum += from.inf_norm_sum;
  into.kurtosis_sum += from.kurtosis_sum;
  into.sum += from.sum;
  into.below_tenth += from.below_tenth;
  into.above_nine_tenths += from.above_nine_tenths;
  into.elements += from.elements;
  into.non_finite += from.non_finite;
}

void merge(kernels::ProbCounts& into, const kernels::ProbCounts& from) {
  into.visible += from.visible;
  into.zero_codes += from.zero_codes;
  into.masked_rows += from.masked_rows;
}

/// Adds [windows * groups] values to the entry of each group (when `apart`) and to the one of all, group -1: each entry is
/// looked up once, not once a window.
template <class Value, class Key, class Add>
void add_by_group(std::map<TableKey, Value>& table, const std::vector<Value>& values, int groups, bool apart, const Key& key,
                  const Add& add) {
  if (values.empty()) return;
  std::vector<Value*> entries;
  for (std::size_t group = 0; apart && group < std::min(values.size(), static_cast<std::size_t>(groups)); ++group)
    entries.push_back(&table[key(static_cast<int>(group))]);
  Value& all = table[key(-1)];
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (apart) add(*entries[i % entries.size()], values[i]);
    add(all, values[i]);
  }
}

}  // namespace

void LayerTables::add_distortion(int layer, const std::string& tap, const std::string& error,
                                 const std::vector<quant::DistortionStats>& stats, int groups) {
  note(log_, Observation::distortion, layer, tap, error, stats, groups);
  add_by_group(
      distortion_, stats, groups, groups > 1, [&](int group) { return table_key(layer, tap, error, group); },
      [](quant::DistortionStats& into, const quant::DistortionStats& one) { into.merge(one); });
}

void LayerTables::add_rows(int layer, const std::string& tap, const std::vector<kernels::RowStats>& stats) {
  note(log_, Observation::rows, layer, tap, stats);
  RowTotals& totals = rows_[table_key(layer, tap, "none", -1)];
  for (const kernels::RowStats& window : stats) {
    merge(totals.stats, window);
    ++totals.windows;
    totals.window_max_sum += window.max_abs;
    if (totals.windows > (causal_ ? outlier_free_batches : outlier_free_batches_mlm)) continue;
    totals.early_window_kurtosis += window.window_kurtosis;
    totals.early_row_kurtosis += window.kurtosis_sum;
    ++totals.early_windows;
    totals.early_rows += window.rows;
  }
}

void LayerTables::add_prob_counts(int layer, const std::vector<kernels::ProbCounts>& counts, int heads) {
  note(log_, Observation::prob_counts, layer, counts, heads);
  add_by_group(
      probs_, counts, heads, true, [&](int head) { return table_key(layer, "p_codes", "none", head); },
      [](kernels::ProbCounts& into, const kernels::ProbCounts& one) { merge(into, one); });
}

void LayerTables::add_codes(int layer, const std::string& site, const quant::CodeCounts& counts) {
  note(log_, Observation::codes, layer, site, counts);
  codes_[table_key(layer, site, "none", -1)] += counts;
}

std::vector<LayerRow> LayerTables::rows() const {
  std::map<TableKey, TableValues> all;
  for (const auto& [k, stats] : distortion_) all[k] = distortion_values(stats);
  for (const auto& [k, totals] : rows_) all[k] = row_values(totals.stats, k.tap == "gate");
  for (const auto& [k, counts] : probs_)
    all[k] = {{"zero_share", ratio(static_cast<double>(counts.zero_codes), counts.visible)},
              {"masked_rows", static_cast<double>(counts.masked_rows)}};
  for (const auto& [k, counts] : codes_)
    all[k] = {{"saturated_share", ratio(static_cast<double>(counts.saturated), counts.elements)},
              {"flushed_share", ratio(static_cast<double>(counts.flushed), counts.elements)},
              {"nan", static_cast<double>(counts.nan)}};
  samples_.add_to(all);
  std::vector<LayerRow> rows;
  for (auto& [k, values] : all) rows.push_back({k.layer, k.tap, k.head, k.error, std::move(values)});
  return rows;
}

/// The numbers of Bondarenko et al. 2023. Decoders (validate_clm.py of its code): the outputs of each layer, of its norms,
/// of out_proj and fc2, and of the final norm; a row is a whole window, but of fc2 and of the norm before fc1, which see
/// flattened tokens. Encoders (validate_mlm.py): the outputs of fc2 and of the norm behind it, a row is a whole window.
/// Largest mean over rows of any of them.
std::vector<Metric> LayerTables::outlier_free_summary() const {
  Metric inf_norm{"inf_norm.outlier_free", std::nullopt, std::nullopt, "", ""},
      kurtosis{"kurtosis.outlier_free", std::nullopt, std::nullopt, "", ""};
  const auto raise = [](Metric& metric, std::optional<double> value, const TableKey& k) {
    if (!value || *value <= metric.value.value_or(-1)) return;
    metric.value = value;
    metric.note = k.tap == "final_norm" ? k.tap : std::to_string(k.layer) + "." + k.tap;
  };
  std::int64_t batches = 0;
  for (const auto& [k, totals] : rows_) {
    if (k.tap == "gate" || k.tap == "embedding") continue;
    if (!causal_ && k.tap != "ffn_out" && k.tap != "residual") continue;
    const bool tokens = causal_ && (k.tap == "ffn_in" || k.tap == "ffn_out");
    batches = totals.early_windows;
    raise(inf_norm,
          tokens ? ratio(totals.stats.inf_norm_sum, totals.stats.rows) : ratio(totals.window_max_sum, totals.windows), k);
    raise(kurtosis,
          tokens ? ratio(totals.early_row_kurtosis, totals.early_rows)
                 : ratio(totals.early_window_kurtosis, totals.early_windows),
          k);
  }
  if (!inf_norm.value) return {};
  kurtosis.note += ", first " + std::to_string(batches) + " batches of one window";
  return {inf_norm, kurtosis};
}

/// The gates of all layers and heads together.
std::vector<Metric> LayerTables::gate_summary() const {
  kernels::RowStats gates;
  for (const auto& [k, totals] : rows_)
    if (k.tap == "gate") merge(gates, totals.stats);
  if (gates.elements == 0) return {};
  return {{"gate.mean", ratio(gates.sum, gates.elements), std::nullopt, "", ""},
          {"gate.share_below_0.1", ratio(static_cast<double>(gates.below_tenth), gates.elements), std::nullopt, "share", ""},
          {"gate.share_above_0.9", ratio(static_cast<double>(gates.above_nine_tenths), gates.elements), std::nullopt,
           "share", ""}};
}

/// Where the kernel (real against emulated, the same inputs) departs most from the format, over layers, taps and heads.
std::vector<Metric> LayerTables::kernel_summary() const {
  std::vector<Metric> all;
  const auto place = [](const TableKey& k) {
    return std::to_string(k.layer) + "." + k.tap + (k.head == -1 ? "" : ", head " + std::to_string(k.head));
  };
  Metric gain{"kernel.gain.deviation.max", std::nullopt, std::nullopt, "", ""},
      share{"kernel.damage.share.max", std::nullopt, std::nullopt, "ratio", ""};
  for (const auto& [k, stats] : distortion_) {
    if (k.error != "kernel" || stats.count() == 0) continue;
    if (stats.gain() && std::fabs(*stats.gain() - 1) >= gain.value.value_or(0)) {
      gain.value = std::fabs(*stats.gain() - 1);
      gain.note = "largest |gain - 1| of real against emulated: " + place(k);
    }
    const quant::DistortionStats* format = distortion(k.layer, k.tap, "format", k.head);
    // An f32 operation's own rounding (about -130 dB) isn't a format's damage.
    if (format == nullptr || !(format->sums().ee > 1e-10 * format->sums().xx)) continue;
    const double ratio = std::sqrt(stats.sums().ee / format->sums().ee);
    if (ratio >= share.value.value_or(0)) {
      share.value = ratio;
      share.note = "largest |real - emulated| / |emulated - full| where the latter is above -100 dB: " + place(k);
    }
  }
  for (const Metric& metric : {gain, share})
    if (metric.value) all.push_back(metric);
  return all;
}

std::vector<Metric> LayerTables::summary() const {
  double inf_norm = 0, kurtosis = 0;
  bool residual_seen = false;
  for (const auto& [k, totals] : rows_) {
    if (k.tap != "residual" && k.tap != "embedding") continue;
    residual_seen = true;
    inf_norm = std::max(inf_norm, totals.stats.max_abs);
    kurtosis = std::max(kurtosis, ratio(totals.stats.kurtosis_sum, totals.stats.rows).value_or(0));
  }
  kernels::ProbCounts probs;
  for (const auto& [k, counts] : probs_)
    if (k.head == -1) merge(probs, counts);
  std::vector<Metric> all;
  if (residual_seen) {
    all.push_back({"residual.inf_norm.max", inf_norm, std::nullopt, "", "a maximum: no interval"});
    all.push_back({"residual.kurtosis.token.max", kurtosis, std::nullopt, "", "largest layer mean over token rows"});
  }
  if (probs.visible > 0)
    all.push_back({"p_codes.zero_share", ratio(static_cast<double>(probs.zero_codes), probs.visible), std::nullopt, "share",
                   "unmasked attention probabilities coded as 0"});
  quant::CodeCounts codes;
  for (const auto& [k, counts] : codes_) codes += counts;
  if (codes.elements > 0) {
    all.push_back({"codes.saturated_share", ratio(static_cast<double>(codes.saturated), codes.elements), std::nullopt,
                   "share", "inputs of linears and attention beyond the largest code"});
    all.push_back({"codes.flushed_share", ratio(static_cast<double>(codes.flushed), codes.elements), std::nullopt, "share",
                   "nonzero inputs of linears and attention coded as 0"});
    all.push_back({"codes.nan", static_cast<double>(codes.nan), std::nullopt, "", "NaN among those inputs"});
  }
  for (Metric& metric : outlier_free_summary()) all.push_back(std::move(metric));
  for (Metric& metric : gate_summary()) all.push_back(std::move(metric));
  for (Metric& metric : kernel_summary()) all.push_back(std::move(metric));
  for (Metric& metric : samples_.summary()) all.push_back(std::move(metric));
  return all;
}

const quant::DistortionStats* LayerTables::distortion(int layer, const std::string& tap, const std::string& error,
                                                      int head) const {
  const auto found = distortion_.find(table_key(layer, tap, error, head));
  return found == distortion_.end() ? nullptr : &found->second;
}

}  // namespace qfid::eval
