#include "eval/metrics/attention_sinks.h"

#include <algorithm>
#include <format>
#include <numeric>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

std::optional<double> mean(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// |v_0| / mean over t >= 1 of |v_t|, of head h; null for one token or all-zero values.
std::optional<double> drain(const std::vector<double>& norms, int heads, int h) {
  const std::size_t tokens = norms.size() / static_cast<std::size_t>(heads);
  if (tokens < 2) return std::nullopt;
  double others = 0;
  for (std::size_t t = 1; t < tokens; ++t)
    others += norms[t * static_cast<std::size_t>(heads) + static_cast<std::size_t>(h)];
  if (!(others > 0)) return std::nullopt;
  return norms[static_cast<std::size_t>(h)] * static_cast<double>(tokens - 1) / others;
}

}  // namespace

AttentionSinks::AttentionSinks(int layers, int heads, double threshold)
    : layers_(layers), heads_(heads), threshold_(threshold), cells_(static_cast<std::size_t>(layers * heads)) {}

void AttentionSinks::keep(int layer, int head, std::vector<double> Cell::* series, double value) {
  (cells_[static_cast<std::size_t>(layer * heads_ + head)].*series).push_back(value);
  if (log_ == nullptr) return;
  log_->number(layer);
  log_->number(head);
  log_->number(static_cast<std::uint8_t>(std::find(all_series.begin(), all_series.end(), series) - all_series.begin()));
  log_->number(value);
}

void AttentionSinks::replay(quant::ByteReader& from) {
  while (!from.done()) {
    const int layer = from.number<int>(), head = from.number<int>();
    const auto series = from.number<std::uint8_t>();
    quant::ByteReader::check(layer >= 0 && layer < layers_ && head >= 0 && head < heads_ && series < all_series.size());
    keep(layer, head, all_series[series], from.number<double>());
  }
}

void AttentionSinks::add_attention(int layer, const std::vector<double>& alpha_q64, const std::vector<double>& alpha_t64) {
  for (int h = 0; h < heads_; ++h) {
    if (!alpha_q64.empty()) keep(layer, h, &Cell::alpha_q64, alpha_q64[static_cast<std::size_t>(h)]);
    if (!alpha_t64.empty()) keep(layer, h, &Cell::alpha_t64, alpha_t64[static_cast<std::size_t>(h)]);
  }
}

void AttentionSinks::add_norms(int layer, const std::vector<double>& v, const std::vector<double>& v_gated) {
  quant::require(v.size() == v_gated.size() && v.size() % static_cast<std::size_t>(heads_) == 0,
                 "attention sinks: norms don't cover whole tokens");
  for (int h = 0; h < heads_; ++h) {
    if (const auto ratio = drain(v, heads_, h)) keep(layer, h, &Cell::drain_v, *ratio);
    if (const auto ratio = drain(v_gated, heads_, h)) keep(layer, h, &Cell::drain_gated, *ratio);
  }
}

void AttentionSinks::add_projected(int layer, const std::vector<double>& norms) {
  for (int h = 0; h < heads_; ++h)
    if (const auto ratio = drain(norms, heads_, h)) keep(layer, h, &Cell::drain_out, *ratio);
}

void AttentionSinks::add_gates(int layer, const std::vector<double>& gates) {
  quant::require(gates.size() >= static_cast<std::size_t>(heads_), "attention sinks: fewer gates than heads");
  for (int h = 0; h < heads_; ++h) keep(layer, h, &Cell::gate_at_first, gates[static_cast<std::size_t>(h)]);
}

void AttentionSinks::add_summary(int layer, const std::vector<kernels::AttentionSummary>& heads) {
  for (int h = 0; h < heads_; ++h) {
    const kernels::AttentionSummary& s = heads[static_cast<std::size_t>(h)];
    if (s.rows == 0) continue;
    keep(layer, h, &Cell::entropy, s.entropy_sum / static_cast<double>(s.rows));
    keep(layer, h, &Cell::sink_mass, s.sink_mass_sum / static_cast<double>(s.rows));
    if (s.gap_rows > 0) keep(layer, h, &Cell::gap, s.gap_sum / static_cast<double>(s.gap_rows));
    keep(layer, h, &Cell::top_is_first, s.top_key == 0 ? 1 : 0);
    keep(layer, h, &Cell::top_share, s.top_key_share);
  }
}

