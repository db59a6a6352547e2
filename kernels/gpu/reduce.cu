// Distortion, divergence of probabilities, row statistics: rows or parts first, each by one warp or block, then a
// fold over them in their order.
#include <cfloat>
#include <cmath>

#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/reduce.h"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;
constexpr std::int64_t part_elements = 8192;
using Sums = quant::DistortionStats::Sums;

std::int64_t tokens_per_part(std::int64_t width) {
  return std::max<std::int64_t>(1, part_elements / std::max<std::int64_t>(1, width));
}

__device__ std::int64_t my_warp() { return (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32; }

/// A thread's share of one group's sums; its counts fit 32 bits, the largest difference is one of f32 as on the host.
struct PairSums {
  double xx = 0, xy = 0, yy = 0, ee = 0, ax = 0, ae = 0, e = 0;
  float max = 0;
  unsigned n = 0, exact = 0, flips = 0, flushed = 0, nan = 0;

  /// Without a branch, so that loads run ahead: a pair with NaN, or none at all, adds zeros.
  __device__ void add(float u, float v, bool here) {
    const bool number = u == u && v == v, counts = here && number;
    const float x = counts ? u : 0.0F, y = counts ? v : 0.0F;
    const double a = x, b = y, d = b - a;
    xx += a * a;
    xy += a * b;
    yy += b * b;
    ee += d * d;
    ax += fabs(a);
    ae += fabs(d);
    e += d;
    max = fmaxf(max, fabsf(y - x));
    n += counts ? 1U : 0U;
    nan += here && !number ? 1U : 0U;
    exact += counts && x == y ? 1U : 0U;
    flips += (x < 0.0F && y > 0.0F) || (x > 0.0F && y < 0.0F) ? 1U : 0U;
    flushed += y == 0.0F && x != 0.0F ? 1U : 0U;
  }
};

/// block_sum's and block_max's order, with two barriers for all of them: warps, then one thread a sum goes over the warps.
__device__ Sums sums_of_block(const PairSums& s) {
  __shared__ double doubles[8][threads / 32];
  __shared__ std::int64_t counts[5][threads / 32];
  const int warp = static_cast<int>(threadIdx.x >> 5U);
  const double mine[8] = {warp_sum(s.xx), warp_sum(s.xy), warp_sum(s.yy), warp_sum(s.ee),
                          warp_sum(s.ax), warp_sum(s.ae), warp_sum(s.e),  warp_max(s.max)};
  const unsigned counted[5] = {__reduce_add_sync(full_warp, s.n), __reduce_add_sync(full_warp, s.exact),
                               __reduce_add_sync(full_warp, s.flips), __reduce_add_sync(full_warp, s.flushed),
                               __reduce_add_sync(full_warp, s.nan)};
  if ((threadIdx.x & 31U) == 0) {
    for (int i = 0; i < 8; ++i) doubles[i][warp] = mine[i];
    for (int i = 0; i < 5; ++i) counts[i][warp] = counted[i];
  }
  __syncthreads();
  if (threadIdx.x < 8) {
    double total = doubles[threadIdx.x][0];
    for (int w = 1; w < threads / 32; ++w) {
      const double other = doubles[threadIdx.x][w];
      total = threadIdx.x < 7 ? total + other : other > total ? other : total;
    }
    doubles[threadIdx.x][0] = total;
  } else if (threadIdx.x < 13) {
    for (int w = 1; w < threads / 32; ++w) counts[threadIdx.x - 8][0] += counts[threadIdx.x - 8][w];
  }
  __syncthreads();
  return {.xx = doubles[0][0],
          .xy = doubles[1][0],
          .yy = doubles[2][0],
          .ee = doubles[3][0],
          .ax = doubles[4][0],
          .ae = doubles[5][0],
          .e = doubles[6][0],
          .max = doubles[7][0],
          .n = counts[0][0],
          .exact = counts[1][0],
          .flips = counts[2][0],
          .flushed = counts[3][0],
          .nan = counts[4][0]};
}

__global__ void distortion_kernel(const float* x, const float* y, std::int64_t T, std::int64_t G, std::int64_t D,
                                  std::int64_t tokens, Sums* parts) {
  const std::int64_t b = blockIdx.x / G, g = blockIdx.x % G, first = static_cast<std::int64_t>(blockIdx.y) * tokens;
  const std::int64_t last = first + tokens < T ? first + tokens : T, start = ((b * T + first) * G + g) * D;
  PairSums s;
  const unsigned width = static_cast<unsigned>(D), n = static_cast<unsigned>((last - first) * D);
  // The group's numbers one after the other: beyond a token's `width` the next token's are (G - 1) * D further.
  const unsigned tokens_a_step = threads / width, rest = threads % width, gap = static_cast<unsigned>((G - 1) * D);
  unsigned d = threadIdx.x % width, at = threadIdx.x + threadIdx.x / width * gap;
  constexpr unsigned ahead = 4;
  for (unsigned i = threadIdx.x; i < n; i += ahead * threads) {
    float u[ahead], v[ahead];
#pragma unroll
    for (unsigned k = 0; k < ahead; ++k) {
      const bool here = i + k * threads < n;
      u[k] = here ? x[start + at] : 0.0F;
      v[k] = here ? y[start + at] : 0.0F;
      d += rest;
      const unsigned wrapped = d >= width ? 1U : 0U;
      d -= wrapped * width;
      at += threads + (tokens_a_step + wrapped) * gap;
    }
#pragma unroll
    for (unsigned k = 0; k < ahead; ++k) s.add(u[k], v[k], i + k * threads < n);
  }
  const Sums all = sums_of_block(s);
  if (threadIdx.x == 0) parts[static_cast<std::int64_t>(blockIdx.x) * gridDim.y + blockIdx.y] = all;
}

__device__ void join(Sums& a, const Sums& b) {
  a.xx += b.xx;
  a.xy += b.xy;
  a.yy += b.yy;
  a.ee += b.ee;
  a.ax += b.ax;
  a.ae += b.ae;
  a.e += b.e;
  a.max = fmax(a.max, b.max);
  a.n += b.n;
  a.exact += b.exact;
  a.flips += b.flips;
  a.flushed += b.flushed;
  a.nan += b.nan;
}

__device__ void join(RowStats& a, const RowStats& b) {
  a.rows += b.rows;
  a.max_abs = fmax(a.max_abs, b.max_abs);
  a.inf_norm_sum += b.inf_norm_sum;
  a.kurtosis_sum += b.kurtosis_sum;
  a.sum += b.sum;
  a.below_tenth += b.below_tenth;
  a.above_nine_tenths += b.above_nine_tenths;
  a.elements += b.elements;
  a.non_finite += b.non_finite;
}

/// Central moments of both together (Pebay 2008).
__device__ void join(StatsRow& a, const StatsRow& b) {
  join(a.stats, b.stats);
  if (b.n == 0) return;
  const double n = a.n + b.n, share = 1 / n, d = b.mean - a.mean, e = d * share, ab = a.n * b.n;
  const double m4 = a.m4 + b.m4 + d * e * e * e * ab * (a.n * a.n - ab + b.n * b.n) +
                    6 * e * e * (a.n * a.n * b.m2 + b.n * b.n * a.m2) + 4 * e * (a.n * b.m3 - b.n * a.m3);
  const double m3 = a.m3 + b.m3 + d * e * e * ab * (a.n - b.n) + 3 * e * (a.n * b.m2 - b.n * a.m2);
  a.m2 += b.m2 + d * e * ab;
  a.m3 = m3;
  a.m4 = m4;
  a.mean += e * b.n;
  a.n = n;
}

__device__ void join(AttentionSummary& a, const SummaryRow& b) {
  if (b.mass == 0) return;
  ++a.rows;
  const double missing = 1 - b.mass > 1e-5 ? 1 - b.mass : 0;
  a.sink_mass_sum += missing;
  a.entropy_sum += b.entropy - (missing > 0 ? missing * log(missing) : 0);
  if (b.own < 2) return;
  ++a.gap_rows;
  a.gap_sum += b.gap;
}

__device__ void join(AttentionSummary& a, const AttentionSummary& b) {
  a.rows += b.rows;
  a.sink_mass_sum += b.sink_mass_sum;
  a.entropy_sum += b.entropy_sum;
  a.gap_rows += b.gap_rows;
  a.gap_sum += b.gap_sum;
}

/// A warp a group: each lane a run of consecutive items, then neighbours by twos, fours, ...: a chain of joins would be what
/// all wait for.
template <class Item, class Total>
__global__ void fold_kernel(const Item* items, std::int64_t groups, std::int64_t per_group, Total* out) {
  __shared__ alignas(16) unsigned char memory[threads * sizeof(Total)];
  auto* lanes = reinterpret_cast<Total*>(memory);
  const std::int64_t group = my_warp();
  const int lane = static_cast<int>(threadIdx.x & 31U);
  if (group >= groups) return;
  const std::int64_t run = (per_group + 31) / 32, first = lane * run;
  const std::int64_t last = first + run < per_group ? first + run : per_group;
  Total total{};
  for (std::int64_t i = first; i < last; ++i) join(total, items[group * per_group + i]);
  for (int step = 1; step < 32; step *= 2) {
    lanes[threadIdx.x] = total;
    __syncwarp();
    if (lane % (2 * step) == 0) join(total, lanes[threadIdx.x + static_cast<unsigned>(step)]);
    __syncwarp();
  }
  if (lane == 0) out[group] = total;
}

template <class Item, class Total>
void fold(const Item* items, std::int64_t groups, std::int64_t per_group, Total* out, cudaStream_t stream) {
  if (groups == 0) return;
  fold_kernel<<<blocks_for(groups * 32, threads), threads, 0, stream>>>(items, groups, per_group, out);
  launched("fold");
}

/// Probabilities below the smallest normal f32 count as that (KL would be infinite where E underflowed).
__global__ void divergence_kernel(const float* p, const float* q, std::int64_t rows, std::int64_t n, bool sink,
                                  RowDivergence* out) {
  const std::int64_t r = my_warp();
  if (r >= rows) return;
  double kl = 0, tv = 0, p_sum = 0, q_sum = 0;
  int seen = 0;
  const auto add = [&](double x, double y) {
    tv += fabs(y - x);
    const double lo = FLT_MIN, floor_p = x < lo ? lo : x, floor_q = y < lo ? lo : y, ratio = floor_q / floor_p;
    kl += floor_p * ((ratio - 1.0) - log(ratio));
  };
  for (std::int64_t i = threadIdx.x & 31U; i < n; i += 32) {
    const float a = p[r * n + i], b = q[r * n + i];
    if (a == 0.0F && b == 0.0F) continue;
    seen = 1;
    p_sum += static_cast<double>(a);
    q_sum += static_cast<double>(b);
    add(a, b);
  }
  kl = warp_sum(kl);
  tv = warp_sum(tv);
  seen = warp_max(seen);
  p_sum = warp_sum(p_sum);
  q_sum = warp_sum(q_sum);
  if ((threadIdx.x & 31U) != 0) return;
  if (sink && seen != 0) add(fmax(1 - p_sum, least_sink_mass), fmax(1 - q_sum, least_sink_mass));
  RowDivergence row;
  if (seen != 0) row = {kl, tv / 2, 1};
  out[r] = row;
}

/// The largest of a warp by one instruction: floats other than NaN in the order of these integers.
__device__ float warp_largest(float x) {
  const auto ordered = [](int bits) { return bits ^ ((bits >> 31) & INT32_MAX); };
  return __int_as_float(ordered(__reduce_max_sync(full_warp, ordered(__float_as_int(x)))));
}

__global__ void stats_kernel(const float* x, std::int64_t rows, std::int64_t length, StatsRow* out) {
  const std::int64_t r = my_warp();
  if (r >= rows) return;
  const int lane = static_cast<int>(threadIdx.x & 31U), n = static_cast<int>(length);
  const float* row = x + r * length;
  double sum = 0;
  float low = FLT_MAX, high = -FLT_MAX;
  int below = 0, above = 0, bad = 0;
#pragma unroll 4
  for (int i = lane; i < n; i += 32) {
    const float v = row[i];
    sum += static_cast<double>(v);
    low = fminf(low, v);
    high = fmaxf(high, v);
    below += v < 0.1F ? 1 : 0;
    above += v > 0.9F ? 1 : 0;
    bad += fabsf(v) <= FLT_MAX ? 0 : 1;
  }
  const auto count = static_cast<double>(n);
  const double mean = warp_sum(sum) / count;
  double second = 0, third = 0, fourth = 0;
#pragma unroll 4
  for (int i = lane; i < n; i += 32) {
    const double d = static_cast<double>(row[i]) - mean, d2 = d * d;
    second += d2;
    third += d2 * d;
    fourth += d2 * d2;
  }
  second = warp_sum(second);
  third = warp_sum(third);
  fourth = warp_sum(fourth);
  high = warp_largest(high);
  low = -warp_largest(-low);
  below = __reduce_add_sync(full_warp, below);
  above = __reduce_add_sync(full_warp, above);
  bad = __reduce_add_sync(full_warp, bad);
  if (lane != 0) return;
  RowStats s;
  s.rows = 1;
  s.elements = n;
  if (!isfinite(mean)) {  // a row with NaN or Inf has no moments; what is wrong in it is counted instead
    s.non_finite = bad;
    out[r] = {s, 0, 0, 0, 0, 0};
    return;
  }
  const double norm = fmax(fabs(static_cast<double>(low)), fabs(static_cast<double>(high)));
  const double s2 = n > 1 ? second / (count - 1) : 0;
  s.max_abs = s.inf_norm_sum = norm;
  s.kurtosis_sum = fourth / count / (s2 * s2 + 1e-6);
  s.sum = mean * count;
  if (low >= 0.0F && high <= 1.0F) {
    s.below_tenth = below;
    s.above_nine_tenths = above;
  }
  out[r] = {s, count, mean, second, third, fourth};
}

__device__ double floored_log(float p) { return log(static_cast<double>(p < FLT_MIN ? FLT_MIN : p)); }

__global__ void summary_kernel(const float* probs, std::int64_t rows, std::int64_t queries, std::int64_t keys, bool causal,
                               SummaryRow* out) {
  const std::int64_t r = my_warp();
  if (r >= rows) return;
  const float* p = probs + r * keys;
  const std::int64_t own = causal ? r % queries + keys - queries : 0, seen = causal ? own + 1 : keys;
  double mass = 0, entropy = 0, logs = 0;
  for (std::int64_t i = threadIdx.x & 31U; i < seen; i += 32) {
    const double ln = floored_log(p[i]);
    mass += static_cast<double>(p[i]);
    entropy -= static_cast<double>(p[i]) * ln;
    logs += i > 0 && i < own ? ln : 0.0;
  }
  mass = warp_sum(mass);
  entropy = warp_sum(entropy);
  logs = warp_sum(logs);
  if ((threadIdx.x & 31U) == 0)
    out[r] = {mass, entropy, own < 2 ? 0.0 : floored_log(p[0]) - logs / static_cast<double>(own - 1), own};
}

__global__ void column_sums_kernel(const float* probs, std::int64_t groups, std::int64_t queries, std::int64_t keys,
                                   double* out) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= groups * keys) return;
  double sum = 0;
  for (std::int64_t q = 0; q < queries; ++q) sum += static_cast<double>(probs[(i / keys * queries + q) * keys + i % keys]);
  out[i] = sum;
}

}  // namespace

