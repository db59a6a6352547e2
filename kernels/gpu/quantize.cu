// Casts with scales at hand, a thread for one or four numbers.
#include <algorithm>

#include "kernels/gpu/casts.cuh"
#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/quantize.h"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;
constexpr int tile = 32;

/// Few blocks, each going over several parts: a block adds its counts once, and adding to one address is what all wait for.
unsigned blocks_of_cast(std::int64_t n) { return std::min(blocks_for(n, threads), 4096U); }

/// The scale and zero point of one number.
struct ScaleAt {
  Divisor by;
  int zero;
  __device__ ScaleAt(const ScaleView& s, std::int64_t g)
      : by(s.scale == nullptr ? 1.0F : s.scale[g]), zero(s.zero == nullptr ? 0 : s.zero[g]) {}
};

/// N numbers a thread; one granule lookup for all of them unless scales change within a row.
template <Format F, class T, int N>
__global__ void rows_kernel(CastArguments a, T* dst) {
  // 32-bit counts: the launcher splits longer jobs.
  const unsigned groups = static_cast<unsigned>(a.layout.columns / N), heads = static_cast<unsigned>(a.src.H);
  const unsigned tokens = static_cast<unsigned>(a.layout.tokens);
  const unsigned total = static_cast<unsigned>(a.src.B) * tokens * heads * groups;
  const bool one = a.scales.scale == nullptr || a.scales.c3 == 1;
  Tally tally;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += gridDim.x * blockDim.x) {
    const unsigned row = i / groups, line = row / heads;
    const std::int64_t d = (i - row * groups) * N, h = row - line * heads, t = line % tokens, b = line / tokens;
    Pack<T, N> out{};
    if (t < a.src.T && d < a.src.D) {
      const float* x = a.src.x + ((b * a.src.T + t) * a.src.H + h) * a.src.D + d;
      Pack<float, N> in;
      if (N > 1) in = *reinterpret_cast<const Pack<float, N>*>(x);
      ScaleAt s(a.scales, a.scales.scale == nullptr ? 0 : granule(a.scales, b, t, h, d));
#pragma unroll
      for (int n = 0; n < N; ++n) {
        if (!one && n > 0) s = ScaleAt(a.scales, granule(a.scales, b, t, h, d + n));
        out.v[n] = stored<F, T>(N > 1 ? in.v[n] : x[n], s.by, s.zero, a.rule, a.shifted, tally);
      }
    }
    *reinterpret_cast<Pack<T, N>*>(dst + b * a.layout.b + t * a.layout.t + h * a.layout.h +
                                   swizzled(d, t, a.layout.swizzle)) = out;
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
    const ScaleAt s(a.scales, a.scales.scale == nullptr ? 0 : granule(a.scales, b, t, h, d));
    codes[i][threadIdx.x] =
        stored<F, T>(a.src.x[((b * a.src.T + t) * a.src.H + h) * a.src.D + d], s.by, s.zero, a.rule, a.shifted, tally);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < tile; i += static_cast<int>(blockDim.y)) {
    const std::int64_t t = t0 + threadIdx.x, d = d0 + i;
    if (t < a.src.T && d < a.src.D)
      dst[((b * a.src.H + h) * columns + d) * tokens + position(t, block, block_stride)] = codes[threadIdx.x][i];
  }
  add_tally(a.tally, tally);
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
        rows_kernel<F, T, 4><<<blocks_of_cast(job.src.B * window / 4), threads, 0, stream>>>(a, out);
      } else {
        rows_kernel<F, T, 1><<<blocks_of_cast(job.src.B * window), threads, 0, stream>>>(a, out);
      }
    });
    launched("cast_rows");
  });
}

void cast_transposed(const CastJob& job, void* dst, std::int64_t columns, std::int64_t tokens, std::int64_t block,
                     std::int64_t block_stride, Context& context) {
  const Source& s = job.src;
  if (columns != s.D || tokens != s.T)
    context.clear(dst, static_cast<std::size_t>(s.B * s.H * columns * tokens) * size_of(job.number));
  if (s.B * s.H * s.T * s.D == 0) return;
  // Grid z ends at 65,535.
  in_groups(job, (std::int64_t{1} << 30) / std::max<std::int64_t>(1, 65535 / s.H),
            [&](const CastJob& part, std::int64_t first) {
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
