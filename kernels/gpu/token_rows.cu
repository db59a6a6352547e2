// Range, scale and cast in one pass where a row (a token of one head) is a granule.
#include "kernels/gpu/casts.cuh"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;
constexpr std::int64_t blocks_wanted = 4224;  // 32 on each of an H200's processors; more only where there are more series

struct RowScales {
  float* scale;
  std::int32_t* zero;  ///< may be null
  __device__ void set(std::int64_t granule, const ScaleZero& sz) const {
    scale[granule] = sz.scale;
    if (zero != nullptr) zero[granule] = sz.zero;
  }
};

/// Tokens of one window and head, by the blocks that share them: where the first lies, and how far apart they are.
template <class T>
struct Series {
  const float* x;
  T* dst;
  std::int64_t granule, x_step, granule_step;

  __device__ Series(const CastArguments& a, unsigned series, T* to) {
    const unsigned heads = static_cast<unsigned>(a.src.H);
    const std::int64_t b = series / heads, h = series % heads;
    x_step = a.src.H * a.src.D;
    x = a.src.x + b * a.src.T * x_step + h * a.src.D;
    dst = to + b * a.layout.b + h * a.layout.h;
    granule_step = a.scales.c2 * a.scales.c3;
    granule = b * a.scales.per_window + h * a.scales.c3;
  }
};

/// Lanes threads a row; each keeps its numbers, Packs times four of them, Lanes * 4 apart. Rows beyond T are zero.
template <Format F, class T, int Lanes, int Packs>
__global__ void __launch_bounds__(threads) held_rows_kernel(CastArguments a, unsigned parts, RowScales scales, T* dst) {
  constexpr unsigned rows = threads / Lanes;
  const Series<T> in(a, blockIdx.x / parts, dst);
  const unsigned lane = threadIdx.x % Lanes, mine = threadIdx.x % 32U / Lanes,
                 tokens = static_cast<unsigned>(a.layout.tokens);
  const int width = static_cast<int>(a.src.D), columns = static_cast<int>(a.layout.columns);
  Tally tally;
  for (unsigned first = blockIdx.x % parts * rows + threadIdx.x / 32U * (32U / Lanes); first < tokens;
       first += parts * rows) {
    const unsigned t = first + mine;
    const int here = t < a.src.T ? width : 0;
    Pack<float, 4> x[Packs];
    float low = 0, high = 0;
#pragma unroll
    for (int p = 0; p < Packs; ++p) {
      const int d = static_cast<int>(p * Lanes + lane) * 4;
      if (d >= here) continue;
      x[p] = *reinterpret_cast<const Pack<float, 4>*>(in.x + t * in.x_step + d);
#pragma unroll
      for (int n = 0; n < 4; ++n) widen(low, high, x[p].v[n]);
    }
    const ScaleZero sz = scale_for(-lanes_max<Lanes>(low), lanes_max<Lanes>(high), F, a.scale_rule, a.affine);
    if (lane == 0 && here > 0) scales.set(in.granule + t * in.granule_step, sz);
    if (t >= tokens) continue;
    const Divisor by(sz.scale);
#pragma unroll
    for (int p = 0; p < Packs; ++p) {
      const int d = static_cast<int>(p * Lanes + lane) * 4;
      if (d >= columns) continue;
      Pack<T, 4> codes{};
      if (d < here) {
#pragma unroll
        for (int n = 0; n < 4; ++n) codes.v[n] = stored<F, T>(x[p].v[n], by, sz.zero, a.rule, a.shifted, tally);
      }
      *reinterpret_cast<Pack<T, 4>*>(in.dst + t * a.layout.t + swizzled(d, t, a.layout.swizzle)) = codes;
    }
  }
  add_tally(a.tally, tally);
}

