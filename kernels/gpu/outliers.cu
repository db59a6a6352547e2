// Largest magnitudes, errors beside outliers, norms, those under a projection. Magnitudes: a block a window; sizes of floats
// are in the order of their bits, so that the median is found by halving the range of bits, exactly.
#include <cfloat>
#include <cmath>

#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/reduce.h"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;
constexpr int window_threads = 1024;
constexpr unsigned largest_bits = 0x7F7FFFFFU;  // FLT_MAX
constexpr double outlier_deviations = 6;

__device__ std::int64_t my_warp() { return (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32; }

__device__ unsigned size_bits(float x) { return __float_as_uint(x) & 0x7FFFFFFFU; }

__device__ std::int64_t count_to(const float* x, std::int64_t n, unsigned bits, std::int64_t* shared) {
  std::int64_t count = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += window_threads) count += size_bits(x[i]) <= bits ? 1 : 0;
  return block_sum(count, shared);
}

/// The size that has k smaller or equal ones before it in order; all threads.
__device__ double ordered(const float* x, std::int64_t n, std::int64_t k, std::int64_t* shared) {
  unsigned low = 0, high = largest_bits;
  while (low < high) {
    const unsigned middle = low + (high - low) / 2;
    if (count_to(x, n, middle, shared) > k) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return static_cast<double>(__uint_as_float(low));
}

__device__ void insert(float (&top)[3], float size) {
  if (size > top[0]) {
    top[2] = top[1];
    top[1] = top[0];
    top[0] = size;
  } else if (size > top[1]) {
    top[2] = top[1];
    top[1] = size;
  } else if (size > top[2]) {
    top[2] = size;
  }
}

__global__ void magnitudes_kernel(const float* data, std::int64_t n, Magnitudes* out) {
  __shared__ std::int64_t counts[32];
  __shared__ float tops[window_threads][3];
  const float* x = data + static_cast<std::int64_t>(blockIdx.x) * n;
  float top[3] = {};
  for (std::int64_t i = threadIdx.x; i < n; i += window_threads)
    if (size_bits(x[i]) <= largest_bits) insert(top, fabsf(x[i]));
  for (int i = 0; i < 3; ++i) tops[threadIdx.x][i] = top[i];
  Magnitudes m;
  m.elements = count_to(x, n, largest_bits, counts);  // its barriers also make tops seen
  if (m.elements > 0) {
    m.median = ordered(x, n, (m.elements - 1) / 2, counts);
    if (m.elements % 2 == 0) m.median = (m.median + ordered(x, n, m.elements / 2, counts)) / 2;
  }
  std::int64_t massive = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += window_threads) {
    const auto size = static_cast<double>(fabsf(x[i]));
    massive += size_bits(x[i]) <= largest_bits && size > 100 && size > 1000 * m.median ? 1 : 0;
  }
  m.massive = block_sum(massive, counts);
  if (threadIdx.x != 0) return;
  for (int t = 1; t < window_threads; ++t)
    for (int i = 0; i < 3; ++i) insert(top, tops[t][i]);
  for (int i = 0; i < 3; ++i) m.top[i] = static_cast<double>(top[i]);
  out[blockIdx.x] = m;
}

/// Rows without moments (NaN or Inf in them) hold no outliers.
__global__ void flags_kernel(const float* x, const StatsRow* rows, const StatsRow* windows, std::int64_t T, std::int64_t n,
                             std::int64_t all, std::uint8_t* tokens, std::uint8_t* channels) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < all; i += stride) {
    const std::int64_t r = i / n, b = r / T;
    const StatsRow& window = windows[b];
    if (rows[r].n == 0) continue;
    if (fabs(static_cast<double>(x[i]) - window.mean) <= outlier_deviations * sqrt(window.m2 / window.n)) continue;
    tokens[r] = 1;
    channels[b * n + i % n] = 1;
  }
}

