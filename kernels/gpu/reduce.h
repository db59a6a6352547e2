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

struct DivergenceRow {
  double kl, tv;
  std::int64_t seen;  ///< 0: both rows are all zero
};
void divergence_rows(const float* p, const float* q, std::int64_t rows, std::int64_t n, DivergenceRow* out,
                     cudaStream_t stream);
void fold_divergence(const DivergenceRow* rows, std::int64_t groups, std::int64_t per_group, RowDivergence* out,
                     cudaStream_t stream);

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

void row_norms(const float* x, std::int64_t rows, std::int64_t n, double* out, cudaStream_t stream);
/// out[g] = mean over queries [first, last) of probs[g, q, key].
void mean_column(const float* probs, std::int64_t groups, std::int64_t queries, std::int64_t keys, std::int64_t key,
                 std::int64_t first, std::int64_t last, double* out, cudaStream_t stream);

}  // namespace qfid::kernels::gpu