/// A warp a row of any width, read twice; N numbers at a time.
template <Format F, class T, int N>
__global__ void __launch_bounds__(threads) long_rows_kernel(CastArguments a, unsigned parts, RowScales scales, T* dst) {
  constexpr unsigned rows = threads / 32;
  const Series<T> in(a, blockIdx.x / parts, dst);
  const unsigned lane = threadIdx.x % 32U, tokens = static_cast<unsigned>(a.layout.tokens);
  Tally tally;
  for (unsigned t = blockIdx.x % parts * rows + threadIdx.x / 32U; t < tokens; t += parts * rows) {
    const float* x = in.x + t * in.x_step;
    const std::int64_t width = t < a.src.T ? a.src.D : 0;
    float low = 0, high = 0;
    for (std::int64_t d = lane * N; d < width; d += 32 * N) {
      const auto pack = *reinterpret_cast<const Pack<float, N>*>(x + d);
#pragma unroll
      for (int n = 0; n < N; ++n) widen(low, high, pack.v[n]);
    }
    const ScaleZero sz = scale_for(-lanes_max<32>(low), lanes_max<32>(high), F, a.scale_rule, a.affine);
    if (lane == 0 && width > 0) scales.set(in.granule + t * in.granule_step, sz);
    const Divisor by(sz.scale);
    for (std::int64_t d = lane * N; d < a.layout.columns; d += 32 * N) {
      Pack<T, N> codes{};
      if (d < width) {
        const auto pack = *reinterpret_cast<const Pack<float, N>*>(x + d);
#pragma unroll
        for (int n = 0; n < N; ++n) codes.v[n] = stored<F, T>(pack.v[n], by, sz.zero, a.rule, a.shifted, tally);
      }
      *reinterpret_cast<Pack<T, N>*>(in.dst + t * a.layout.t + swizzled(d, t, a.layout.swizzle)) = codes;
    }
  }
  add_tally(a.tally, tally);
}

/// A job's rows on the device: blocks for each window and head.
template <Format F, class T>
void run(const CastArguments& a, const RowScales& scales, T* dst, cudaStream_t stream) {
  const std::int64_t series = a.src.B * a.src.H;
  const auto launch = [&](auto kernel, int lanes) {
    const std::int64_t rows = threads / lanes, most = (a.layout.tokens + rows - 1) / rows;
    const std::int64_t parts = std::clamp<std::int64_t>((blocks_wanted + series - 1) / series, 1, most);
    kernel<<<static_cast<unsigned>(series * parts), threads, 0, stream>>>(a, static_cast<unsigned>(parts), scales, dst);
  };
  // Few threads a row: what is done once a row (scale, reciprocal) costs as much as several codes.
  if (!by_four(a)) return launch(long_rows_kernel<F, T, 1>, 32);
  if (a.layout.columns <= 64) return launch(held_rows_kernel<F, T, 8, 2>, 8);
  if (a.layout.columns <= 128) return launch(held_rows_kernel<F, T, 8, 4>, 8);
  if (a.layout.columns <= 512) return launch(held_rows_kernel<F, T, 16, 8>, 16);
  if (a.layout.columns <= 1536) return launch(held_rows_kernel<F, T, 32, 12>, 32);
  launch(long_rows_kernel<F, T, 4>, 32);
}

}  // namespace

void cast_token_rows(const CastJob& whole, void* dst, const CodeLayout& layout, cudaStream_t stream) {
  const std::int64_t window = layout.tokens * whole.src.H;
  if (window == 0) return;
  in_groups(whole, window, [&](const CastJob& job, std::int64_t first) {
    const RowScales scales{const_cast<float*>(job.scales.scale), const_cast<std::int32_t*>(job.scales.zero)};
    with_types(job.scheme.format, job.number, [&]<Format F, class T>() {
      run<F, T>(arguments(job, layout), scales, static_cast<T*>(dst) + first * layout.b, stream);
    });
    launched("cast_token_rows");
  });
}

}  // namespace qfid::kernels::gpu
