// Attention's row pass with the row's own maximum. Most rows go to softmax_plain.cu; here are those with a mask, a bias,
// stored roundings, a listener, a denominator of codes, or more than 16,384 keys. Scores are made again for each use. E,
// sums and codes follow kernels/attention.h without contraction; sums run in a fixed order, the same in both.
#include <cmath>

#include "kernels/gpu/rows.cuh"

namespace qfid::kernels::gpu {

namespace {

/// Scores of eight keys from j on, -infinity where masked.
struct UnitReader {
  const ScoreInputs& in;
  std::int64_t first;  ///< of the row's accumulators
  RowScores scores;
  int visible;

  __device__ void read(int j, float (&s)[unit]) const {
#pragma unroll
    for (int n = 0; n < unit; ++n) s[n] = j + n < visible ? score(accumulated(in, first + j + n), j + n, scores) : -INFINITY;
  }
};

/// What a listener asked for of a row's keys.
template <Format F>
__device__ void tap_unit(const ScoreTaps& taps, std::int64_t at, int left, const float (&s)[unit],
                         const unsigned (&codes)[unit]) {
#pragma unroll
  for (int n = 0; n < unit; ++n) {
    if (n >= left) continue;
    if (taps.scores != nullptr) taps.scores[at + n] = s[n];
    if (taps.p_codes != nullptr) store_code<F>(taps.p_codes, at + n, codes[n]);
  }
}

/// threads a row; blocks of threads * rows_of_block(threads).
template <Format F, class T>
__global__ void __launch_bounds__(512)
    softmax_kernel(RowChunk chunk, ScoreInputs in, ProbJob job, ScoreTaps taps, int threads) {
  __shared__ float tops[32], sums[32];
  __shared__ int counts[32], visible_counts[32];
  __shared__ double code_sums[32];
  const int r = static_cast<int>(blockIdx.x) * rows_of_block(threads) + static_cast<int>(threadIdx.x) / threads;
  if (r >= chunk.rows) return;  // whole warps; with a block a row, none
  const int z = static_cast<int>(blockIdx.y), n = z * static_cast<int>(chunk.rows) + r, ld = static_cast<int>(chunk.ld);
  const int first = static_cast<int>(threadIdx.x) % threads * unit, step = threads * unit,
            keys = static_cast<int>(chunk.keys);
  const Row row = row_of(chunk, z, r);
  const std::int64_t start = static_cast<std::int64_t>(n) * ld;
  const UnitReader reader{in, start, scores_of(in, chunk, row), row.visible};
  float top = -INFINITY, s[unit];
  for (int j = first; j < row.visible; j += step) {
    reader.read(j, s);
#pragma unroll
    for (int k = 0; k < unit; ++k) top = fmaxf(top, s[k]);
  }
  top = row_max(threads, top, tops);

  const bool has_sink = in.sink != nullptr;
  const float sink = has_sink ? in.sink[row.at] : -INFINITY;
  const float m = top == -INFINITY ? 0.0F : fmaxf(top, sink);  // a masked row's E is exp(-inf - 0) = 0; NaN stays NaN
  T* p = static_cast<T*>(job.p) + start;
  const std::int64_t tap_row = row.at * chunk.kv_len;
  float sum = 0;
  double code_sum = 0;
  int visible = 0, nonzero = 0;
  for (int j = first; j < ld; j += step) {
    reader.read(j, s);
    float e[unit];
    unsigned codes[unit];
#pragma unroll
    for (int k = 0; k < unit; ++k) {
      e[k] = expf(s[k] - m);
      float value;
      codes[k] = prob_code<F>(e[k], job.scale, value);
      p[j + k] = operand_of<F, T>(codes[k], value);
      code_sum += static_cast<double>(value);
      nonzero += value == 0.0F ? 0 : 1;
      visible += s[k] != -INFINITY ? 1 : 0;
    }
    sum += unit_sum(e);
    tap_unit<F>(taps, tap_row + j, keys - j, s, codes);
  }

  row_sum(threads, sum, nonzero, sums, counts);
  visible = threads == 32 ? __reduce_add_sync(full_warp, visible) : block_sum(visible, visible_counts);
  const bool masked = top == -INFINITY && sum == sum;
  if (job.quantized_sum) {
    code_sum = threads == 32 ? warp_sum(code_sum) : block_sum(code_sum, code_sums);
    if (sum == sum) sum = static_cast<float>(code_sum / static_cast<double>(job.scale));
  }
  float l = masked ? 0.0F : sum + (has_sink ? expf(sink - m) : 0.0F);
  if (first == 0) {
    job.l[n] = l;
    add_counts(chunk, job, row, visible, visible - nonzero, masked);
    if (taps.lse != nullptr)
      taps.lse[row.at] = masked ? sink : static_cast<float>(static_cast<double>(m) + log(static_cast<double>(l)));
  }
  if (taps.probs == nullptr || masked) return;
  for (int j = first; j < keys; j += step) {
    reader.read(j, s);
    for (int k = 0; k < unit && j + k < keys; ++k)
      if (s[k] != -INFINITY) taps.probs[tap_row + j + k] = expf(s[k] - m) / l;
  }
}

}  // namespace

void softmax_rows(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps,
                  cudaStream_t stream) {
  const bool heard = taps.scores != nullptr || taps.probs != nullptr || taps.p_codes != nullptr || taps.lse != nullptr;
  if (heard || !plain_rows(chunk, in, job, stream)) {
    const int threads = row_share(chunk.ld).threads, rows = rows_of_block(threads);
    const dim3 blocks(blocks_for(chunk.rows, rows), static_cast<unsigned>(chunk.batches));
    with_prob_types(job.format, job.number, [&]<Format F, class T>() {
      softmax_kernel<F, T><<<blocks, static_cast<unsigned>(threads * rows), 0, stream>>>(chunk, in, job, taps, threads);
    });
  }
  launched("softmax_rows");
}

}  // namespace qfid::kernels::gpu
