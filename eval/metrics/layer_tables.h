// Per-layer, per-head tables that grow window by window: comparisons of a tap with the baseline's (distortion) and numbers
// about one arm's own tensors (outliers, gates, zero P codes), on all windows; what is taken on samples of them is in
// layer_samples.h. Windows merge in order.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "eval/metrics/layer_samples.h"
#include "eval/metrics/metric.h"
#include "kernels/attention.h"
#include "kernels/reductions.h"

namespace qfid::eval {

/// Bondarenko et al. average kurtosis over this many evaluation batches (here of one window): validate_clm.py,
/// validate_mlm.py.
inline constexpr int outlier_free_batches = 101, outlier_free_batches_mlm = 257;

class LayerTables {
 public:
  /// `sampled_windows`: the most that samples() will see, `longest`: the most tokens of one; `causal`: a decoder's.
  explicit LayerTables(std::int64_t sampled_windows = 16, std::int64_t longest = 4096, bool causal = true)
      : causal_(causal), samples_(sampled_windows, longest) {}
  LayerSamples& samples() { return samples_; }
  const LayerSamples& samples() const { return samples_; }

  /// `stats` as Reductions::distortion returns them: [windows * groups]. Rows by head when groups > 1, and all heads pooled.
  void add_distortion(int layer, const std::string& tap, const std::string& error,
                      const std::vector<quant::DistortionStats>& stats, int groups);
  /// Outliers of one arm's own tensor, one entry a window; `gate`: values in (0, 1) whose mean and extremes matter instead.
  void add_rows(int layer, const std::string& tap, const std::vector<kernels::RowStats>& stats);
  /// [windows * heads].
  void add_prob_counts(int layer, const std::vector<kernels::ProbCounts>& counts, int heads);

  /// What the cast of a quantized input did (`site`: a linear's name, or "attention.q", ...), all windows together.
  void add_codes(int layer, const std::string& site, const quant::CodeCounts& counts);

  /// From here on every call above, and those of samples(), is also written down; null = no longer.
  void log_to(quant::ByteWriter* log);
  /// Makes the calls that were written down again, in their order: the same additions, so the same bits. Error{input}.
  void replay(quant::ByteReader& from);

  /// Every row, ordered by layer, tap (order of the layer's data flow), error, head.
  std::vector<LayerRow> rows() const;
  /// Model-level numbers of this arm: largest residual, kurtosis, zero P codes; with rows of error "format" and "kernel"
  /// also kernel.gain.deviation.max and kernel.damage.share.max, whose notes name the place.
  std::vector<Metric> summary() const;
  /// The pooled distortion of a tap; null when never added.
  const quant::DistortionStats* distortion(int layer, const std::string& tap, const std::string& error, int head) const;

 private:
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

  bool causal_;
  quant::ByteWriter* log_ = nullptr;
  std::map<TableKey, quant::DistortionStats> distortion_;
  std::map<TableKey, RowTotals> rows_;
  std::map<TableKey, kernels::ProbCounts> probs_;
  std::map<TableKey, quant::CodeCounts> codes_;
  LayerSamples samples_;
};

}  // namespace qfid::eval
