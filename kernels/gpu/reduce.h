// Launchers of the reductions.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/reductions.h"

namespace qfid::kernels::gpu {

/// What comparing a row of logits needs of it; sum = sum exp(x - top), lse = ln sum exp x.
struct LogitRow {
  float top, margin;
  std::int32_t index;
  std::int32_t leaders[5];  ///< the five largest, ties by the lowest index; INT32_MAX where there are fewer
  double sum, lse;
};
void logit_rows(const float* x, std::int64_t rows, std::int64_t n, LogitRow* out, cudaStream_t stream);
void compare_rows(const float* base, const float* test, const LogitRow* base_rows, const LogitRow* test_rows,
                  const std::int32_t* targets, std::int64_t rows, std::int64_t n, TokenComparison* out, cudaStream_t stream);

/// parts [B * G, splits], then folded in order into sums [B * G]; x, y [B, T, G, D].
std::int64_t distortion_splits(std::int64_t tokens, std::int64_t width);
void distortion_parts(const float* x, const float* y, std::int64_t B, std::int64_t T, std::int64_t G, std::int64_t D,
                      quant::DistortionStats::Sums* parts, quant::DistortionStats::Sums* sums, cudaStream_t stream);

void divergence_rows(const float* p, const float* q, std::int64_t rows, std::int64_t n, bool sink, RowDivergence* out,
                     cudaStream_t stream);

// coded_probabilities.cu
void weight_rows(const float* probs, const void* codes, std::int64_t rows, std::int64_t keys, const ProbScheme& scheme,
                 bool sink, float* out, cudaStream_t stream);
void coded_rows(const float* base, const float* test, const float* weights, std::int64_t rows, std::int64_t n, bool sink,
                CodedDivergence* out, cudaStream_t stream);
/// out[g] = mean over queries [first, last) of probs[g, q, key].
void mean_column(const float* probs, std::int64_t groups, std::int64_t queries, std::int64_t keys, std::int64_t key,
                 std::int64_t first, std::int64_t last, double* out, cudaStream_t stream);
/// counts [256] += the codes that queries see.
void count_codes(const std::uint8_t* codes, std::int64_t rows, std::int64_t queries, std::int64_t keys, bool causal,
                 std::int64_t* counts, cudaStream_t stream);
struct SplitSizes {
  std::int64_t windows, heads, kv_heads, queries, keys, dims;
};
/// out [windows, heads, queries]: each query's part.
void split_rows(const float* base, const float* weights, const float* v, const float* coded, const SplitSizes& n,
                OutputSplit* out, cudaStream_t stream);

/// RowStats of each row, then of each group of rows, with the central moments of their elements.
struct StatsRow {
  RowStats stats;
  double n, mean, m2, m3, m4;
};
void stats_rows(const float* x, std::int64_t rows, std::int64_t n, StatsRow* out, cudaStream_t stream);
void fold_stats(const StatsRow* rows, std::int64_t groups, std::int64_t per_group, StatsRow* out, cudaStream_t stream);

struct SummaryRow {
  double mass, entropy, gap;
  std::int64_t own;  ///< the row's own key; 0 where all keys are seen: no gap
};
void summary_rows(const float* probs, std::int64_t groups, std::int64_t queries, std::int64_t keys, bool causal,
                  SummaryRow* out, cudaStream_t stream);
void fold_summary(const SummaryRow* rows, std::int64_t groups, std::int64_t queries, AttentionSummary* out,
                  cudaStream_t stream);
/// out [groups, keys]: sums over queries.
void column_sums(const float* probs, std::int64_t groups, std::int64_t queries, std::int64_t keys, double* out,
                 cudaStream_t stream);

// outliers.cu
void window_magnitudes(const float* x, std::int64_t windows, std::int64_t n, Magnitudes* out, cudaStream_t stream);
/// `rows` [B * T], `windows` [B]: as stats_rows and fold_stats leave them. tokens [B, T] and channels [B, n] are set to 1
/// where there is an outlier.
void outlier_flags(const float* x, const StatsRow* rows, const StatsRow* windows, std::int64_t B, std::int64_t T,
                   std::int64_t n, std::uint8_t* tokens, std::uint8_t* channels, cudaStream_t stream);
struct OutlierRow {
  double energy, product, error, channel_error;
  std::int64_t outlier;  ///< the token holds one
};
void outlier_rows(const float* x, const float* y, const std::uint8_t* tokens, const std::uint8_t* channels, std::int64_t B,
                  std::int64_t T, std::int64_t n, OutlierRow* out, cudaStream_t stream);
void projected_row_norms(const float* x, const float* factors, std::int64_t rows, std::int64_t groups, std::int64_t n,
                         double* out, cudaStream_t stream);
void row_norms(const float* x, std::int64_t rows, std::int64_t n, double* out, cudaStream_t stream);

}  // namespace qfid::kernels::gpu
