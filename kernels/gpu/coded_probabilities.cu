// What coding P does: weights, their divergence by row, the histogram of codes, attention's error in parts; and the mean
// attention to a key. A warp a row, but for the parts: a block a query, a thread a channel, keys in order.
#include <cfloat>
#include <cmath>

#include "kernels/gpu/formats.cuh"
#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/reduce.h"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;

__device__ std::int64_t my_warp() { return (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32; }

__device__ double row_sum(const float* row, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x & 31U; i < n; i += 32) sum += static_cast<double>(row[i]);
  return warp_sum(sum);
}

__device__ double lacking(double sum) { return fmax(1 - sum, least_sink_mass); }

/// Code i as a number; codes of P in int8 aren't negative.
__device__ float code_number(Format format, const void* codes, std::int64_t i) {
  switch (format) {
    case Format::e4m3:
      return decode<Format::e4m3>(static_cast<const std::uint8_t*>(codes)[i], 0);
    case Format::e5m2:
      return decode<Format::e5m2>(static_cast<const std::uint8_t*>(codes)[i], 0);
    case Format::bf16:
      return decode<Format::bf16>(static_cast<const std::uint16_t*>(codes)[i], 0);
    case Format::f32:
      return static_cast<const float*>(codes)[i];
    default:
      return static_cast<float>(static_cast<const std::uint8_t*>(codes)[i]);
  }
}

__global__ void weights_kernel(const float* probs, const void* codes, std::int64_t rows, std::int64_t keys, Format format,
                               double p_scale, std::int64_t block, bool reverse, bool sink, float* out) {
  const std::int64_t r = my_warp();
  if (r >= rows) return;
  const int lane = static_cast<int>(threadIdx.x & 31U);
  const float* p = probs + r * keys;
  double largest = sink ? lacking(row_sum(p, keys)) : 0;
  const std::int64_t blocks = (keys + block - 1) / block;
  for (std::int64_t n = 0; n < blocks; ++n) {
    const std::int64_t begin = (reverse ? blocks - 1 - n : n) * block, end = begin + block < keys ? begin + block : keys;
    float top = 0;
    for (std::int64_t k = begin + lane; k < end; k += 32) top = fmaxf(top, p[k]);
    largest = fmax(largest, static_cast<double>(warp_max(top)));
    for (std::int64_t k = begin + lane; k < end; k += 32)
      out[r * keys + k] =
          static_cast<float>(static_cast<double>(code_number(format, codes, r * keys + k)) * largest / p_scale);
  }
}

/// (1+r) ln(1+r) + (1-r) ln(1-r) for |r| <= 1: its series where the logarithms would cancel.
__device__ double twice_entropy_loss(double r) {
  const double z = r * r, a = 1.0 + r, b = 1.0 - r;
  if (z < 1e-4) return z * (1.0 + z * (1.0 / 6 + z * (1.0 / 15 + z * (1.0 / 28))));
  return a * log(a < DBL_MIN ? DBL_MIN : a) + b * log(b < DBL_MIN ? DBL_MIN : b);
}

__global__ void coded_kernel(const float* base, const float* test, const float* weights, std::int64_t rows, std::int64_t n,
                             bool sink, CodedDivergence* out) {
  const std::int64_t r = my_warp();
  if (r >= rows) return;
  const float *p = base + r * n, *w = weights + r * n;
  const double p_sum = row_sum(p, n), w_sum = row_sum(w, n), t_sum = row_sum(test + r * n, n);
  const double p_sink = sink ? lacking(p_sum) : 0, w_sink = sink ? lacking(t_sum) : 0;
  const double p_share = p_sum + p_sink > 0 ? 1 / (p_sum + p_sink) : 0,
               w_share = w_sum + w_sink > 0 ? 1 / (w_sum + w_sink) : 0;
  double distance = 0, divergence = 0, flushed = 0;
  for (std::int64_t i = threadIdx.x & 31U; i < n; i += 32) {
    const double x = p[i], y = w[i], from = x * p_share, to = y * w_share, m = from + to;
    distance += fabs(x - y);
    divergence += m > 0 ? m * twice_entropy_loss((from - to) / m) : 0;
    flushed += y == 0 ? x : 0;
  }
  distance = warp_sum(distance);
  divergence = warp_sum(divergence);
  flushed = warp_sum(flushed);
  if ((threadIdx.x & 31U) != 0) return;
  CodedDivergence row;
  if (p_sum != 0 || t_sum != 0) {
    const double from = p_sink * p_share, to = w_sink * w_share;
    if (sink) divergence += (from + to) * twice_entropy_loss((from - to) / (from + to));
    row.tv = (distance + fabs(p_sink - w_sink)) / 2;
    row.jsd = w_share == 0 || p_share == 0 ? log(2.0) : divergence / 4;
    row.flushed = flushed;
    row.seen = 1;
  }
  out[r] = row;
}

__global__ void histogram_kernel(const std::uint8_t* codes, std::int64_t rows, std::int64_t queries, std::int64_t keys,
                                 bool causal, unsigned long long* counts) {
  __shared__ unsigned mine[256];
  for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) mine[i] = 0;
  __syncthreads();
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * (blockDim.x / 32);
  for (std::int64_t r = my_warp(); r < rows; r += stride)
    for (std::int64_t k = threadIdx.x & 31U; k < (causal ? r % queries + keys - queries + 1 : keys); k += 32)
      atomicAdd(mine + codes[r * keys + k], 1U);
  __syncthreads();
  for (unsigned i = threadIdx.x; i < 256; i += blockDim.x)
    if (mine[i] != 0) atomicAdd(counts + i, static_cast<unsigned long long>(mine[i]));
}

