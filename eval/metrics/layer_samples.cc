#include "eval/metrics/layer_samples.h"

#include <algorithm>
#include <cstdlib>
#include <format>

#include "eval/metrics/row_numbers.h"

namespace qfid::eval {

namespace {

constexpr std::array<const char*, 18> data_flow{"embedding", "attn_in", "q",       "k",        "v",          "v_gated",
                                                "gate",      "probs",   "p_codes", "context",  "output",     "attn_out",
                                                "ffn_in",    "ffn_act", "ffn_out", "residual", "final_norm", "logits"};

std::optional<double> share(double part, double whole) {
  if (!(whole > 0)) return std::nullopt;
  return part / whole;
}

std::optional<double> mean(double sum, std::int64_t n) {
  if (n == 0) return std::nullopt;
  return sum / static_cast<double>(n);
}

TableValues part_values(const kernels::OutputSplit& s) {
  return {{"nmse", share(s.error, s.output)},
          {"nmse_p", share(s.p, s.output)},
          {"nmse_p_first", share(s.p_first, s.output)},
          {"nmse_p_others", share(s.p_others, s.output)},
          {"nmse_v", share(s.v, s.output)},
          {"nmse_v_first", share(s.v_first, s.output)},
          {"nmse_v_others", share(s.v_others, s.output)}};
}

TableValues outlier_values(const kernels::OutlierSplit& s) {
  return {{"outlier_tokens", mean(static_cast<double>(s.outlier_tokens), s.tokens)},
          {"outlier_token_error", share(s.token_error, s.error)},
          {"outlier_channels", mean(static_cast<double>(s.outlier_channels), s.channels)},
          {"outlier_channel_error", share(s.channel_error, s.error)},
          {"nmse_but_first", share(s.error - s.first_error, s.energy - s.first_energy)},
          {"gain_but_first", share(s.product - s.first_product, s.energy - s.first_energy)}};
}

void merge(kernels::OutlierSplit& into, const kernels::OutlierSplit& from) {
  into.tokens += from.tokens;
  into.channels += from.channels;
  into.outlier_tokens += from.outlier_tokens;
  into.outlier_channels += from.outlier_channels;
  into.energy += from.energy;
  into.product += from.product;
  into.error += from.error;
  into.token_error += from.token_error;
  into.channel_error += from.channel_error;
  into.first_energy += from.first_energy;
  into.first_product += from.first_product;
  into.first_error += from.first_error;
}

void merge(kernels::OutputSplit& into, const kernels::OutputSplit& from) {
  using Split = kernels::OutputSplit;
  for (double Split::* part : {&Split::output, &Split::error, &Split::p, &Split::p_first, &Split::p_others, &Split::v,
                               &Split::v_first, &Split::v_others})
    into.*part += from.*part;
}

void merge(std::vector<std::int64_t>& into, const std::vector<std::int64_t>& from) {
  into.resize(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) into[i] += from[i];
}

/// Codes that would have to change for one histogram to become the other, over those that aren't 0 (of the one with more):
/// rows are mostly zeros, which say little.
std::optional<double> histogram_distance(const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b) {
  std::int64_t apart = 0, a_coded = 0, b_coded = 0;
  for (std::size_t code = 0; code < a.size(); ++code) {
    apart += std::abs(a[code] - b[code]);
    if (code > 0) a_coded += a[code], b_coded += b[code];
  }
  return share(static_cast<double>(apart) / 2, static_cast<double>(std::max(a_coded, b_coded)));
}

void append(TableValues& to, TableValues values) { to.insert(to.end(), values.begin(), values.end()); }

}  // namespace

TableKey table_key(int layer, const std::string& tap, const std::string& error, int head) {
  return {layer, static_cast<int>(std::find(data_flow.begin(), data_flow.end(), tap) - data_flow.begin()), error, head, tap};
}

void LayerSamples::Series::add(double value, std::int64_t most) {
  sum += value;
  max = std::max(max, value);
  tail.add(static_cast<float>(value), most);
}

template <class Row>
void LayerSamples::add_rows(std::map<TableKey, Rows>& to, const TableKey& pooled, const std::vector<Row>& rows,
                            std::int64_t windows, int heads) {
  const auto queries = static_cast<std::int64_t>(rows.size()) / (windows * heads);
  Rows& all = to[pooled];
  all.heads = heads;
  all.of_a_head += windows * queries;
  for (std::int64_t i = 0; i < windows * heads; ++i) {
    TableKey key = pooled;
    key.head = static_cast<int>(i % heads);
    Rows& own = to[key];
    for (std::int64_t q = 0; q < queries; ++q) {
      const Row& row = rows[static_cast<std::size_t>(i * queries + q)];
      if (row.seen == 0) continue;
      ++own.n;
      ++all.n;
      std::size_t n = 0;
      for (double Row::* number : numbers_of<Row>) {
        own.series[n].add(row.*number, most_rows_);
        all.series[n++].add(row.*number, most_rows_ * heads);
      }
    }
  }
}

void LayerSamples::add_divergence(int layer, const std::string& error, const std::vector<kernels::RowDivergence>& rows,
                                  std::int64_t windows, int heads) {
  if (log_ != nullptr) note_rows(*log_, Observation::divergence, layer, error, rows, windows, heads);
  add_rows(divergence_, table_key(layer, "probs", error, -1), rows, windows, heads);
}

void LayerSamples::add_coded(int layer, const std::string& error, const std::vector<kernels::CodedDivergence>& rows,
                             std::int64_t windows, int heads) {
  if (log_ != nullptr) note_rows(*log_, Observation::coded, layer, error, rows, windows, heads);
  add_rows(coded_, table_key(layer, "p_codes", error, -1), rows, windows, heads);
}

void LayerSamples::add_histogram(int layer, const kernels::ProbScheme& scheme, const std::vector<std::int64_t>& counts) {
  note(log_, Observation::histogram, layer, scheme, counts);
  CodeHistogram& histogram = histograms_[layer];
  histogram.layer = layer;
  histogram.format = quant::to_string(scheme.format);
  histogram.p_scale = static_cast<double>(scheme.effective_scale());
  histogram.counts.resize(counts.size());
  for (std::size_t i = 0; i < counts.size(); ++i) histogram.counts[i] += counts[i];
}

void LayerSamples::add_recoded(int layer, const std::vector<std::vector<std::int64_t>>& real,
                               const std::vector<std::vector<std::int64_t>>& emulated) {
  note(log_, Observation::recoded, layer, real, emulated);
  for (std::size_t head = 0; head < real.size(); ++head)
    for (const int h : {static_cast<int>(head), -1}) {
      CodePair& pair = recoded_[table_key(layer, "p_codes", "kernel", h)];
      merge(pair.real, real[head]);
      merge(pair.emulated, emulated[head]);
    }
}

void LayerSamples::add_parts(int layer, const std::vector<kernels::OutputSplit>& parts, int heads) {
  note(log_, Observation::parts, layer, parts, heads);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    merge(parts_[table_key(layer, "context", "local", static_cast<int>(i) % heads)], parts[i]);
    merge(parts_[table_key(layer, "context", "local", -1)], parts[i]);
  }
}

