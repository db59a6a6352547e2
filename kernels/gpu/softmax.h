// The row passes of attention between and after its two products.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/attention.h"
#include "kernels/gpu/gemm.h"
#include "kernels/gpu/quantize.h"

namespace qfid::kernels::gpu {

/// A chunk: `batches` (window, key head) pairs from `first_batch`, of each the rows [first_row, first_row + rows) of its
/// group * q_len query rows, against the first `keys` keys. acc [batches, rows, ld] is what Q.K^T left.
struct RowChunk {
  std::int64_t first_batch, batches, first_row, rows, keys, ld;
  std::int64_t q_len, kv_len, q_heads, kv_heads;
  bool causal;
};

struct ScoreInputs {
  const void* acc;
  Number acc_number;  ///< s32, f32 or bf16
  ScaleView q, k;
  const float* key_scales;  ///< [B * kv_heads, key_stride], or null where a row's keys share one scale
  std::int64_t key_stride;
  float c;                       ///< the softmax scale
  bool round_bf16;               ///< round scaled scores (s32, f32)
  const std::uint8_t* key_mask;  ///< [B, kv_len] or null
  const float* bias;             ///< additive mask or null; strides in elements, 0 = shared
  std::int64_t bias_window, bias_head;
  const float* sink;  ///< [B, q_heads, q_len] or null
};

/// Tensors [B, q_heads, q_len, kv_len] a listener asked for, or null.
struct ScoreTaps {
  float* scores = nullptr;
  float* probs = nullptr;
  void* p_codes = nullptr;
  float* lse = nullptr;  ///< [B, q_heads, q_len]
};

/// How P is coded and stored for the product with V.
struct ProbJob {
  quant::Format format;
  Number number;  ///< storage of the product's operand; uint8 is stored less 128 as s8
  float scale;    ///< effective p_scale
  bool quantized_sum;
  void* p;            ///< [batches, rows, ld]
  float* l;           ///< [batches, rows]: the denominator; 0 marks a row whose keys are all masked
  std::int64_t* counts;  ///< [B * q_heads, 3]: visible, zero codes, masked rows; added to
};

/// dst[b * H + h, t] = scale of token t, 1 beyond T: scales laid along the keys.
void spread_key_scales(const ScaleView& scales, std::int64_t B, std::int64_t T, std::int64_t H, std::int64_t stride,
                       float* dst, cudaStream_t stream);

/// Scores, maximum, exp, sum, codes of P: one pass, reference row_max.
void softmax_rows(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps,
                  cudaStream_t stream);

/// The same for references that run over key blocks: keys [begin, end) of the chunk; p [batches, rows, ld_p]. m and l
/// [batches, rows] are carried from block to block, shrink receives exp(m_old - m_new).
struct RunningState {
  float* m;
  float* l;
  float* shrink;
};
void running_start(const RowChunk& chunk, const ScoreInputs& in, const RunningState& state, cudaStream_t stream);
void running_block(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps,
                   const RunningState& state, std::int64_t begin, std::int64_t end, std::int64_t ld_p,
                   cudaStream_t stream);
/// Taps and counts that need the last maximum.
void running_finish(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps,
                    const RunningState& state, cudaStream_t stream);
/// sum = sum * shrink[row] + number(acc): O of one block joins the others. colsum as in finish_rows.
void accumulate_block(const void* acc, Number number, const std::int32_t* colsum, const float* shrink, float* sum,
                      std::int64_t batches, std::int64_t rows, std::int64_t columns, bool first, cudaStream_t stream);

/// colsum[batch, column] = 128 * sum of codes v[batch, column, begin .. end): what storing P less 128 took away.
void column_sums(const std::int8_t* v, std::int64_t batches, std::int64_t columns, std::int64_t tokens, std::int64_t begin,
                 std::int64_t end, std::int32_t* colsum, cudaStream_t stream);

struct FinishInputs {
  const void* acc;  ///< [batches, rows, ld]
  Number number;    ///< s32 or f32
  std::int64_t ld;
  const std::int32_t* colsum;  ///< [batches, ld] or null
  ScaleView v;
  const float* l;
  float p_scale;
  const float* gate;  ///< [B, kv_len, q_heads], the output site's, or null
  std::int64_t width;
};
/// context[b, i, h, :] = number * s_v / (p_scale * l), and output = gate * context; either may be null.
void finish_rows(const RowChunk& chunk, const FinishInputs& in, float* context, float* output, cudaStream_t stream);

/// dst[b, h, i, j] = acc of a product over all keys (tap scores_i32).
void scatter_i32(const RowChunk& chunk, const std::int32_t* acc, std::int32_t* dst, cudaStream_t stream);

}  // namespace qfid::kernels::gpu