__global__ void split_kernel(const float* base, const float* weights, const float* v, const float* coded, std::int64_t heads,
                             std::int64_t kv_heads, std::int64_t queries, std::int64_t keys, std::int64_t dims,
                             OutputSplit* out) {
  __shared__ double shared[32];
  const std::int64_t r = blockIdx.x, i = r / queries, b = i / heads, kv_head = i % heads / (heads / kv_heads);
  const float *p = base + r * keys, *w = weights + r * keys;
  const std::int64_t stride = kv_heads * dims, at = b * keys * stride + kv_head * dims;
  OutputSplit s;
  for (std::int64_t d = threadIdx.x; d < dims; d += blockDim.x) {
    double output = 0, p_first = 0, v_first = 0, p_others = 0, v_others = 0;
    for (std::int64_t k = 0; k < keys; ++k) {
      if (p[k] == 0.0F && w[k] == 0.0F) continue;
      const double from = p[k], to = w[k], x = v[at + k * stride + d], y = coded[at + k * stride + d];
      output += from * x;
      (k == 0 ? p_first : p_others) += (to - from) * x;
      (k == 0 ? v_first : v_others) += to * (y - x);
    }
    const double by_p = p_first + p_others, by_v = v_first + v_others;
    s.output += output * output;
    s.error += (by_p + by_v) * (by_p + by_v);
    s.p += by_p * by_p;
    s.p_first += p_first * p_first;
    s.p_others += p_others * p_others;
    s.v += by_v * by_v;
    s.v_first += v_first * v_first;
    s.v_others += v_others * v_others;
  }
  OutputSplit all;
  all.output = block_sum(s.output, shared);
  all.error = block_sum(s.error, shared);
  all.p = block_sum(s.p, shared);
  all.p_first = block_sum(s.p_first, shared);
  all.p_others = block_sum(s.p_others, shared);
  all.v = block_sum(s.v, shared);
  all.v_first = block_sum(s.v_first, shared);
  all.v_others = block_sum(s.v_others, shared);
  if (threadIdx.x == 0) out[r] = all;
}

__global__ void mean_column_kernel(const float* probs, std::int64_t groups, std::int64_t queries, std::int64_t keys,
                                   std::int64_t key, std::int64_t first, std::int64_t last, double* out) {
  const std::int64_t g = my_warp();
  if (g >= groups) return;
  double sum = 0;
  for (std::int64_t q = first + (threadIdx.x & 31U); q < last; q += 32)
    sum += static_cast<double>(probs[(g * queries + q) * keys + key]);
  sum = warp_sum(sum);
  if ((threadIdx.x & 31U) == 0) out[g] = sum / static_cast<double>(last - first);
}

}  // namespace

void weight_rows(const float* probs, const void* codes, std::int64_t rows, std::int64_t keys, const ProbScheme& scheme,
                 bool sink, float* out, cudaStream_t stream) {
  if (rows * keys == 0) return;
  const bool running = scheme.reference != PReference::row_max;
  weights_kernel<<<blocks_for(rows * 32, threads), threads, 0, stream>>>(
      probs, codes, rows, keys, scheme.format, static_cast<double>(scheme.effective_scale()), running ? scheme.block : keys,
      scheme.reference == PReference::running_reverse, sink, out);
  launched("weight_rows");
}

void coded_rows(const float* base, const float* test, const float* weights, std::int64_t rows, std::int64_t n, bool sink,
                CodedDivergence* out, cudaStream_t stream) {
  if (rows == 0) return;
  coded_kernel<<<blocks_for(rows * 32, threads), threads, 0, stream>>>(base, test, weights, rows, n, sink, out);
  launched("coded_rows");
}

void count_codes(const std::uint8_t* codes, std::int64_t rows, std::int64_t queries, std::int64_t keys, bool causal,
                 std::int64_t* counts, cudaStream_t stream) {
  if (rows * keys == 0) return;
  // A warp's rows stay below 2^32 codes together.
  histogram_kernel<<<blocks_for(rows, threads / 32), threads, 0, stream>>>(codes, rows, queries, keys, causal,
                                                                           reinterpret_cast<unsigned long long*>(counts));
  launched("count_codes");
}

void split_rows(const float* base, const float* weights, const float* v, const float* coded, const SplitSizes& n,
                OutputSplit* out, cudaStream_t stream) {
  if (n.windows * n.heads * n.queries == 0) return;
  split_kernel<<<static_cast<unsigned>(n.windows * n.heads * n.queries),
                 n.dims <= 32   ? 32
                 : n.dims <= 64 ? 64
                                : 128,
                 0, stream>>>(base, weights, v, coded, n.heads, n.kv_heads, n.queries, n.keys, n.dims, out);
  launched("split_rows");
}

void mean_column(const float* probs, std::int64_t groups, std::int64_t queries, std::int64_t keys, std::int64_t key,
                 std::int64_t first, std::int64_t last, double* out, cudaStream_t stream) {
  if (groups == 0) return;
  mean_column_kernel<<<blocks_for(groups * 32, threads), threads, 0, stream>>>(probs, groups, queries, keys, key, first,
                                                                               last, out);
  launched("mean_column");
}

}  // namespace qfid::kernels::gpu
