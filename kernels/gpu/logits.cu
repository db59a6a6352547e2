// Rows of logits: a block a row, everything in double. KL is summed as p (e^d - 1 - d), whose near part comes from a series:
// no cancellation. Series are evaluated with fused multiplications.
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

/// The slow way: each thread's five, then theirs.
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

/// The five largest among the few numbers of a row that can be: those not below the fifth largest of the warps' maxima.
struct Candidates {
  static constexpr int room = 96;
  int count;
  float value[room];
  std::int32_t index[room];

  __device__ void add(float x, std::int32_t i) {
    const int at = atomicAdd(&count, 1);
    if (at >= room) return;
    value[at] = x;
    index[at] = i;
  }
  /// Called by all threads behind a barrier: each puts one where it belongs, in whatever order they were added.
  __device__ void rank(Leaders& leaders) const {
    const int mine = static_cast<int>(threadIdx.x);
    if (mine >= count) return;
    int before = 0;
    for (int other = 0; other < count; ++other)
      before += value[other] > value[mine] || (value[other] == value[mine] && index[other] < index[mine]) ? 1 : 0;
    if (before >= Leaders::kept) return;
    leaders.value[before] = value[mine];
    leaders.index[before] = index[mine];
  }
};

/// Largest number of a row, -infinity where there is none, and the fifth of the warps' largest.
struct Tops {
  float first, fifth;
};
__device__ Tops tops_of(const float* x, std::int64_t n, float* shared) {
  float top = -INFINITY;
#pragma unroll 8
  for (std::int64_t i = threadIdx.x; i < n; i += threads) top = fmaxf(top, x[i]);  // NaN loses
  top = warp_max(top);
  if ((threadIdx.x & 31U) == 0) shared[threadIdx.x >> 5U] = top;
  __syncthreads();
  Tops tops{-INFINITY, -INFINITY};
  for (int w = 0; w < threads / 32; ++w) {
    int before = 0;
    for (int v = 0; v < threads / 32; ++v) before += shared[v] > shared[w] || (shared[v] == shared[w] && v < w) ? 1 : 0;
    if (before == 0) tops.first = shared[w];
    if (before == Leaders::kept - 1) tops.fifth = shared[w];
  }
  return tops;
}

__global__ void logit_rows_kernel(const float* x, std::int64_t n, LogitRow* out) {
  __shared__ alignas(16) unsigned char memory[threads / 32 * sizeof(Leaders)];
  __shared__ double sums[32];
  __shared__ float maxima[threads / 32];
  __shared__ Candidates candidates;
  auto* leaders = reinterpret_cast<Leaders*>(memory);
  const float* row = x + static_cast<std::int64_t>(blockIdx.x) * n;
  if (threadIdx.x == 0) {
    candidates.count = 0;
    leaders[0] = Leaders{};
  }
  const Tops tops = tops_of(row, n, maxima);
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < n; i += threads) {
    const float v = row[i];
    sum += exp(static_cast<double>(v) - static_cast<double>(tops.first));
    if (v >= tops.fifth) candidates.add(v, static_cast<std::int32_t>(i));
  }
  sum = block_sum(sum, sums);
  const bool few = candidates.count <= Candidates::room;  // else: a row of many equal numbers
  if (few) candidates.rank(leaders[0]);
  __syncthreads();
  const Leaders top = few ? leaders[0] : leaders_of(row, n, leaders);
  if (threadIdx.x != 0) return;
  LogitRow all{top.value[0],
               top.value[0] - top.value[1],
               top.index[0] == INT32_MAX ? 0 : top.index[0],
               {},
               sum,
               static_cast<double>(top.value[0]) + log(sum)};
  for (int k = 0; k < Leaders::kept; ++k) all.leaders[k] = top.index[k];
  out[blockIdx.x] = all;
}

/// Below this size of d series are used: a warp seldom has a number beyond it, and the other way takes twice as long.
constexpr double near = 1;

