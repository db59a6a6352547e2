// Casts: a warp a row where a row is a granule, a thread for one or four numbers elsewhere. Extremes are kept as bits of
// non-negative floats, whose integer maximum is theirs: atomics in any order give the same bits.
#include "kernels/gpu/formats.cuh"
#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/quantize.h"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;
constexpr int tile = 32;

struct CastArguments {
  Source src;
  CastRule rule;
  bool shifted;
  bool affine;
  quant::ScaleRule scale_rule;
  ScaleView scales;
  std::uint64_t* tally;
  CodeLayout layout;
};

CastArguments arguments(const CastJob& job, const CodeLayout& layout) {
  const quant::QuantScheme& s = job.scheme;
  CastRule rule;
  if (s.rule == quant::ScaleRule::compressed_tensors || s.rule == quant::ScaleRule::onnx) rule.low = -128;
  rule.saturate = s.overflow == quant::Overflow::satfinite;
  return {job.src, rule, job.shifted, s.affine, s.rule, job.scales, job.tally, layout};
}

__device__ void add_tally(std::uint64_t* counts, const Tally& tally) {
  if (counts == nullptr) return;
  const unsigned saturated = warp_sum(tally.saturated), flushed = warp_sum(tally.flushed), nan = warp_sum(tally.nan);
  if ((threadIdx.x & 31U) != 0) return;
  auto* out = reinterpret_cast<unsigned long long*>(counts);
  if (saturated != 0) atomicAdd(out, saturated);
  if (flushed != 0) atomicAdd(out + 1, flushed);
  if (nan != 0) atomicAdd(out + 2, nan);
}

/// The stored form of one number: T of one byte holds the code, of two or four the code's value as bf16 or f32.
template <Format F, class T>
__device__ T stored(float x, float scale, int zero, const CastArguments& a, Tally& tally) {
  const unsigned code = encode<F>(x, scale, zero, a.rule, tally);
  if constexpr (sizeof(T) == 1) return static_cast<T>(F == Format::uint8 && a.shifted ? code ^ 0x80U : code);
  if constexpr (sizeof(T) == 2)
    return static_cast<T>(F == Format::bf16 ? code : __float_as_uint(decode<F>(code, zero)) >> 16);
  if constexpr (sizeof(T) == 4) return static_cast<T>(__float_as_uint(decode<F>(code, zero)));
}

__device__ std::int64_t granule(const ScaleView& s, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d) {
  const auto over = [](std::int64_t x, std::int64_t step) { return static_cast<unsigned>(x) / static_cast<unsigned>(step); };
  return b * s.per_window + (over(t, s.s1) * s.c2 + over(h, s.s2)) * s.c3 + over(d, s.s3);
}

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

/// N numbers a thread; one granule lookup for all of them unless scales change within a row.
template <Format F, class T, int N>
__global__ void rows_kernel(CastArguments a, T* dst) {
  // 32-bit counts: the launcher splits longer jobs.
  const unsigned groups = static_cast<unsigned>(a.layout.columns / N), heads = static_cast<unsigned>(a.src.H);
  const unsigned tokens = static_cast<unsigned>(a.layout.tokens);
  const unsigned total = static_cast<unsigned>(a.src.B) * tokens * heads * groups;
  Tally tally;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += gridDim.x * blockDim.x) {
    const unsigned row = i / groups;
    const std::int64_t d = i % groups * N, h = row % heads, t = row / heads % tokens, b = row / heads / tokens;
    Pack<T, N> out;
    const bool inside = t < a.src.T;
    const float* x = a.src.x + ((b * a.src.T + t) * a.src.H + h) * a.src.D + d;
    Pack<float, N> in;
    if (N > 1 && inside && d < a.src.D) in = *reinterpret_cast<const Pack<float, N>*>(x);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      T code = 0;
      if (inside && d + n < a.src.D) {
        const std::int64_t g = a.scales.scale == nullptr ? 0 : granule(a.scales, b, t, h, d + n);
        const float scale = a.scales.scale == nullptr ? 1.0F : a.scales.scale[g];
        code = stored<F, T>(N > 1 ? in.v[n] : x[n], scale, a.scales.zero == nullptr ? 0 : a.scales.zero[g], a, tally);
      }
      out.v[n] = code;
    }
    *reinterpret_cast<Pack<T, N>*>(dst + b * a.layout.b + t * a.layout.t + h * a.layout.h + d) = out;
  }
  add_tally(a.tally, tally);
}

