// Per-layer, per-head tables that grow window by window: comparisons of a tap with the baseline's (distortion, divergence of
// probability rows) and numbers about one arm's own tensors (outliers, gates, zero P codes). Windows merge in order.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "eval/metrics/metric.h"
#include "kernels/attention.h"
#include "kernels/reductions.h"

namespace qfid::eval {

/// Bondarenko et al. average kurtosis over this many evaluation batches (here of one window) of a causal model.
inline constexpr int outlier_free_batches = 101;

class LayerTables {
 public:
  /// `stats` as Reductions::distortion returns them: [windows * groups]. Rows by head when groups > 1, and all heads pooled.
  void add_distortion(int layer, const std::string& tap, const std::string& error,
                      const std::vector<quant::DistortionStats>& stats, int groups);
  /// Probability rows, [windows * heads * queries].
  void add_divergence(int layer, const std::string& error, const std::vector<kernels::RowDivergence>& rows,
                      std::int64_t windows, int heads);
  /// Outliers of one arm's own tensor, one entry a window; `gate`: values in (0, 1) whose mean and extremes matter instead.
  void add_rows(int layer, const std::string& tap, const std::vector<kernels::RowStats>& stats);
  /// [windows * heads].
  void add_prob_counts(int layer, const std::vector<kernels::ProbCounts>& counts, int heads);

  /// What the cast of a quantized input did (`site`: a linear's name, or "attention.q", ...), all windows together.
  void add_codes(int layer, const std::string& site, const quant::CodeCounts& counts);

  /// Every row, ordered by layer, tap (order of the layer's data flow), error, head.
  std::vector<LayerRow> rows() const;
  /// Model-level numbers of this arm: largest residual, kurtosis, zero P codes; with rows of error "format" and "kernel"
  /// also kernel.gain.deviation.max and kernel.damage.share.max, whose notes name the place.
  std::vector<Metric> summary() const;
  /// The pooled distortion of a tap; null when never added.
  const quant::DistortionStats* distortion(int layer, const std::string& tap, const std::string& error, int head) const;

 private:
  struct Key {
    int layer;
    int tap_order;
    std::string error;
    int head;
    std::string tap;
    auto operator<=>(const Key&) const = default;
  };
  struct DivergenceTotals {
    std::int64_t rows = 0;
    double kl_sum = 0, tv_sum = 0, kl_max = 0;
  };
  struct RowTotals {
    kernels::RowStats stats;
    std::int64_t windows = 0;
    double window_max_sum = 0;                                 ///< of each window's largest |x|
    double early_window_kurtosis = 0, early_row_kurtosis = 0;  ///< of the first outlier_free_batches windows
    std::int64_t early_windows = 0, early_rows = 0;
  };
  std::vector<Metric> outlier_free_summary() const;
  std::vector<Metric> gate_summary() const;
  std::vector<Metric> kernel_summary() const;
  static Key key(int layer, const std::string& tap, const std::string& error, int head);

  std::map<Key, quant::DistortionStats> distortion_;
  std::map<Key, DivergenceTotals> divergence_;
  std::map<Key, RowTotals> rows_;
  std::map<Key, kernels::ProbCounts> probs_;
  std::map<Key, quant::CodeCounts> codes_;
};

}  // namespace qfid::eval