/// c[0] x^(n - 1) + c[1] x^(n - 2) + ... + c[n - 1].
template <int n>
__device__ double polynomial(const double (&c)[n], double x) {
  double sum = c[0];
#pragma unroll
  for (int i = 1; i < n; ++i) sum = fma(sum, x, c[i]);
  return sum;
}

/// e^d - 1 - d for |d| <= 1: its Taylor series to d^17 / 17!, 4e-16 of it from the whole.
__device__ double exp_minus_tangent(double d) {
  constexpr double c[] = {1 / 355687428096000.0,
                          1 / 20922789888000.0,
                          1 / 1307674368000.0,
                          1 / 87178291200.0,
                          1 / 6227020800.0,
                          1 / 479001600.0,
                          1 / 39916800.0,
                          1 / 3628800.0,
                          1 / 362880.0,
                          1 / 40320.0,
                          1 / 5040.0,
                          1 / 720.0,
                          1 / 120.0,
                          1 / 24.0,
                          1 / 6.0,
                          1 / 2.0};
  return polynomial(c, d) * d * d;
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

/// Jensen-Shannon, 4 times its term: with t = (q - p) / (q + p), (p + q) (t d + ln(1 - t^2)). What is less than e^-700
/// counts as that: it changes no sum, and 0 has no logarithm.
__device__ double jensen_shannon_term(double lp, double lq, double p, double q) {
  constexpr double least = -700;
  if (fmin(lp, lq) < least) {
    lp = fmax(lp, least);
    lq = fmax(lq, least);
    p = exp(lp);
    q = exp(lq);
  }
  const double total = p + q, t = (q - p) / total;
  return total * (t * (lq - lp) + log(4.0 * (p / total) * (q / total)));
}

/// The same over p + q for |d| <= 1, where t = tanh(d / 2): d tanh(d / 2) - 2 ln cosh(d / 2), by its series in (d / 2)^2.
/// The coefficients are tanh's times (2n - 1) / n; sixteen leave 2e-16.
__device__ double jensen_shannon_near(double d) {
  constexpr double c[] = {-2.053220737020277e-06,
                          5.0552242258287925e-06,
                          -1.2442543487335474e-05,
                          3.061327897947878e-05,
                          -7.52834541096906e-05,
                          0.00018502027008683496,
                          -0.00045434531706274974,
                          0.0011144962773416624,
                          -0.002729689475721222,
                          0.006671094925063179,
                          -0.01624926513815403,
                          0.03936507936507937,
                          -0.09444444444444444,
                          0.2222222222222222,
                          -0.5,
                          1.0};
  const double u = 0.25 * d * d;
  return polynomial(c, u) * u;
}

__global__ void compare_rows_kernel(const float* base, const float* test, const LogitRow* base_rows,
                                    const LogitRow* test_rows, const std::int32_t* targets, std::int64_t n,
                                    TokenComparison* out) {
  __shared__ double sums[32];
  const std::int64_t r = blockIdx.x;
  const LogitRow b = base_rows[r], t = test_rows[r];
  const float *x = base + r * n, *y = test + r * n;
  double forward = 0, reverse = 0, jsd = 0;
  if (base != test) {
#pragma unroll 2
    for (std::int64_t i = threadIdx.x; i < n; i += threads) {
      const double lp = static_cast<double>(x[i]) - b.lse, lq = static_cast<double>(y[i]) - t.lse, d = lq - lp, p = exp(lp);
      if (fabs(d) <= near) {
        const double tangent = exp_minus_tangent(d);
        forward += p * tangent;
        reverse += p * (d * d + (d - 1.0) * tangent);
        jsd += p * (2.0 + d + tangent) * jensen_shannon_near(d);
      } else {
        const double q = exp(lq);
        forward += q - p - p * d;
        reverse += p - q + q * d;
        jsd += jensen_shannon_term(lp, lq, p, q);
      }
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
  compare_rows_kernel<<<static_cast<unsigned>(rows), threads, 0, stream>>>(base, test, base_rows, test_rows, targets, n,
                                                                           out);
  launched("compare_rows");
}

}  // namespace qfid::kernels::gpu
