// V for the fused attention kernel: tiles of 128 keys, transposed in shared memory.
#include "kernels/gpu/casts.cuh"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256, keys = 128,
              pitch = keys + 4;  // an odd number of words: a column's bytes lie in different banks

/// A block a tile; a thread keeps one channel.
template <Format F, int D>
__global__ void __launch_bounds__(threads) tile_kernel(CastArguments a, unsigned tiles, uint4* dst) {
  __shared__ alignas(16) std::uint8_t codes[D * pitch];
  const unsigned head = blockIdx.x / tiles, tile = blockIdx.x - head * tiles;
  const std::int64_t b = head / a.src.H, h = head - b * a.src.H, t0 = static_cast<std::int64_t>(tile) * keys;
  const int d = static_cast<int>(threadIdx.x) % D;
  const bool inside = d < a.src.D;
  const std::int64_t g = inside && a.scales.scale != nullptr ? granule(a.scales, b, 0, h, d) : 0;
  const Divisor by(a.scales.scale == nullptr ? 1.0F : a.scales.scale[g]);
  const int zero = a.scales.zero == nullptr ? 0 : a.scales.zero[g];
  const float* x = a.src.x + ((b * a.src.T + t0) * a.src.H + h) * a.src.D + d;
  const int step = static_cast<int>(a.src.H * a.src.D);
  Tally tally;
  for (int word = static_cast<int>(threadIdx.x) / D; word < keys / 4; word += threads / D) {
    unsigned four = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // fused_position(key) is word * 4 + i
      const int key = word / 4 * 16 + i / 2 * 8 + word % 4 * 2 + i % 2;
      if (inside && t0 + key < a.src.T)
        four |= static_cast<unsigned>(stored<F, std::uint8_t>(x[key * step], by, zero, a.rule, a.shifted, tally)) << (8 * i);
    }
    *reinterpret_cast<unsigned*>(codes + d * pitch + word * 4) = four;
  }
  __syncthreads();
  uint4* out = dst + static_cast<std::int64_t>(blockIdx.x) * (D * keys / 16);
  for (int i = static_cast<int>(threadIdx.x); i < D * keys / 16; i += threads) {
    const int row = i / (keys / 16), piece = i % (keys / 16);
    const auto* words = reinterpret_cast<const unsigned*>(codes + row * pitch + piece * 16);
    out[swizzled(piece * 16, row, keys) / 16 + row * (keys / 16)] = make_uint4(words[0], words[1], words[2], words[3]);
  }
  add_tally(a.tally, tally);
}

}  // namespace

void cast_value_tiles(const CastJob& job, void* dst, int D, cudaStream_t stream) {
  const unsigned tiles = static_cast<unsigned>((job.src.T + keys - 1) / keys);
  const auto blocks = static_cast<unsigned>(job.src.B * job.src.H * tiles);
  if (blocks == 0) return;
  const CastArguments a = arguments(job, {});
  const auto run = [&]<Format F>() {
    if (D == 64) tile_kernel<F, 64><<<blocks, threads, 0, stream>>>(a, tiles, static_cast<uint4*>(dst));
    if (D == 128) tile_kernel<F, 128><<<blocks, threads, 0, stream>>>(a, tiles, static_cast<uint4*>(dst));
  };
  if (job.scheme.format == Format::int8) run.template operator()<Format::int8>();
  if (job.scheme.format == Format::e4m3) run.template operator()<Format::e4m3>();
  launched("cast_value_tiles");
}

}  // namespace qfid::kernels::gpu