void LayerSamples::add_magnitudes(int layer, const std::string& tap, const std::vector<kernels::Magnitudes>& windows) {
  note(log_, Observation::magnitudes, layer, tap, windows);
  MagnitudeSums& sums = magnitudes_[table_key(layer, tap, "none", -1)];
  for (const kernels::Magnitudes& window : windows) {
    ++sums.windows;
    sums.massive += window.massive;
    sums.median += window.median;
    for (int i = 0; i < 3; ++i) sums.top[i] += window.top[i];
  }
}

void LayerSamples::add_outliers(int layer, const std::string& tap, const std::vector<kernels::OutlierSplit>& windows) {
  note(log_, Observation::outliers, layer, tap, windows);
  for (const kernels::OutlierSplit& window : windows) merge(outliers_[table_key(layer, tap, "local", -1)], window);
}

void LayerSamples::add_to(std::map<TableKey, TableValues>& all) const {
  for (const auto& [k, rows] : divergence_)
    append(all[k], {{"kl", mean(rows.series[0].sum, rows.n)},
                    {"total_variation", mean(rows.series[1].sum, rows.n)},
                    {"kl_max", rows.series[0].max},
                    {"kl_p99", rows.series[0].tail.percentile()},
                    {"total_variation_p99", rows.series[1].tail.percentile()}});
  for (const auto& [k, rows] : coded_)
    append(all[k], {{"total_variation", mean(rows.series[0].sum, rows.n)},
                    {"total_variation_p99", rows.series[0].tail.percentile()},
                    {"jsd", mean(rows.series[1].sum, rows.n)},
                    {"jsd_p99", rows.series[1].tail.percentile()},
                    {"flushed_mass", mean(rows.series[2].sum, rows.n)},
                    {"flushed_mass_p99", rows.series[2].tail.percentile()}});
  for (const auto& [k, pair] : recoded_)
    append(all[k], {{"histogram_distance", histogram_distance(pair.real, pair.emulated)}});
  for (const auto& [k, parts] : parts_) append(all[k], part_values(parts));
  for (const auto& [k, sums] : magnitudes_)
    append(all[k], {{"magnitude_1", mean(sums.top[0], sums.windows)},
                    {"magnitude_2", mean(sums.top[1], sums.windows)},
                    {"magnitude_3", mean(sums.top[2], sums.windows)},
                    {"magnitude_median", mean(sums.median, sums.windows)},
                    {"massive", mean(static_cast<double>(sums.massive), sums.windows)}});
  for (const auto& [k, split] : outliers_) append(all[k], outlier_values(split));
}