std::vector<bool> AttentionSinks::sink_heads() const {
  std::vector<bool> sinks;
  for (const Cell& cell : cells_) sinks.push_back(mean(cell.alpha_q64).value_or(0) > threshold_);
  return sinks;
}

double AttentionSinks::rate(std::vector<double> Cell::* series) const {
  std::int64_t above = 0, all = 0;
  for (const Cell& cell : cells_)
    for (double alpha : cell.*series) {
      above += alpha > threshold_;
      ++all;
    }
  return all == 0 ? 0 : static_cast<double>(above) / static_cast<double>(all);
}

std::optional<double> AttentionSinks::mean_drain(std::vector<double> Cell::* series, const std::vector<bool>* only) const {
  std::vector<double> all;
  for (std::size_t i = 0; i < cells_.size(); ++i)
    if (only == nullptr || (*only)[i]) all.insert(all.end(), (cells_[i].*series).begin(), (cells_[i].*series).end());
  return mean(all);
}

std::vector<Metric> AttentionSinks::metrics(const std::vector<bool>& baseline_sinks) const {
  if (cells_.empty() || cells_[0].drain_v.empty()) return {};
  const std::string note = std::format("over {} windows", cells_[0].drain_v.size());
  std::vector<Metric> all;
  if (!cells_[0].alpha_q64.empty())
    all.push_back({std::format("sink_rate.q64.t{}", threshold_), rate(&Cell::alpha_q64), std::nullopt, "share", note});
  if (!cells_[0].alpha_t64.empty())
    all.push_back({std::format("sink_rate.T64.q0.t{}", threshold_), rate(&Cell::alpha_t64), std::nullopt, "share", note});
  const auto with_sinks = [&](const std::string& name, std::vector<double> Cell::* series, const char* unit) {
    const std::optional<double> every = mean_drain(series, nullptr);
    if (!every) return;
    all.push_back({name, every, std::nullopt, unit, note});
    Metric sinks{name + ".sinks", mean_drain(series, &baseline_sinks), std::nullopt, unit, note};
    if (!sinks.value) sinks.note = "the baseline has no sink heads";
    all.push_back(sinks);
  };
  with_sinks("drain.v", &Cell::drain_v, "ratio");
  with_sinks("drain.v_gated", &Cell::drain_gated, "ratio");
  with_sinks("drain.out", &Cell::drain_out, "ratio");
  with_sinks("gate.at_first", &Cell::gate_at_first, "");
  const auto mean_of = [&](const char* name, std::vector<double> Cell::* series, const char* unit) {
    all.push_back({std::string("attention.") + name, mean_drain(series, nullptr), std::nullopt, unit, note});
  };
  mean_of("entropy", &Cell::entropy, "nats");
  mean_of("sink_mass", &Cell::sink_mass, "share");
  mean_of("delta_logit", &Cell::gap, "nats");
  mean_of("first_is_top", &Cell::top_is_first, "share");
  mean_of("top_key_share", &Cell::top_share, "share");
  return all;
}

std::vector<LayerRow> AttentionSinks::rows() const {
  std::vector<LayerRow> rows;
  for (int l = 0; l < layers_; ++l)
    for (int h = 0; h < heads_; ++h) {
      const Cell& cell = cells_[static_cast<std::size_t>(l * heads_ + h)];
      if (cell.drain_v.empty()) continue;
      rows.push_back({l,
                      "attention_to_first",
                      h,
                      "none",
                      {{"alpha0.q64", mean(cell.alpha_q64)},
                       {"alpha0.T64", mean(cell.alpha_t64)},
                       {"drain_v", mean(cell.drain_v)},
                       {"drain_v_gated", mean(cell.drain_gated)},
                       {"drain_out", mean(cell.drain_out)},
                       {"entropy", mean(cell.entropy)},
                       {"sink_mass", mean(cell.sink_mass)},
                       {"delta_logit", mean(cell.gap)},
                       {"first_is_top", mean(cell.top_is_first)},
                       {"top_key_share", mean(cell.top_share)}}});
      if (!cell.gate_at_first.empty()) rows.back().values.emplace_back("gate_at_first", mean(cell.gate_at_first));
    }
  return rows;
}

}  // namespace qfid::eval