std::int64_t distortion_splits(std::int64_t tokens, std::int64_t width) {
  const std::int64_t part = tokens_per_part(width);
  return std::max<std::int64_t>(1, (tokens + part - 1) / part);
}

void distortion_parts(const float* x, const float* y, std::int64_t B, std::int64_t T, std::int64_t G, std::int64_t D,
                      Sums* parts, Sums* sums, cudaStream_t stream) {
  if (B * G == 0) return;
  const std::int64_t splits = distortion_splits(T, D);
  distortion_kernel<<<dim3(static_cast<unsigned>(B * G), static_cast<unsigned>(splits)), threads, 0, stream>>>(
      x, y, T, G, D, tokens_per_part(D), parts);
  launched("distortion");
  fold(parts, B * G, splits, sums, stream);
}

void divergence_rows(const float* p, const float* q, std::int64_t rows, std::int64_t n, bool sink, RowDivergence* out,
                     cudaStream_t stream) {
  if (rows == 0) return;
  divergence_kernel<<<blocks_for(rows * 32, threads), threads, 0, stream>>>(p, q, rows, n, sink, out);
  launched("divergence_rows");
}

void summary_rows(const float* probs, std::int64_t groups, std::int64_t queries, std::int64_t keys, bool causal,
                  SummaryRow* out, cudaStream_t stream) {
  if (groups * queries == 0) return;
  summary_kernel<<<blocks_for(groups * queries * 32, threads), threads, 0, stream>>>(probs, groups * queries, queries, keys,
                                                                                     causal, out);
  launched("summary_rows");
}
void fold_summary(const SummaryRow* rows, std::int64_t groups, std::int64_t queries, AttentionSummary* out,
                  cudaStream_t stream) {
  fold(rows, groups, queries, out, stream);
}
void column_sums(const float* probs, std::int64_t groups, std::int64_t queries, std::int64_t keys, double* out,
                 cudaStream_t stream) {
  if (groups * keys == 0) return;
  column_sums_kernel<<<blocks_for(groups * keys, threads), threads, 0, stream>>>(probs, groups, queries, keys, out);
  launched("column_sums");
}

void stats_rows(const float* x, std::int64_t rows, std::int64_t n, StatsRow* out, cudaStream_t stream) {
  if (rows == 0) return;
  stats_kernel<<<blocks_for(rows * 32, threads), threads, 0, stream>>>(x, rows, n, out);
  launched("stats_rows");
}
void fold_stats(const StatsRow* rows, std::int64_t groups, std::int64_t per_group, StatsRow* out, cudaStream_t stream) {
  fold(rows, groups, per_group, out, stream);
}

}  // namespace qfid::kernels::gpu