std::vector<Metric> LayerSamples::summary() const {
  std::vector<Metric> all;
  Metric massive{"residual.massive.max", std::nullopt, std::nullopt, "", ""},
      ratio{"residual.magnitude.ratio.max", std::nullopt, std::nullopt, "ratio", ""};
  for (const auto& [k, sums] : magnitudes_) {
    const std::string place = std::format("{}.{}, over {} windows", k.layer, k.tap, sums.windows);
    const std::optional<double> count = mean(static_cast<double>(sums.massive), sums.windows),
                                times = share(sums.top[0], sums.median);
    if (count && (!massive.value || *count > *massive.value)) massive.value = count, massive.note = place;
    if (times && (!ratio.value || *times > *ratio.value)) ratio.value = times, ratio.note = place;
  }
  for (const Metric& metric : {massive, ratio})
    if (metric.value) all.push_back(metric);
  Rows coded;
  for (const auto& [k, rows] : coded_) {
    if (k.error != "local" || k.head != -1) continue;
    coded.n += rows.n;
    for (std::size_t i = 0; i < rows.series.size(); ++i) coded.series[i].sum += rows.series[i].sum;
  }
  if (coded.n == 0) return all;
  const std::string note = std::format("local, mean over {} query rows", coded.n);
  all.push_back({"p_codes.total_variation", mean(coded.series[0].sum, coded.n), std::nullopt, "share", note});
  all.push_back({"p_codes.jsd", mean(coded.series[1].sum, coded.n), std::nullopt, "nats", note});
  all.push_back({"p_codes.flushed_mass", mean(coded.series[2].sum, coded.n), std::nullopt, "share", note});
  return all;
}

std::vector<CodeHistogram> LayerSamples::histograms() const {
  std::vector<CodeHistogram> all;
  for (const auto& [layer, histogram] : histograms_) all.push_back(histogram);
  return all;
}

}  // namespace qfid::eval
