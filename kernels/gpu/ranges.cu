// Dynamic ranges of granules other than one token's row, their scales, and the way back from codes to numbers.
#include "kernels/gpu/casts.cuh"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;

/// Extremes of a granule as bits of non-negative floats: [0] of -min, [1] of max.
using Extreme = unsigned[2];

/// Granules whose elements are, for each of its tokens, one run of `width` numbers: tensor, head, block, group, token.
/// Block x: granule, y: part of its tokens.
__global__ void box_kernel(Source s, ScaleView v, std::int64_t granules, std::int64_t width, std::int64_t part,
                           Extreme* extremes) {
  __shared__ float shared[32];
  const std::int64_t g = blockIdx.x;
  const std::int64_t b = g / granules, within = g % granules;
  const std::int64_t d = within % v.c3 * v.s3, h = within / v.c3 % v.c2 * v.s2, t = within / (v.c3 * v.c2) * v.s1;
  const std::int64_t first = t + static_cast<std::int64_t>(blockIdx.y) * part;
  const std::int64_t box_end = t + v.s1 < s.T ? t + v.s1 : s.T;
  const std::int64_t last = first + part < box_end ? first + part : box_end;
  const std::int64_t run = v.c3 > 1 && d + width > s.D ? s.D - d : width;
  float low = 0, high = 0;
  const std::int64_t n = last > first ? (last - first) * run : 0;
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x)
    widen(low, high, s.x[((b * s.T + first + i / run) * s.H + h) * s.D + d + i % run]);
  low = block_max(low, shared);
  high = block_max(high, shared);
  if (threadIdx.x == 0) {
    atomicMax(&extremes[g][0], __float_as_uint(low) & 0x7FFFFFFFU);
    atomicMax(&extremes[g][1], __float_as_uint(high) & 0x7FFFFFFFU);
  }
}

/// A granule for each (head, channel): a thread a column, block y a part of the tokens.
__global__ void column_kernel(Source s, std::int64_t part, Extreme* extremes) {
  const std::int64_t columns = s.H * s.D, g = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (g >= s.B * columns) return;
  const std::int64_t b = g / columns, c = g % columns, first = static_cast<std::int64_t>(blockIdx.y) * part;
  const std::int64_t last = first + part < s.T ? first + part : s.T;
  float low = 0, high = 0;
  for (std::int64_t t = first; t < last; ++t) widen(low, high, s.x[(b * s.T + t) * columns + c]);
  atomicMax(&extremes[g][0], __float_as_uint(low) & 0x7FFFFFFFU);
  atomicMax(&extremes[g][1], __float_as_uint(high) & 0x7FFFFFFFU);
}

__global__ void scales_kernel(const Extreme* extremes, std::int64_t n, Format format, quant::ScaleRule rule, bool affine,
                              float* scale, std::int32_t* zero) {
  const std::int64_t g = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (g >= n) return;
  const ScaleZero sz = scale_for(-__uint_as_float(extremes[g][0]), __uint_as_float(extremes[g][1]), format, rule, affine);
  scale[g] = sz.scale;
  if (zero != nullptr) zero[g] = sz.zero;
}

template <Format F>
__device__ float number_of(const void* codes, std::int64_t i, int zero) {
  if constexpr (F == Format::f32) return static_cast<const float*>(codes)[i];
  if constexpr (F == Format::bf16) return decode<F>(static_cast<const std::uint16_t*>(codes)[i], 0);
  return decode<F>(static_cast<const std::uint8_t*>(codes)[i], zero);
}

template <Format F>
__global__ void dequantize_kernel(Source s, ScaleView v, const void* codes, float* dst) {
  const std::int64_t n = s.B * s.T * s.H * s.D, step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const std::int64_t d = i % s.D, h = i / s.D % s.H, t = i / (s.D * s.H) % s.T, b = i / (s.D * s.H * s.T);
    if (v.scale == nullptr) {
      dst[i] = number_of<F>(codes, i, 0);
      continue;
    }
    const std::int64_t g = b * v.per_window + ((t / v.s1) * v.c2 + h / v.s2) * v.c3 + d / v.s3;
    dst[i] = number_of<F>(codes, i, v.zero == nullptr ? 0 : v.zero[g]) * v.scale[g];
  }
}

}  // namespace

void dynamic_scales(const CastJob& job, const quant::Granules& granules, Context& context) {
  const Source& s = job.src;
  const std::int64_t per_window = job.scales.per_window, all = s.B * per_window;
  if (all == 0) return;
  const auto memory = context.zeros<std::uint32_t>(2 * all);
  auto* extremes = reinterpret_cast<Extreme*>(memory.get());
  const auto parts = [&](std::int64_t tokens, std::int64_t part) {
    return static_cast<unsigned>(std::max<std::int64_t>(1, (tokens + part - 1) / part));
  };
  if (granules.step[3] == 1 && s.D > 1) {
    constexpr std::int64_t part = 128;
    column_kernel<<<dim3(blocks_for(all, threads), parts(s.T, part)), threads, 0, context.stream()>>>(s, part, extremes);
  } else {
    // With all heads in a granule, their channels are one run.
    const std::int64_t width = granules.step[2] > 1 || s.H == 1 ? granules.step[2] * granules.step[3] : granules.step[3];
    const std::int64_t tokens = std::min(s.T, granules.step[1]);
    const std::int64_t part = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, width));
    box_kernel<<<dim3(static_cast<unsigned>(all), parts(tokens, part)), threads, 0, context.stream()>>>(
        s, job.scales, per_window, width, part, extremes);
  }
  launched("extremes");
  scales_kernel<<<blocks_for(all, threads), threads, 0, context.stream()>>>(
      extremes, all, job.scheme.format, job.scheme.rule, job.scheme.affine, const_cast<float*>(job.scales.scale),
      const_cast<std::int32_t*>(job.scales.zero));
  launched("scales");
}

void dequantize_rows(const CastJob& job, const void* codes, float* dst, cudaStream_t stream) {
  const std::int64_t n = job.src.B * job.src.T * job.src.H * job.src.D;
  if (n == 0) return;
  const auto run = [&]<Format F>() {
    dequantize_kernel<F><<<blocks_for(n, threads), threads, 0, stream>>>(job.src, job.scales, codes, dst);
  };
  switch (job.scheme.format) {
    case Format::int8:
      run.template operator()<Format::int8>();
      break;
    case Format::uint8:
      run.template operator()<Format::uint8>();
      break;
    case Format::e4m3:
      run.template operator()<Format::e4m3>();
      break;
    case Format::e5m2:
      run.template operator()<Format::e5m2>();
      break;
    case Format::bf16:
      run.template operator()<Format::bf16>();
      break;
    case Format::f32:
      run.template operator()<Format::f32>();
      break;
  }
  launched("dequantize");
}

}  // namespace qfid::kernels::gpu
