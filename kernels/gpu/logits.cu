// Rows of logits: a block a row, everything in double. KL is summed as p (e^d - 1 - d), whose near part comes from a series:
// no cancellation.
#include <cmath>

#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/reduce.h"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;

/// The five largest numbers in order, ties to the lowest index. NaN never wins.
struct Leaders {
  static constexpr int kept = 5;
  float value[kept] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
  std::int32_t index[kept] = {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX};

  __device__ void add(float x, std::int32_t i) {
    if (!(x > value[kept - 1] || (x == value[kept - 1] && i < index[kept - 1]))) return;
    value[kept - 1] = x;
    index[kept - 1] = i;
#pragma unroll
    for (int at = kept - 1; at > 0; --at) {
      if (!(x > value[at - 1] || (x == value[at - 1] && i < index[at - 1]))) return;
      value[at] = value[at - 1];
      index[at] = index[at - 1];
      value[at - 1] = x;
      index[at - 1] = i;
    }
  }
  __device__ void merge(const Leaders& o) {
#pragma unroll
    for (int k = 0; k < kept; ++k) add(o.value[k], o.index[k]);
  }
};

__device__ Leaders leaders_of(const float* x, std::int64_t n, Leaders* shared) {
  Leaders mine;
  for (std::int64_t i = threadIdx.x; i < n; i += threads) mine.add(x[i], static_cast<std::int32_t>(i));
  for (int offset = 16; offset > 0; offset >>= 1) {
    Leaders other;
#pragma unroll
    for (int k = 0; k < Leaders::kept; ++k) {
      other.value[k] = __shfl_down_sync(full_warp, mine.value[k], offset);
      other.index[k] = __shfl_down_sync(full_warp, mine.index[k], offset);
    }
    if ((threadIdx.x & 31U) < static_cast<unsigned>(offset)) mine.merge(other);
  }
  if ((threadIdx.x & 31U) == 0) shared[threadIdx.x >> 5U] = mine;
  __syncthreads();
  Leaders all = shared[0];
  for (int w = 1; w < threads / 32; ++w) all.merge(shared[w]);
  return all;
}

__global__ void logit_rows_kernel(const float* x, std::int64_t n, LogitRow* out) {
  __shared__ alignas(16) unsigned char memory[threads / 32 * sizeof(Leaders)];
  __shared__ double sums[32];
  const float* row = x + static_cast<std::int64_t>(blockIdx.x) * n;
  const Leaders top = leaders_of(row, n, reinterpret_cast<Leaders*>(memory));
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += threads)
    sum += exp(static_cast<double>(row[i]) - static_cast<double>(top.value[0]));
  sum = block_sum(sum, sums);
  if (threadIdx.x != 0) return;
  LogitRow all{top.value[0], top.value[0] - top.value[1], top.index[0] == INT32_MAX ? 0 : top.index[0], {}, sum,
               static_cast<double>(top.value[0]) + log(sum)};
  for (int k = 0; k < Leaders::kept; ++k) all.leaders[k] = top.index[k];
  out[blockIdx.x] = all;
}

/// e^d - 1 - d for |d| <= 1/4: its Taylor series.
__device__ double exp_minus_tangent(double d) {
  double p = 2.0 / 479001600;
  p = p * d + 2.0 / 39916800;
  p = p * d + 2.0 / 3628800;
  p = p * d + 2.0 / 362880;
  p = p * d + 2.0 / 40320;
  p = p * d + 2.0 / 5040;
  p = p * d + 2.0 / 720;
  p = p * d + 2.0 / 120;
  p = p * d + 2.0 / 24;
  p = p * d + 2.0 / 6;
  p = p * d + 1.0;
  return p * d * d * 0.5;
}

__device__ float overlap(const LogitRow& a, const LogitRow& b) {
  int shared = 0, all = 0;
  for (std::int32_t index : a.leaders) {
    if (index == INT32_MAX) continue;
    ++all;
    for (std::int32_t other : b.leaders) shared += index == other ? 1 : 0;
  }
  return all == 0 ? 0.0F : static_cast<float>(shared) / static_cast<float>(all);
}

/// Jensen-Shannon from m = (p + q) / 2 and t = (q - p) / (q + p): m (t d + ln(1 - t^2)) / 2, here 4 times that.
__device__ double jensen_shannon_term(double p, double q, double difference, double d) {
  const double total = p + q, t = difference / total;
  return total * (t * d + (fabs(d) <= 0.25 ? log1p(-t * t) : log(4.0 * (p / total) * (q / total))));
}

__global__ void compare_rows_kernel(const float* base, const float* test, const LogitRow* base_rows,
                                    const LogitRow* test_rows, const std::int32_t* targets, std::int64_t n,
                                    TokenComparison* out) {
  __shared__ double sums[32];
  const std::int64_t r = blockIdx.x;
  const LogitRow b = base_rows[r], t = test_rows[r];
  const float *x = base + r * n, *y = test + r * n;
  double forward = 0, reverse = 0, jsd = 0;
  if (base != test)
    for (std::int64_t i = threadIdx.x; i < n; i += threads) {
      const double lp = static_cast<double>(x[i]) - b.lse, lq = static_cast<double>(y[i]) - t.lse, d = lq - lp, p = exp(lp);
      if (fabs(d) <= 0.25) {
        const double tangent = exp_minus_tangent(d);
        forward += p * tangent;
        reverse += p * (d * d + (d - 1.0) * tangent);
        jsd += jensen_shannon_term(p, p + p * (d + tangent), p * (d + tangent), d);
      } else {
        const double q = exp(lq);
        forward += q - p - p * d;
        reverse += p - q + q * d;
        jsd += jensen_shannon_term(p, q, q - p, d);
      }
    }
  forward = block_sum(forward, sums);
  reverse = block_sum(reverse, sums);
  jsd = block_sum(jsd, sums);
  if (threadIdx.x != 0) return;
  TokenComparison c{};
  c.nll_base = b.lse - static_cast<double>(x[targets[r]]);
  c.nll_test = t.lse - static_cast<double>(y[targets[r]]);
  c.kl = forward;
  c.kl_reverse = reverse;
  c.jsd = 0.25 * jsd;
  c.p_base = static_cast<float>(exp(-c.nll_base));
  c.p_test = static_cast<float>(exp(-c.nll_test));
  c.top_p_base = static_cast<float>(1.0 / b.sum);
  c.margin_base = b.margin;
  c.top1_base = b.index;
  c.top1_test = t.index;
  c.top5_overlap = overlap(b, t);
  c.target = targets[r];
  out[r] = c;
}

}  // namespace

void logit_rows(const float* x, std::int64_t rows, std::int64_t n, LogitRow* out, cudaStream_t stream) {
  if (rows == 0) return;
  logit_rows_kernel<<<static_cast<unsigned>(rows), threads, 0, stream>>>(x, n, out);
  launched("logit_rows");
}

void compare_rows(const float* base, const float* test, const LogitRow* base_rows, const LogitRow* test_rows,
                  const std::int32_t* targets, std::int64_t rows, std::int64_t n, TokenComparison* out,
                  cudaStream_t stream) {
  if (rows == 0) return;
  compare_rows_kernel<<<static_cast<unsigned>(rows), threads, 0, stream>>>(base, test, base_rows, test_rows, targets, n, out);
  launched("compare_rows");
}

}  // namespace qfid::kernels::gpu
