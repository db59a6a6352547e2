// Attention's row pass with the row's own maximum: a warp or a block of 256 threads a row, four keys a thread at a time, the
// scores held in registers between the maximum and the codes (up to 8,192 keys; longer rows read them twice).
// E, sums and codes follow kernels/attention.h without contraction; sums run in a fixed order.
#include <cmath>

#include "kernels/gpu/scores.cuh"

namespace qfid::kernels::gpu {

namespace {

template <class T>
struct alignas(sizeof(T) * 4) Four {
  T v[4];
};

struct RowReader {
  const ScoreInputs& in;
  std::int64_t first;  ///< of the row's accumulators
  RowScores scores;
  std::int64_t visible;
  bool plain;  ///< one factor, nothing added, nothing masked but from `visible` on

  __device__ void read(std::int64_t j, float (&s)[4]) const {
    if (j >= visible) {
      s[0] = s[1] = s[2] = s[3] = -INFINITY;
      return;
    }
    float acc[4];
    accumulated4(in, first + j, acc);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float x = plain ? acc[n] * scores.factor : score(acc[n], j + n < visible ? j + n : j, scores);
      s[n] = j + n < visible ? x : -INFINITY;
    }
  }
};

/// Everything a row adds up.
struct RowSums {
  float e = 0;
  double codes = 0;
  int visible = 0, zeros = 0;
};

template <Format F, class T>
__device__ void code_four(const float (&s)[4], float m, const ProbJob& job, bool quantized_sum, T* p, void* tap,
                          std::int64_t keys_left, RowSums& sums, bool count_visible) {
  Four<T> out;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const bool seen = s[n] != -INFINITY;
    const float e = expf(s[n] - m);
    float value;
    const unsigned code = prob_code<F>(e, job.scale, value);
    out.v[n] = operand_of<F, T>(code, value);
    sums.e += e;
    if (quantized_sum) sums.codes += static_cast<double>(value);
    sums.zeros += seen && value == 0.0F ? 1 : 0;
    if (count_visible) sums.visible += seen ? 1 : 0;
    if (tap != nullptr && n < keys_left) store_code<F>(tap, n, code);
  }
  *reinterpret_cast<Four<T>*>(p) = out;
}

template <int threads, class V>
__device__ V sum_of(V v, V* shared) {
  if constexpr (threads == 32) return warp_sum(v);
  return block_sum(v, shared);
}

