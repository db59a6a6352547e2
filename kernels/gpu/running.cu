// Attention's row passes with a running maximum over key blocks, as a one-pass kernel would see it, and what follows the
// product with V. A warp a row; slow beside softmax.cu, and meant for the question, not for speed.
#include <cmath>

#include "kernels/gpu/pack.cuh"
#include "kernels/gpu/scores.cuh"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;

__device__ float visible_score(const ScoreInputs& in, std::int64_t first, int j, const Row& row, const RowScores& s) {
  return j < row.visible ? score(accumulated(in, first + j), j, s) : -INFINITY;
}

__device__ int my_row() { return static_cast<int>((static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32); }

__global__ void start_kernel(RowChunk chunk, ScoreInputs in, RunningState state) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (n >= chunk.batches * chunk.rows) return;
  state.m[n] = in.sink == nullptr ? -INFINITY : in.sink[row_of(chunk, n).at];
  state.l[n] = in.sink == nullptr ? 0.0F : 1.0F;
}

template <Format F, class T>
__global__ void block_kernel(RowChunk chunk, ScoreInputs in, ProbJob job, ScoreTaps taps, RunningState state,
                             std::int64_t begin, std::int64_t end, std::int64_t ld_p) {
  const int n = my_row();
  if (n >= chunk.batches * chunk.rows) return;
  const int lane = static_cast<int>(threadIdx.x & 31U);
  const Row row = row_of(chunk, n);
  const RowScores scores = scores_of(in, chunk, row);
  const std::int64_t start = static_cast<std::int64_t>(n) * chunk.ld;
  T* p = static_cast<T*>(job.p) + n * ld_p;
  float top = -INFINITY;
  for (int j = static_cast<int>(begin) + lane; j < end; j += 32) top = fmaxf(top, visible_score(in, start, j, row, scores));
  top = warp_max(top);
  const float m_old = state.m[n], m_new = fmaxf(m_old, top);
  float shrink = 1.0F;
  if (top != -INFINITY && m_old != -INFINITY) shrink = expf(m_old - m_new);
  float sum = 0;
  double code_sum = 0;
  int zeros = 0;
  for (int j = static_cast<int>(begin) + lane; j < begin + ld_p; j += 32) {
    const float s = j < end ? visible_score(in, start, j, row, scores) : -INFINITY;
    const float e = s == -INFINITY ? 0.0F : expf(s - m_new);
    float value;
    const unsigned code = prob_code<F>(e, job.scale, value);
    p[j - begin] = operand_of<F, T>(code, value);
    sum += e;
    code_sum += static_cast<double>(value);
    zeros += s != -INFINITY && value == 0.0F ? 1 : 0;
    if (taps.p_codes != nullptr && j < end) store_code<F>(taps.p_codes, row.at * chunk.kv_len + j, code);
  }
  float part = warp_sum(sum);
  code_sum = warp_sum(code_sum);
  zeros = warp_sum(zeros);
  if (job.quantized_sum && part == part) part = static_cast<float>(code_sum / static_cast<double>(job.scale));
  if (lane != 0) return;
  state.shrink[n] = shrink;
  if (top == -INFINITY && part == part) return;  // NaN makes no maximum
  state.m[n] = m_new;
  state.l[n] = state.l[n] * shrink + part;
  auto* counts = reinterpret_cast<unsigned long long*>(job.counts) + (row.b * chunk.q_heads + row.h) * 3;
  if (zeros != 0) atomicAdd(counts + 1, static_cast<unsigned long long>(zeros));
}

__global__ void finish_kernel(RowChunk chunk, ScoreInputs in, ProbJob job, ScoreTaps taps, RunningState state) {
  const int n = my_row();
  if (n >= chunk.batches * chunk.rows) return;
  const int lane = static_cast<int>(threadIdx.x & 31U);
  const Row row = row_of(chunk, n);
  const RowScores scores = scores_of(in, chunk, row);
  const std::int64_t start = static_cast<std::int64_t>(n) * chunk.ld;
  const float m = state.m[n], l = state.l[n];
  int visible = 0;
  for (int j = lane; j < chunk.keys; j += 32) {
    const float s = visible_score(in, start, j, row, scores);
    const std::int64_t at = row.at * chunk.kv_len + j;
    if (taps.scores != nullptr) taps.scores[at] = s;
    if (s == -INFINITY) continue;
    ++visible;
    if (taps.probs != nullptr) taps.probs[at] = expf(s - m) / l;
  }
  visible = warp_sum(visible);
  if (lane != 0) return;
  auto* counts = reinterpret_cast<unsigned long long*>(job.counts) + (row.b * chunk.q_heads + row.h) * 3;
  if (visible != 0) atomicAdd(counts, static_cast<unsigned long long>(visible));
  if (visible == 0) atomicAdd(counts + 2, 1ULL);
  if (taps.lse != nullptr)
    taps.lse[row.at] = visible == 0 ? m : static_cast<float>(static_cast<double>(m) + log(static_cast<double>(l)));
  job.l[n] = visible == 0 ? 0.0F : l;
}