__global__ void split_kernel(const float* x, const float* y, const std::uint8_t* tokens, const std::uint8_t* channels,
                             std::int64_t rows, std::int64_t T, std::int64_t n, OutlierRow* out) {
  const std::int64_t r = my_warp();
  if (r >= rows) return;
  double energy = 0, product = 0, error = 0, in_channels = 0;
  for (std::int64_t i = threadIdx.x & 31U; i < n; i += 32) {
    const double a = x[r * n + i], b = y[r * n + i], e = b - a;
    if (!isfinite(e)) continue;
    energy += a * a;
    product += a * b;
    error += e * e;
    in_channels += channels[r / T * n + i] != 0 ? e * e : 0;
  }
  energy = warp_sum(energy);
  product = warp_sum(product);
  error = warp_sum(error);
  in_channels = warp_sum(in_channels);
  if ((threadIdx.x & 31U) == 0) out[r] = {energy, product, error, in_channels, tokens[r]};
}

__global__ void norms_kernel(const float* x, std::int64_t rows, std::int64_t n, double* out) {
  const std::int64_t r = my_warp();
  if (r >= rows) return;
  double sum = 0;
  for (std::int64_t i = threadIdx.x & 31U; i < n; i += 32)
    sum += static_cast<double>(x[r * n + i]) * static_cast<double>(x[r * n + i]);
  sum = warp_sum(sum);
  if ((threadIdx.x & 31U) == 0) out[r] = sqrt(sum);
}

__global__ void projected_kernel(const float* x, const float* factors, std::int64_t rows, std::int64_t groups,
                                 std::int64_t n, double* out) {
  const std::int64_t r = my_warp();
  if (r >= rows) return;
  const float *in = x + r * n, *factor = factors + r % groups * n * n;
  double sum = 0;
  for (std::int64_t i = threadIdx.x & 31U; i < n; i += 32) {
    double row = 0;
    for (std::int64_t j = i; j < n; ++j) row += static_cast<double>(factor[i * n + j]) * static_cast<double>(in[j]);
    sum += row * row;
  }
  sum = warp_sum(sum);
  if ((threadIdx.x & 31U) == 0) out[r] = sqrt(sum);
}

}  // namespace

void window_magnitudes(const float* x, std::int64_t windows, std::int64_t n, Magnitudes* out, cudaStream_t stream) {
  if (windows == 0) return;
  magnitudes_kernel<<<static_cast<unsigned>(windows), window_threads, 0, stream>>>(x, n, out);
  launched("window_magnitudes");
}

void outlier_flags(const float* x, const StatsRow* rows, const StatsRow* windows, std::int64_t B, std::int64_t T,
                   std::int64_t n, std::uint8_t* tokens, std::uint8_t* channels, cudaStream_t stream) {
  const std::int64_t all = B * T * n;
  if (all == 0) return;
  flags_kernel<<<blocks_for(all, threads), threads, 0, stream>>>(x, rows, windows, T, n, all, tokens, channels);
  launched("outlier_flags");
}

void outlier_rows(const float* x, const float* y, const std::uint8_t* tokens, const std::uint8_t* channels, std::int64_t B,
                  std::int64_t T, std::int64_t n, OutlierRow* out, cudaStream_t stream) {
  if (B * T == 0) return;
  split_kernel<<<blocks_for(B * T * 32, threads), threads, 0, stream>>>(x, y, tokens, channels, B * T, T, n, out);
  launched("outlier_rows");
}

void projected_row_norms(const float* x, const float* factors, std::int64_t rows, std::int64_t groups, std::int64_t n,
                         double* out, cudaStream_t stream) {
  if (rows == 0) return;
  projected_kernel<<<blocks_for(rows * 32, threads), threads, 0, stream>>>(x, factors, rows, groups, n, out);
  launched("projected_row_norms");
}

void row_norms(const float* x, std::int64_t rows, std::int64_t n, double* out, cudaStream_t stream) {
  if (rows == 0) return;
  norms_kernel<<<blocks_for(rows * 32, threads), threads, 0, stream>>>(x, rows, n, out);
  launched("row_norms");
}

}  // namespace qfid::kernels::gpu
