// Attention sinks and value drains (docs/metrics.md, "Outliers"): alpha_0 = mean over queries of the attention to key 0, on
// a sample of windows, per layer and head.
//   sink_rate.q64.t0.3      queries >= 64 of the whole window; robust to short prefixes
//   sink_rate.T64.q0.t0.3   the first 64 positions, all queries (Gu et al. 2024)
//   drain.*                 |v_0| over the mean |v_t|, t >= 1, before (v) and after (v_gated) a value-site gate, and
//                           behind the head's slice of the output projection (out: |W_O g v|), averaged over (window,
//                           layer, head); .sinks: only over heads that are sinks in the named baseline
//   gate.at_first           the gate at position 0
//   attention.*             entropy, a learnable sink's mass, the logit of key 0 over the others', the key that gets most
// Rates are blind to sinks at other keys than the first; attention.first_is_top says whether there are any.
#pragma once

#include <array>
#include <vector>

#include "eval/metrics/metric.h"
#include "kernels/reductions.h"
#include "quant/core/byte_stream.h"

namespace qfid::eval {

class AttentionSinks {
 public:
  AttentionSinks(int layers, int heads, double threshold);

  /// One window's alpha_0 by head: queries >= 64, and the first 64 positions.
  void add_attention(int layer, const std::vector<double>& alpha_q64, const std::vector<double>& alpha_t64);
  /// One window's norms [T * heads], before and after the gate (equal without one).
  void add_norms(int layer, const std::vector<double>& v, const std::vector<double>& v_gated);

  /// One window's norms [T * heads] of W_O g v.
  void add_projected(int layer, const std::vector<double>& norms);
  /// One window's gates [T * heads].
  void add_gates(int layer, const std::vector<double>& gates);

  /// One window's summaries by head.
  void add_summary(int layer, const std::vector<kernels::AttentionSummary>& heads);

  /// From here on what the calls above keep is also written down; null = no longer.
  void log_to(quant::ByteWriter* log) { log_ = log; }
  /// Keeps what was written down, in its order. Error{input}.
  void replay(quant::ByteReader& from);

  /// Heads whose mean alpha_0 (queries >= 64) over the windows exceeds the threshold: [layers * heads].
  std::vector<bool> sink_heads() const;
  /// `baseline_sinks`: sink_heads() of the baseline. Rates are null before any window was added.
  std::vector<Metric> metrics(const std::vector<bool>& baseline_sinks) const;
  /// Per layer and head: alpha_0 and drains.
  std::vector<LayerRow> rows() const;

 private:
  struct Cell {
    std::vector<double> alpha_q64, alpha_t64, drain_v, drain_gated, drain_out, gate_at_first;
    std::vector<double> entropy, sink_mass, gap, top_is_first, top_share;
  };
  static constexpr std::array<std::vector<double> Cell::*, 11> all_series{
      &Cell::alpha_q64, &Cell::alpha_t64, &Cell::drain_v, &Cell::drain_gated,  &Cell::drain_out, &Cell::gate_at_first,
      &Cell::entropy,   &Cell::sink_mass, &Cell::gap,     &Cell::top_is_first, &Cell::top_share};
  /// Every number goes into its series here.
  void keep(int layer, int head, std::vector<double> Cell::* series, double value);
  double rate(std::vector<double> Cell::* series) const;
  std::optional<double> mean_drain(std::vector<double> Cell::* series, const std::vector<bool>* only) const;

  int layers_, heads_;
  double threshold_;
  quant::ByteWriter* log_ = nullptr;
  std::vector<Cell> cells_;  ///< [layers * heads]
};

}  // namespace qfid::eval