/// A warp a row (b, t, h): range, scale, cast. Rows beyond T are zero.
template <Format F, class T, int N>
__global__ void token_rows_kernel(CastArguments a, float* scales, std::int32_t* zeros, T* dst) {
  const unsigned row = static_cast<unsigned>((static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32);
  const unsigned heads = static_cast<unsigned>(a.src.H), tokens = static_cast<unsigned>(a.layout.tokens);
  const std::int64_t h = row % heads, t = row / heads % tokens, b = row / heads / tokens;
  if (b >= a.src.B) return;
  const int lane = static_cast<int>(threadIdx.x & 31U);
  const float* x = a.src.x + ((b * a.src.T + t) * a.src.H + h) * a.src.D;
  T* out = dst + b * a.layout.b + t * a.layout.t + h * a.layout.h;
  const std::int64_t width = t < a.src.T ? a.src.D : 0;
  float low = 0, high = 0;
  for (std::int64_t d = lane * N; d < width; d += 32 * N) {
    const auto in = *reinterpret_cast<const Pack<float, N>*>(x + d);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float v = fabsf(in.v[n]) <= FLT_MAX ? in.v[n] : 0.0F;
      low = fmaxf(low, -v);
      high = fmaxf(high, v);
    }
  }
  const ScaleZero sz = scale_for(-warp_max(low), warp_max(high), F, a.scale_rule, a.affine);
  if (lane == 0 && width > 0) {
    const std::int64_t g = granule(a.scales, b, t, h, 0);
    scales[g] = sz.scale;
    if (zeros != nullptr) zeros[g] = sz.zero;
  }
  Tally tally;
  for (std::int64_t d = lane * N; d < a.layout.columns; d += 32 * N) {
    Pack<T, N> codes;
    Pack<float, N> in;
    if (d < width) in = *reinterpret_cast<const Pack<float, N>*>(x + d);
#pragma unroll
    for (int n = 0; n < N; ++n)
      codes.v[n] = d + n < width ? stored<F, T>(in.v[n], sz.scale, sz.zero, a, tally) : T{0};
    *reinterpret_cast<Pack<T, N>*>(out + d) = codes;
  }
  add_tally(a.tally, tally);
}

__device__ std::int64_t position(std::int64_t t, std::int64_t block, std::int64_t block_stride) {
  const unsigned at = static_cast<unsigned>(t), size = static_cast<unsigned>(block);
  return at / size * block_stride + at % size;
}

/// Tiles of 32 tokens by 32 channels through shared memory; a.layout.columns is the number of padded channels.
template <Format F, class T>
__global__ void transposed_kernel(CastArguments a, T* dst, std::int64_t columns, std::int64_t tokens, std::int64_t block,
                                  std::int64_t block_stride) {
  __shared__ T codes[tile][tile + 1];
  const std::int64_t h = blockIdx.z % a.src.H, b = blockIdx.z / a.src.H;
  const std::int64_t t0 = static_cast<std::int64_t>(blockIdx.x) * tile, d0 = static_cast<std::int64_t>(blockIdx.y) * tile;
  Tally tally;
  for (int i = static_cast<int>(threadIdx.y); i < tile; i += static_cast<int>(blockDim.y)) {
    const std::int64_t t = t0 + i, d = d0 + threadIdx.x;
    if (t >= a.src.T || d >= a.src.D) continue;
    const std::int64_t g = a.scales.scale == nullptr ? 0 : granule(a.scales, b, t, h, d);
    codes[i][threadIdx.x] =
        stored<F, T>(a.src.x[((b * a.src.T + t) * a.src.H + h) * a.src.D + d],
                     a.scales.scale == nullptr ? 1.0F : a.scales.scale[g], a.scales.zero == nullptr ? 0 : a.scales.zero[g], a,
                     tally);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < tile; i += static_cast<int>(blockDim.y)) {
    const std::int64_t t = t0 + threadIdx.x, d = d0 + i;
    if (t < a.src.T && d < a.src.D)
      dst[((b * a.src.H + h) * columns + d) * tokens + position(t, block, block_stride)] = codes[threadIdx.x][i];
  }
  add_tally(a.tally, tally);
}

/// f(format constant, stored type value): the combinations that exist.
template <class Run>
void with_types(Format format, Number number, const Run& run) {
  using F = Format;
  const auto wide = [&]<F f>() {
    if (number == Number::f32) return run.template operator()<f, std::uint32_t>();
    if (number == Number::bf16) return run.template operator()<f, std::uint16_t>();
    run.template operator()<f, std::uint8_t>();
  };
  switch (format) {
    case F::int8:
      return run.template operator()<F::int8, std::uint8_t>();
    case F::uint8:
      return run.template operator()<F::uint8, std::uint8_t>();
    case F::e4m3:
      return wide.template operator()<F::e4m3>();
    case F::e5m2:
      return wide.template operator()<F::e5m2>();
    case F::bf16:
      if (number == Number::f32) return run.template operator()<F::bf16, std::uint32_t>();
      return run.template operator()<F::bf16, std::uint16_t>();
    case F::f32:
      return run.template operator()<F::f32, std::uint32_t>();
  }
}

