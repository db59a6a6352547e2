// The full-precision operations of a transformer, and the small preparations of attention. Arithmetic in the order of
// kernels/host/host_backend.cc and kernels/host/operands.cc, without contraction.
#include "kernels/gpu/activations.cuh"
#include "kernels/gpu/elementwise.h"
#include "kernels/gpu/gemm.h"
#include "kernels/gpu/launch.cuh"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;

template <class F>
__global__ void for_each_kernel(std::int64_t n, F f) {
  const auto step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

template <class F>
void for_each(std::int64_t n, const F& f, const char* name, cudaStream_t stream) {
  if (n == 0) return;
  for_each_kernel<<<blocks_for(n, threads), threads, 0, stream>>>(n, f);
  launched(name);
}

bool aligned16(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

/// A warp a row.
__global__ void normalize_kernel(const float* x, const float* gamma, const float* beta, float eps, bool centered, float* out,
                                 std::int64_t rows, std::int64_t width) {
  const std::int64_t r = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (r >= rows) return;
  const int lane = static_cast<int>(threadIdx.x & 31U);
  const float* row = x + r * width;
  double sum = 0;
  if (centered)
    for (std::int64_t i = lane; i < width; i += 32) sum += static_cast<double>(row[i]);
  const double mean = centered ? warp_sum(sum) / static_cast<double>(width) : 0.0;
  double squares = 0;
  for (std::int64_t i = lane; i < width; i += 32) {
    const double d = static_cast<double>(row[i]) - mean;
    squares += d * d;
  }
  const double variance = warp_sum(squares) / static_cast<double>(width);
  const auto scale = static_cast<float>(1.0 / sqrt(variance + static_cast<double>(eps)));
  const auto shift = static_cast<float>(mean);
  for (std::int64_t i = lane; i < width; i += 32)
    out[r * width + i] = (row[i] - shift) * scale * gamma[i] + (beta == nullptr ? 0.0F : beta[i]);
}

__device__ double number_at(const void* x, Number number, std::int64_t i) {
  switch (number) {
    case Number::s32:
      return static_cast<const std::int32_t*>(x)[i];
    case Number::bf16:
      return static_cast<double>(__uint_as_float(static_cast<unsigned>(static_cast<const std::uint16_t*>(x)[i]) << 16U));
    default:
      return static_cast<double>(static_cast<const float*>(x)[i]);
  }
}

}  // namespace

void embedding(const std::int32_t* ids, const float* table, float* out, std::int64_t tokens, std::int64_t width,
               cudaStream_t stream) {
  for_each(
      tokens * width,
      [=] __device__(std::int64_t i) {
        const std::int64_t token = i / width;
        out[i] = table[ids[token] * width + i - token * width];
      },
      "embedding", stream);
}

void add(const float* a, const float* b, float* out, std::int64_t n, cudaStream_t stream) {
  if (n % 4 == 0 && aligned16(a) && aligned16(b)) {
    const auto *x = reinterpret_cast<const float4*>(a), *y = reinterpret_cast<const float4*>(b);
    auto* z = reinterpret_cast<float4*>(out);
    return for_each(
        n / 4,
        [=] __device__(std::int64_t i) {
          const float4 p = x[i], q = y[i];
          z[i] = make_float4(p.x + q.x, p.y + q.y, p.z + q.z, p.w + q.w);
        },
        "add", stream);
  }
  for_each(n, [=] __device__(std::int64_t i) { out[i] = a[i] + b[i]; }, "add", stream);
}

void normalize(const float* x, const float* gamma, const float* beta, float eps, bool centered, float* out,
               std::int64_t rows, std::int64_t width, cudaStream_t stream) {
  if (rows == 0) return;
  normalize_kernel<<<blocks_for(rows * 32, threads), threads, 0, stream>>>(x, gamma, beta, eps, centered, out, rows, width);
  launched("normalize");
}

void activate(const float* x, Activation kind, float* out, std::int64_t n, cudaStream_t stream) {
  if (kind == Activation::relu && n % 4 == 0 && aligned16(x)) {
    const auto* src = reinterpret_cast<const float4*>(x);
    auto* dst = reinterpret_cast<float4*>(out);
    return for_each(
        n / 4,
        [=] __device__(std::int64_t i) {
          const float4 v = src[i];
          dst[i] = make_float4(relu(v.x), relu(v.y), relu(v.z), relu(v.w));
        },
        "activate", stream);
  }
  for_each(n, [=] __device__(std::int64_t i) { out[i] = activated(x[i], kind); }, "activate", stream);
}

void rotate(const float* x, float* out, std::int64_t rows, std::int64_t heads, std::int64_t length, std::int64_t width,
            std::int64_t first, double theta, cudaStream_t stream) {
  const std::int64_t half = width / 2;
  for_each(
      rows * half,
      [=] __device__(std::int64_t i) {
        const std::int64_t r = i / half, d = i % half;
        const auto position = static_cast<double>(first + r / heads % length);
        const double angle = position * pow(theta, -2.0 * static_cast<double>(d) / static_cast<double>(width));
        const double a = x[r * width + d], b = x[r * width + d + half];
        out[r * width + d] = static_cast<float>(a * cos(angle) - b * sin(angle));
        out[r * width + d + half] = static_cast<float>(b * cos(angle) + a * sin(angle));
      },
      "rotate", stream);
}

void sigmoid(const float* x, float* out, std::int64_t n, cudaStream_t stream) {
  for_each(
      n,
      [=] __device__(std::int64_t i) { out[i] = static_cast<float>(1.0 / (1.0 + exp(-static_cast<double>(x[i])))); },
      "sigmoid", stream);
}

void scale_rows(const float* x, const float* gate, float* out, std::int64_t rows, std::int64_t width, cudaStream_t stream) {
  for_each(rows * width, [=] __device__(std::int64_t i) { out[i] = gate[i / width] * x[i]; }, "scale_rows", stream);
}

void key_means(const float* k, const std::uint8_t* mask, float* means, std::int64_t batch, std::int64_t length,
               std::int64_t heads, std::int64_t width, cudaStream_t stream) {
  const std::int64_t row = heads * width;
  for_each(
      batch * row,
      [=] __device__(std::int64_t i) {
        const std::int64_t b = i / row;
        double sum = 0, n = 0;
        for (std::int64_t t = 0; t < length; ++t)
          if (mask == nullptr || mask[b * length + t] != 0) {
            sum += static_cast<double>(k[(b * length + t) * row + i % row]);
            n += 1;
          }
        means[i] = n > 0 ? static_cast<float>(sum / n) : 0.0F;
      },
      "key_means", stream);
}

void subtract_means(const float* k, const float* means, float* out, std::int64_t batch, std::int64_t length,
                    std::int64_t heads, std::int64_t width, cudaStream_t stream) {
  const std::int64_t row = heads * width;
  for_each(
      batch * length * row,
      [=] __device__(std::int64_t i) { out[i] = k[i] - means[i / (row * length) * row + i % row]; }, "subtract_means", stream);
}

void sink_logits(const float* sink, const float* q, const float* means, float c, float* out, std::int64_t batch,
                 std::int64_t q_len, std::int64_t q_heads, std::int64_t kv_heads, std::int64_t width, cudaStream_t stream) {
  const std::int64_t group = q_heads / kv_heads;
  for_each(
      batch * q_heads * q_len,
      [=] __device__(std::int64_t n) {
        const std::int64_t i = n % q_len, h = n / q_len % q_heads, b = n / (q_len * q_heads);
        double lowered = 0;
        if (means != nullptr)
          for (std::int64_t d = 0; d < width; ++d)
            lowered += static_cast<double>(q[((b * q_len + i) * q_heads + h) * width + d]) *
                       static_cast<double>(means[(b * kv_heads + h / group) * width + d]);
        out[n] = static_cast<float>(static_cast<double>(sink[h]) - lowered * static_cast<double>(c));
      },
      "sink_logits", stream);
}

void fill(float* dst, float value, std::int64_t n, cudaStream_t stream) {
  for_each(n, [=] __device__(std::int64_t i) { dst[i] = value; }, "fill", stream);
}

void fill_ones(void* dst, Number number, std::int64_t n, cudaStream_t stream) {
  for_each(
      n,
      [=] __device__(std::int64_t i) {
        switch (number) {
          case Number::f32:
            static_cast<float*>(dst)[i] = 1.0F;
            break;
          case Number::bf16:
            static_cast<std::uint16_t*>(dst)[i] = 0x3F80U;
            break;
          case Number::s32:
            static_cast<std::int32_t*>(dst)[i] = 1;
            break;
          default:
            static_cast<std::uint8_t*>(dst)[i] = number == Number::s8 ? 1U : number == Number::e4m3 ? 0x38U : 0x3CU;
        }
      },
      "fill_ones", stream);
}

void fill_random(void* dst, Number number, std::int64_t n, std::uint32_t seed, cudaStream_t stream) {
  for_each(
      n,
      [=] __device__(std::int64_t i) {
        unsigned h = static_cast<unsigned>(i) * 2654435761U + seed * 0x9E3779B9U;  // a few rounds of a mixing hash
        h = (h ^ (h >> 16)) * 0x85EBCA6BU;
        h = (h ^ (h >> 13)) * 0xC2B2AE35U;
        h ^= h >> 16;
        const float x = static_cast<float>(static_cast<int>(h)) * 0x1p-30F;
        if (number == Number::f32) static_cast<float*>(dst)[i] = x;
        if (number == Number::bf16) static_cast<std::uint16_t*>(dst)[i] = static_cast<std::uint16_t>(__float_as_uint(x) >> 16);
        if (number == Number::s8) static_cast<std::uint8_t*>(dst)[i] = static_cast<std::uint8_t>(h);
        if (number == Number::e4m3 || number == Number::e5m2)
          static_cast<std::uint8_t*>(dst)[i] = static_cast<std::uint8_t>(h & 0xBFU);  // below 2: no NaN
      },
      "fill_random", stream);
}

void find_different(const void* a, const void* b, std::int64_t words, std::uint32_t* different, cudaStream_t stream) {
  const auto *x = static_cast<const uint4*>(a), *y = static_cast<const uint4*>(b);
  for_each(
      words,
      [=] __device__(std::int64_t i) {
        const uint4 p = x[i], q = y[i];
        if (((p.x ^ q.x) | (p.y ^ q.y) | (p.z ^ q.z) | (p.w ^ q.w)) != 0) *different = 1;
      },
      "find_different", stream);
}

void find_unlike(const void* x, Number number, double expected, double tolerance, std::int64_t batch, std::int64_t stride,
                 std::int64_t rows, std::int64_t columns, std::int64_t ld, std::uint32_t* wrong, cudaStream_t stream) {
  for_each(
      batch * rows * columns,
      [=] __device__(std::int64_t i) {
        const std::int64_t row = i / columns, at = row / rows * stride + row % rows * ld + i % columns;
        if (!(fabs(number_at(x, number, at) - expected) <= tolerance * expected)) *wrong = 1;
      },
      "find_unlike", stream);
}

}  // namespace qfid::kernels::gpu
