// The fixed set of reductions from which all metrics are computed, so that nothing large leaves the device and the same
// metric code serves every backend. All sums in double, each window's formed alone, in a fixed order.
#pragma once

#include <vector>

#include "kernels/tensor.h"
#include "quant/distortion.h"

namespace qfid::kernels {

/// One token's comparison of two rows of logits with the target token; natural logarithms, full vocabulary, no clipping.
struct TokenComparison {
  double nll_base, nll_test;
  double kl;                          ///< KL(base||test) = sum p (e^d - 1 - d), d = ln q - ln p (no cancellation)
  double kl_reverse;                  ///< KL(test||base), same form
  float p_base, p_test;               ///< probability of the target token
  double jsd;                         ///< Jensen-Shannon divergence, (KL(base||m) + KL(test||m)) / 2, m = (base + test) / 2
  float top_p_base, margin_base;      ///< base's top probability; ln p_top1 - ln p_top2
  float top5_overlap;                 ///< share of base's five most likely tokens (all, of fewer) among test's five
  std::int32_t top1_base, top1_test;  ///< argmax, ties to the lowest index
  std::int32_t target;                ///< the token that came
};

/// One probability row-set's divergence: mean over query rows of KL(base||test), total variation, and the worst row.
struct RowDivergence {
  std::int64_t rows = 0;
  double kl_sum = 0, tv_sum = 0, kl_max = 0;
};

/// Statistics of token rows (row = the last axis) of one window.
struct RowStats {
  std::int64_t rows = 0;
  double max_abs = 0;                                   ///< largest |x| of the window
  double inf_norm_sum = 0;                              ///< sum over rows of the row's max|x|
  double kurtosis_sum = 0;                              ///< sum over rows of mean((x-mu)^4)/(s^4+1e-6), s unbiased
  double sum = 0;                                       ///< sum of all elements (for means)
  std::int64_t below_tenth = 0, above_nine_tenths = 0;  ///< elements < .1 and > .9, of rows within [0, 1] (gates)
  std::int64_t elements = 0, non_finite = 0;
  double window_kurtosis = 0;  ///< the same form over the whole window as one row (its rows with NaN or Inf left out)
};

/// What one head's attention looks like in one window; rows that are all zero are left out. Mass missing from a row (above
/// 1e-5, f32's roundings) is a learnable sink's: one more outcome.
struct AttentionSummary {
  std::int64_t rows = 0;
  double entropy_sum = 0;     ///< sum over rows of -sum p ln p, nats
  double sink_mass_sum = 0;   ///< sum over rows of the missing mass
  std::int64_t gap_rows = 0;  ///< causal rows that see at least two earlier keys
  double gap_sum = 0;         ///< over these: ln p of key 0 less the mean ln p of keys 1 to own - 1
  std::int64_t top_key = 0;   ///< the key that receives most in total, ties to the lowest
  double top_key_share = 0;   ///< its share of what all rows give
};

class Reductions {
 public:
  virtual ~Reductions() = default;
  /// logits [B, T, V] (base, test), targets i32 [B, T] -> B*T entries. base == test storage is allowed (NLL alone).
  virtual std::vector<TokenComparison> compare_logits(const DeviceTensor& base, const DeviceTensor& test,
                                                      const DeviceTensor& targets) = 0;
  /// x (reference), y: f32 [B, T, G, D] (or [B, T, D], G = 1) -> [B*G] row-major.
  virtual std::vector<quant::DistortionStats> distortion(const DeviceTensor& x, const DeviceTensor& y) = 0;
  /// probs [B, H, Tq, Tk] -> [B*H]. Rows that are all zero in both are skipped.
  virtual std::vector<RowDivergence> row_divergence(const DeviceTensor& base, const DeviceTensor& test) = 0;
  /// x f32 [B, T, ..., D] -> one RowStats a window.
  virtual std::vector<RowStats> row_stats(const DeviceTensor& x) = 0;
  /// probs f32 [B, H, Tq, Tk], causal (bottom-right aligned) or with every key seen -> [B*H]. Logarithms of p below the
  /// smallest normal f32 are its.
  virtual std::vector<AttentionSummary> attention_summary(const DeviceTensor& probs, bool causal) = 0;
  /// L2 norms over the last axis: f32 [B, T, G, D] -> [B*T*G] doubles.
  virtual std::vector<double> norms(const DeviceTensor& x) = 0;
  /// alpha_k[b,h] = mean over queries max(k, q0) <= q < t_max of probs[b,h,q,k] (k fixed) -> [B*H]. t_max <= q_len.
  virtual std::vector<double> mean_attention_to(const DeviceTensor& probs, std::int64_t key, std::int64_t q0,
                                                std::int64_t t_max) = 0;
};

}  // namespace qfid::kernels