bool by_four(const CastArguments& a) {
  return a.src.D % 4 == 0 && a.layout.columns % 4 == 0 && reinterpret_cast<std::uintptr_t>(a.src.x) % 16 == 0 &&
         a.layout.b % 4 == 0 && a.layout.t % 4 == 0 && a.layout.h % 4 == 0;
}

}  // namespace

namespace {

/// f(part of the job, first window): windows in groups whose counts fit 32 bits.
template <class Part>
void in_groups(const CastJob& job, std::int64_t window, const Part& f) {
  const std::int64_t most = std::max<std::int64_t>(1, (std::int64_t{1} << 30) / std::max<std::int64_t>(1, window));
  for (std::int64_t first = 0; first < job.src.B; first += most) {
    CastJob part = job;
    part.src.B = std::min(most, job.src.B - first);
    part.src.x += first * job.src.T * job.src.H * job.src.D;
    if (part.scales.scale != nullptr) part.scales.scale += first * part.scales.per_window;
    if (part.scales.zero != nullptr) part.scales.zero += first * part.scales.per_window;
    f(part, first);
  }
}

}  // namespace

void cast_rows(const CastJob& whole, void* dst, const CodeLayout& layout, cudaStream_t stream) {
  const std::int64_t window = layout.tokens * whole.src.H * layout.columns;
  if (window == 0) return;
  in_groups(whole, window, [&](const CastJob& job, std::int64_t first) {
    const CastArguments a = arguments(job, layout);
    with_types(job.scheme.format, job.number, [&]<Format F, class T>() {
      T* out = static_cast<T*>(dst) + first * layout.b;
      if (by_four(a)) {
        rows_kernel<F, T, 4><<<blocks_for(job.src.B * window / 4, threads), threads, 0, stream>>>(a, out);
      } else {
        rows_kernel<F, T, 1><<<blocks_for(job.src.B * window, threads), threads, 0, stream>>>(a, out);
      }
    });
    launched("cast_rows");
  });
}

void cast_token_rows(const CastJob& whole, void* dst, const CodeLayout& layout, cudaStream_t stream) {
  const std::int64_t window = layout.tokens * whole.src.H;
  if (window == 0) return;
  in_groups(whole, window, [&](const CastJob& job, std::int64_t first) {
    const CastArguments a = arguments(job, layout);
    auto* scales = const_cast<float*>(job.scales.scale);
    auto* zeros = const_cast<std::int32_t*>(job.scales.zero);
    const unsigned blocks = blocks_for(job.src.B * window * 32, threads);
    with_types(job.scheme.format, job.number, [&]<Format F, class T>() {
      T* out = static_cast<T*>(dst) + first * layout.b;
      if (by_four(a)) {
        token_rows_kernel<F, T, 4><<<blocks, threads, 0, stream>>>(a, scales, zeros, out);
      } else {
        token_rows_kernel<F, T, 1><<<blocks, threads, 0, stream>>>(a, scales, zeros, out);
      }
    });
    launched("cast_token_rows");
  });
}

void cast_transposed(const CastJob& job, void* dst, std::int64_t columns, std::int64_t tokens, std::int64_t block,
                     std::int64_t block_stride, Context& context) {
  const Source& s = job.src;
  context.clear(dst, static_cast<std::size_t>(s.B * s.H * columns * tokens) * size_of(job.number));
  if (s.B * s.H * s.T * s.D == 0) return;
  // Grid z ends at 65,535.
  in_groups(job, (std::int64_t{1} << 30) / std::max<std::int64_t>(1, 65535 / s.H), [&](const CastJob& part, std::int64_t first) {
    const CastArguments a = arguments(part, {});
    const dim3 grid(static_cast<unsigned>((s.T + tile - 1) / tile), static_cast<unsigned>((s.D + tile - 1) / tile),
                    static_cast<unsigned>(part.src.B * s.H));
    with_types(job.scheme.format, job.number, [&]<Format F, class T>() {
      transposed_kernel<F, T><<<grid, dim3(tile, 8), 0, context.stream()>>>(
          a, static_cast<T*>(dst) + first * s.H * columns * tokens, columns, tokens, block, block_stride);
    });
    launched("cast_transposed");
  });
}

}  // namespace qfid::kernels::gpu
