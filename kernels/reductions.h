// The fixed set of reductions from which all metrics are computed, so that nothing large leaves the device and the same
// metric code serves every backend. All sums in double, each window's formed alone, in a fixed order.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "kernels/attention.h"
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

/// What a row of f32 probabilities lacks to 1 is its learnable sink's, where there is one: one more outcome. Rows don't tell
/// less than this from 0.
inline constexpr double least_sink_mass = 1e-5;

/// One query row's divergence before coding: KL(base||test) and total variation.
struct RowDivergence {
  double kl = 0, tv = 0;
  std::int64_t seen = 0;  ///< 0: both rows are all zero, and nothing is known
};

/// One query row's divergence once P is coded: p of the base against w, the weights that the product with V used.
struct CodedDivergence {
  double tv = 0;          ///< half of sum |p - w|, the sink's share among them; not renormalized
  double jsd = 0;         ///< Jensen-Shannon divergence of both rows, each divided by its sum; ln 2 where w is all zero
  double flushed = 0;     ///< sum of p where w is 0
  std::int64_t seen = 0;  ///< as above
};

/// Attention's error in one head of one window, P^ V^ - P V, in parts: (P^ - P) V and P^ (V^ - V), each of key 0 and of the
/// other keys. Squared norms over queries and channels; parts may point against each other, so these don't add up.
struct OutputSplit {
  double output = 0;  ///< |P V|^2
  double error = 0;   ///< |P^ V^ - P V|^2
  double p = 0, p_first = 0, p_others = 0;
  double v = 0, v_first = 0, v_others = 0;
};

/// Largest magnitudes of one window; values that aren't finite are left out.
struct Magnitudes {
  std::int64_t elements = 0;
  std::int64_t massive = 0;        ///< |x| > 100 and > 1000 times the median |x| (Sun et al. 2024, arXiv 2402.17762)
  double top[3] = {}, median = 0;  ///< of |x|: the three largest; the mean of the two middle ones of an even number
};

/// Where the error y - x of one window lies. An outlier is further than six standard deviations from the mean of x's window
/// (Bondarenko et al. 2021, arXiv 2109.12948, and 2023, arXiv 2306.12929); an outlier token or channel holds at least one.
/// Rows of x with NaN or Inf are no part of mean and deviation and hold none; pairs that aren't finite are left out.
struct OutlierSplit {
  std::int64_t tokens = 0, channels = 0, outlier_tokens = 0, outlier_channels = 0;
  double energy = 0, product = 0, error = 0;                    ///< |x|^2, <x, y>, |y - x|^2
  double token_error = 0, channel_error = 0;                    ///< of error, in outlier tokens, in outlier channels
  double first_energy = 0, first_product = 0, first_error = 0;  ///< of the first token alone
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
  /// distortion() of several pairs (x, y), waited for once.
  using Pair = std::pair<DeviceTensor, DeviceTensor>;
  virtual std::vector<std::vector<quant::DistortionStats>> distortion_of(std::span<const Pair> pairs);
  /// probs [B, H, Tq, Tk] -> [B*H*Tq]. `sink`: what rows lack to 1 is a learnable sink's.
  virtual std::vector<RowDivergence> row_divergence(const DeviceTensor& base, const DeviceTensor& test, bool sink) = 0;
  /// Weights that the product with V used, f32 [B, H, Tq, Tk]: code / p_scale * (the largest E's probability). `probs` and
  /// `codes` (storage of the scheme) are the taps of one call. The largest of probs seen so far (of all, or block by block
  /// with a running reference) and the sink's mass is that probability: E is 1 there.
  virtual DeviceTensor coded_weights(const DeviceTensor& probs, const DeviceTensor& codes, const ProbScheme& scheme,
                                     bool sink) = 0;
  /// base and test: probabilities before coding, weights: test's after it; all f32 [B, H, Tq, Tk] -> [B*H*Tq].
  virtual std::vector<CodedDivergence> coded_divergence(const DeviceTensor& base, const DeviceTensor& test,
                                                        const DeviceTensor& weights, bool sink) = 0;
  /// How often each code of one byte occurs where the query sees the key (causal: bottom-right aligned; otherwise every
  /// key): codes [B, H, Tq, Tk] -> 256 counts.
  virtual std::vector<std::int64_t> code_histogram(const DeviceTensor& codes, bool causal) = 0;
  /// base, weights f32 [B, H, Tq, Tk]; v, coded_v f32 [B, Tk, Hkv, D], H a multiple of Hkv -> [B*H].
  virtual std::vector<OutputSplit> output_split(const DeviceTensor& base, const DeviceTensor& weights, const DeviceTensor& v,
                                                const DeviceTensor& coded_v) = 0;
  /// x f32 [B, T, ..., D] -> one RowStats a window.
  virtual std::vector<RowStats> row_stats(const DeviceTensor& x) = 0;
  /// row_stats() of several tensors, waited for once.
  virtual std::vector<std::vector<RowStats>> row_stats_of(std::span<const DeviceTensor> tensors);
  /// x f32 [B, T, ...] -> one a window. A sort of each window: for samples.
  virtual std::vector<Magnitudes> magnitudes(const DeviceTensor& x) = 0;
  /// x (reference), y: f32 [B, T, ...], a token's numbers being its channels -> one a window.
  virtual std::vector<OutlierSplit> outlier_split(const DeviceTensor& x, const DeviceTensor& y) = 0;
  /// probs f32 [B, H, Tq, Tk], causal (bottom-right aligned) or with every key seen -> [B*H]. Logarithms of p below the
  /// smallest normal f32 are its.
  virtual std::vector<AttentionSummary> attention_summary(const DeviceTensor& probs, bool causal) = 0;
  /// L2 norms over the last axis: f32 [B, T, G, D] -> [B*T*G] doubles.
  virtual std::vector<double> norms(const DeviceTensor& x) = 0;
  /// |R_g x| of x f32 [B, T, G, D], R f32 [G, D, D] upper triangular -> [B*T*G].
  virtual std::vector<double> projected_norms(const DeviceTensor& x, const DeviceTensor& factors) = 0;
  /// alpha_k[b,h] = mean over queries max(k, q0) <= q < t_max of probs[b,h,q,k] (k fixed) -> [B*H]. t_max <= q_len.
  virtual std::vector<double> mean_attention_to(const DeviceTensor& probs, std::int64_t key, std::int64_t q0,
                                                std::int64_t t_max) = 0;
};

}  // namespace qfid::kernels
