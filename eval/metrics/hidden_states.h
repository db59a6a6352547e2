// Measures of a model by its last hidden states, for encoders that score no tokens (docs/metrics.md, "Hidden states"):
// what leaves the model against what full precision's leaves, token by token, and the window's mean over its tokens, which
// is what sentence embeddings are made of. Sums in double, each token's and each window's formed alone. Blind to: what reads
// the hidden states. A head may ignore a direction that is far off, or live on one that is barely.
#pragma once

#include <vector>

#include "eval/metrics/metric.h"
#include "quant/core/tensor.h"

namespace qfid::eval {

struct HiddenToken {
  double nmse = 0;             ///< |y - x|^2 / |x|^2; x: full precision
  double cosine_distance = 0;  ///< 1 - <x, y> / (|x| |y|)
};

struct HiddenData {
  std::vector<std::vector<HiddenToken>> windows;  ///< tokens that count, in order
  std::vector<double> pooled;                     ///< [windows]: cosine distance of the means over these tokens
  double confidence = 0.95;
};

/// Adds window `w` of x and y, f32 [B, T, H]; `counts` [T]: which tokens do. Error{input} for numbers that aren't finite and
/// for tokens where |x| or |y| is 0, naming the position.
void add_hidden_window(HiddenData& data, const quant::Tensor& x, const quant::Tensor& y, std::int64_t w,
                       const std::vector<bool>& counts);

/// hidden.nmse.mean and percentiles, hidden.sqnr, hidden.cosine_distance.mean and percentiles,
/// hidden.pooled.cosine_distance.mean, .max.
std::vector<Metric> hidden_metrics(const HiddenData& data);
WindowSums hidden_window_sums(const HiddenData& data);
TokenSeries hidden_series(const HiddenData& data);

}  // namespace qfid::eval