template <class Acc>
__global__ void accumulate_kernel(const Acc* acc, const std::int32_t* colsum, const float* shrink, float* sum,
                                  std::int64_t n, std::int64_t rows, std::int64_t columns, bool first) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const std::int64_t row = i / columns;
  Acc a = acc[i];
  if (colsum != nullptr) a += static_cast<Acc>(colsum[row / rows * columns + i % columns]);
  sum[i] = (first ? 0.0F : sum[i] * shrink[row]) + static_cast<float>(a);
}

__global__ void column_sums_kernel(const std::int8_t* v, std::int64_t rows, std::int64_t tokens, std::int64_t begin,
                                   std::int64_t end, std::int32_t* colsum) {
  const int n = my_row();
  if (n >= rows) return;
  int sum = 0;
  const char4* four = reinterpret_cast<const char4*>(v + n * tokens);  // tokens, begin, end are multiples of 16
  for (std::int64_t j = begin / 4 + (threadIdx.x & 31U); j < end / 4; j += 32) {
    const char4 c = four[j];
    sum += c.x + c.y + c.z + c.w;
  }
  sum = warp_sum(sum);
  if ((threadIdx.x & 31U) == 0) colsum[n] = 128 * sum;
}

/// `lanes` threads a row, each of them N neighbours at a time.
template <class Acc, int lanes, int N>
__global__ void context_kernel(RowChunk chunk, FinishInputs in, float* context, float* output) {
  const int line = static_cast<int>((static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / lanes);
  if (line >= chunk.batches * chunk.rows) return;
  const Row row = row_of(chunk, line);
  const Acc* acc = static_cast<const Acc*>(in.acc) + static_cast<std::int64_t>(line) * in.ld;
  const std::int32_t* colsum = in.colsum == nullptr ? nullptr : in.colsum + row.z * in.ld;
  const float* sv = in.v.scale == nullptr
                        ? nullptr
                        : in.v.scale + row.b * in.v.per_window + row.kv_head / static_cast<int>(in.v.s2) * in.v.c3;
  const float l = in.l[line], denominator = in.p_scale * l;
  float gate = 1.0F;
  if (in.gate != nullptr)
    gate = in.gate[(row.b * chunk.kv_len + row.i + chunk.kv_len - chunk.q_len) * chunk.q_heads + row.h];
  const std::int64_t at = ((row.b * chunk.q_len + row.i) * chunk.q_heads + row.h) * in.width;
  const bool by_channel = in.v.s3 == 1;  // else one scale for the head
  for (int d = static_cast<int>(threadIdx.x % lanes) * N; d < in.width; d += lanes * N) {
    const auto numbers = *reinterpret_cast<const Pack<Acc, N>*>(acc + d);
    Pack<float, N> value, gated;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      Acc a = numbers.v[n];
      if (colsum != nullptr) a += static_cast<Acc>(colsum[d + n]);
      const float scale = sv == nullptr ? 1.0F : sv[by_channel ? d + n : 0];
      value.v[n] = l == 0.0F ? 0.0F : static_cast<float>(a) * scale / denominator;
      gated.v[n] = in.gate == nullptr ? value.v[n] : value.v[n] * gate;
    }
    if (context != nullptr) *reinterpret_cast<Pack<float, N>*>(context + at + d) = value;
    *reinterpret_cast<Pack<float, N>*>(output + at + d) = gated;
  }
}

std::int64_t rows_of(const RowChunk& chunk) { return chunk.batches * chunk.rows; }

template <class Acc>
void run_context(const RowChunk& chunk, const FinishInputs& in, float* context, float* output, cudaStream_t stream) {
  const bool four = in.width % 4 == 0 && in.ld % 4 == 0;
  if (four && in.width <= 64) {
    context_kernel<Acc, 16, 4><<<blocks_for(rows_of(chunk) * 16, threads), threads, 0, stream>>>(chunk, in, context, output);
  } else if (four) {
    context_kernel<Acc, 32, 4><<<blocks_for(rows_of(chunk) * 32, threads), threads, 0, stream>>>(chunk, in, context, output);
  } else {
    context_kernel<Acc, 32, 1><<<blocks_for(rows_of(chunk) * 32, threads), threads, 0, stream>>>(chunk, in, context, output);
  }
}