/// items: groups of four keys a thread holds; 0: as many as the row has, read again for each use.
template <Format F, class T, int threads, int items>
__global__ void __launch_bounds__(256) softmax_kernel(RowChunk chunk, ScoreInputs in, ProbJob job, ScoreTaps taps) {
  __shared__ float shared_f[32];
  __shared__ double shared_d[32];
  __shared__ int shared_i[32];
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / threads) + threadIdx.x / threads;
  if (n >= chunk.batches * chunk.rows) return;  // whole warps; with 256 threads a row, whole blocks
  const int tid = static_cast<int>(threadIdx.x % threads);
  const Row row = row_of(chunk, n);
  RowReader reader{in, n * chunk.ld, scores_of(in, chunk, row), row.visible, false};
  reader.plain = reader.scores.uniform && reader.scores.mask == nullptr && reader.scores.bias == nullptr && !in.round_bf16;
  T* p = static_cast<T*>(job.p) + n * chunk.ld;
  const std::int64_t ends = chunk.ld;

  constexpr int held = items == 0 ? 1 : items;
  float s[held][4];
  float top = -INFINITY;
  const auto raise = [&](const float(&four)[4]) {
#pragma unroll
    for (int k = 0; k < 4; ++k) top = fmaxf(top, four[k]);
  };
  if constexpr (items > 0) {
#pragma unroll
    for (int it = 0; it < items; ++it) {
      const std::int64_t j = (static_cast<std::int64_t>(it) * threads + tid) * 4;
      reader.read(j, s[it]);
      raise(s[it]);
    }
  } else {
    for (std::int64_t j = tid * 4; j < row.visible; j += threads * 4) {
      reader.read(j, s[0]);
      raise(s[0]);
    }
  }
  if constexpr (threads == 32) top = warp_max(top);
  if constexpr (threads > 32) top = block_max(top, shared_f);

  const bool has_sink = in.sink != nullptr, masked = top == -INFINITY;
  const float sink = has_sink ? in.sink[row.at] : -INFINITY;
  const float m = masked ? 0.0F : fmaxf(top, sink);  // a masked row's E is exp(-inf - 0) = 0
  RowSums sums;
  const bool simple = reader.scores.mask == nullptr && reader.scores.bias == nullptr;
  const std::int64_t tap_row = row.at * chunk.kv_len;
  const auto code = [&](std::int64_t j, const float(&four)[4]) {
    if (j >= ends) return;
    void* tap = nullptr;
    if (taps.p_codes != nullptr && j < chunk.keys)
      tap = static_cast<char*>(taps.p_codes) + (tap_row + j) * (F == Format::f32 ? 4 : F == Format::bf16 ? 2 : 1);
    code_four<F, T>(four, m, job, job.quantized_sum, p + j, tap, chunk.keys - j, sums, !simple);
    if (taps.scores != nullptr)
      for (int k = 0; k < 4 && j + k < chunk.keys; ++k) taps.scores[tap_row + j + k] = four[k];
  };
  if constexpr (items > 0) {
#pragma unroll
    for (int it = 0; it < items; ++it) code((static_cast<std::int64_t>(it) * threads + tid) * 4, s[it]);
  } else {
    for (std::int64_t j = tid * 4; j < ends; j += threads * 4) {
      reader.read(j, s[0]);
      code(j, s[0]);
    }
  }

  float sum = sum_of<threads>(sums.e, shared_f);
  if (job.quantized_sum)
    sum = static_cast<float>(sum_of<threads>(sums.codes, shared_d) / static_cast<double>(job.scale));
  const int zeros = sum_of<threads>(sums.zeros, shared_i);
  const int visible = simple ? static_cast<int>(row.visible) : sum_of<threads>(sums.visible, shared_i);
  const float l = masked ? 0.0F : sum + (has_sink ? expf(sink - m) : 0.0F);
  if (tid == 0) {
    job.l[n] = l;
    auto* counts = reinterpret_cast<unsigned long long*>(job.counts) + (row.b * chunk.q_heads + row.h) * 3;
    if (visible != 0) atomicAdd(counts, static_cast<unsigned long long>(visible));
    if (zeros != 0) atomicAdd(counts + 1, static_cast<unsigned long long>(zeros));
    if (masked) atomicAdd(counts + 2, 1ULL);
    if (taps.lse != nullptr)
      taps.lse[row.at] = masked ? sink : static_cast<float>(static_cast<double>(m) + log(static_cast<double>(l)));
  }
  if (taps.probs == nullptr || masked) return;
  const auto probs = [&](std::int64_t j, const float(&four)[4]) {
    for (int k = 0; k < 4 && j + k < chunk.keys; ++k)
      if (four[k] != -INFINITY) taps.probs[tap_row + j + k] = expf(four[k] - m) / l;
  };
  if constexpr (items > 0) {
#pragma unroll
    for (int it = 0; it < items; ++it) probs((static_cast<std::int64_t>(it) * threads + tid) * 4, s[it]);
  } else {
    for (std::int64_t j = tid * 4; j < chunk.keys; j += threads * 4) {
      reader.read(j, s[0]);
      probs(j, s[0]);
    }
  }
}

template <Format F, class T, int threads, int items>
void launch(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps, cudaStream_t stream) {
  softmax_kernel<F, T, threads, items>
      <<<blocks_for(chunk.batches * chunk.rows, 256 / threads), 256, 0, stream>>>(chunk, in, job, taps);
}

template <Format F, class T>
void by_length(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps,
               cudaStream_t stream) {
  const std::int64_t n = chunk.ld;
  if (n <= 128) return launch<F, T, 32, 1>(chunk, in, job, taps, stream);
  if (n <= 512) return launch<F, T, 32, 4>(chunk, in, job, taps, stream);
  if (n <= 2048) return launch<F, T, 256, 2>(chunk, in, job, taps, stream);
  if (n <= 8192) return launch<F, T, 256, 8>(chunk, in, job, taps, stream);
  launch<F, T, 256, 0>(chunk, in, job, taps, stream);
}

}  // namespace

void softmax_rows(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps,
                  cudaStream_t stream) {
  with_prob_types(job.format, job.number, [&]<Format F, class T>() { by_length<F, T>(chunk, in, job, taps, stream); });
  launched("softmax_rows");
}

}  // namespace qfid::kernels::gpu