__global__ void spread_kernel(ScaleView v, std::int64_t T, std::int64_t H, std::int64_t stride, std::int64_t n, float* dst) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const std::int64_t t = i % stride, h = i / stride % H, b = i / (stride * H);
  dst[i] = t < T ? v.scale[b * v.per_window + ((t / v.s1) * v.c2 + h / v.s2) * v.c3] : 1.0F;
}

__global__ void scatter_kernel(RowChunk chunk, const std::int32_t* acc, std::int32_t* dst) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= chunk.batches * chunk.rows * chunk.kv_len) return;
  const std::int64_t j = n % chunk.kv_len, line = n / chunk.kv_len;
  dst[row_of(chunk, static_cast<int>(line)).at * chunk.kv_len + j] = acc[line * chunk.ld + j];
}

}  // namespace

void running_start(const RowChunk& chunk, const ScoreInputs& in, const RunningState& state, cudaStream_t stream) {
  start_kernel<<<blocks_for(rows_of(chunk), threads), threads, 0, stream>>>(chunk, in, state);
  launched("running_start");
}

void running_block(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps,
                   const RunningState& state, std::int64_t begin, std::int64_t end, std::int64_t ld_p, cudaStream_t stream) {
  with_prob_types(job.format, job.number, [&]<Format F, class T>() {
    block_kernel<F, T>
        <<<blocks_for(rows_of(chunk) * 32, threads), threads, 0, stream>>>(chunk, in, job, taps, state, begin, end, ld_p);
  });
  launched("running_block");
}

void running_finish(const RowChunk& chunk, const ScoreInputs& in, const ProbJob& job, const ScoreTaps& taps,
                    const RunningState& state, cudaStream_t stream) {
  finish_kernel<<<blocks_for(rows_of(chunk) * 32, threads), threads, 0, stream>>>(chunk, in, job, taps, state);
  launched("running_finish");
}

void accumulate_block(const void* acc, Number number, const std::int32_t* colsum, const float* shrink, float* sum,
                      std::int64_t batches, std::int64_t rows, std::int64_t columns, bool first, cudaStream_t stream) {
  const std::int64_t n = batches * rows * columns;
  if (number == Number::s32) {
    accumulate_kernel<<<blocks_for(n, threads), threads, 0, stream>>>(static_cast<const std::int32_t*>(acc), colsum, shrink,
                                                                      sum, n, rows, columns, first);
  } else {
    accumulate_kernel<<<blocks_for(n, threads), threads, 0, stream>>>(static_cast<const float*>(acc), colsum, shrink, sum, n,
                                                                      rows, columns, first);
  }
  launched("accumulate_block");
}

void column_sums(const std::int8_t* v, std::int64_t batches, std::int64_t columns, std::int64_t tokens, std::int64_t begin,
                 std::int64_t end, std::int32_t* colsum, cudaStream_t stream) {
  column_sums_kernel<<<blocks_for(batches * columns * 32, threads), threads, 0, stream>>>(v, batches * columns, tokens,
                                                                                          begin, end, colsum);
  launched("column_sums");
}

void finish_rows(const RowChunk& chunk, const FinishInputs& in, float* context, float* output, cudaStream_t stream) {
  if (in.number == Number::s32) run_context<std::int32_t>(chunk, in, context, output, stream);
  if (in.number != Number::s32) run_context<float>(chunk, in, context, output, stream);
  launched("finish_rows");
}

void spread_key_scales(const ScaleView& scales, std::int64_t B, std::int64_t T, std::int64_t H, std::int64_t stride,
                       float* dst, cudaStream_t stream) {
  const std::int64_t n = B * H * stride;
  if (n == 0) return;
  spread_kernel<<<blocks_for(n, threads), threads, 0, stream>>>(scales, T, H, stride, n, dst);
  launched("spread_key_scales");
}

void scatter_i32(const RowChunk& chunk, const std::int32_t* acc, std::int32_t* dst, cudaStream_t stream) {
  scatter_kernel<<<blocks_for(rows_of(chunk) * chunk.kv_len, threads), threads, 0, stream>>>(chunk, acc, dst);
  launched("scatter_i32");
}

}  // namespace qfid::kernels::gpu
