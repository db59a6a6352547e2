#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/linear_kernels.h"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;

template <class Acc>
__device__ float finished(const EpilogueJob& j, Acc acc, float sx, std::int32_t correction, std::int64_t o) {
  if (correction != 0) acc += static_cast<Acc>(correction * j.colsum[o]);
  return static_cast<float>(acc) * (sx * j.sw[o]) + j.bias[o];
}

template <class Acc>
struct alignas(16) Four {
  Acc v[4];
};

template <class Acc, int N>
__global__ void epilogue_kernel(EpilogueJob j) {
  // A chunk's accumulators fit 32-bit counts.
  const unsigned groups = static_cast<unsigned>(j.out / N), n = static_cast<unsigned>(j.rows) * groups;
  const unsigned tokens = static_cast<unsigned>(j.tokens);
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const unsigned r = i / groups, o = i % groups * N, row = static_cast<unsigned>(j.first_row) + r;
    const std::int64_t g = row / tokens * j.x.per_window + row % tokens / static_cast<unsigned>(j.x.s1);
    const float sx = j.x.scale == nullptr ? 1.0F : j.x.scale[g];
    const std::int32_t z = j.x.zero == nullptr ? 0 : j.x.zero[g];
    const Acc* acc = static_cast<const Acc*>(j.acc) + static_cast<std::int64_t>(r) * j.ld + o;
    float* dst = j.dst + static_cast<std::int64_t>(row) * j.out + o;
    if constexpr (N == 4) {
      const auto a = *reinterpret_cast<const Four<Acc>*>(acc);
      Four<float> out;
#pragma unroll
      for (int k = 0; k < 4; ++k) out.v[k] = finished(j, a.v[k], sx, j.shift - z, o + k);
      *reinterpret_cast<Four<float>*>(dst) = out;
    } else {
      dst[0] = finished(j, acc[0], sx, j.shift - z, o);
    }
  }
}

}  // namespace

void scale_and_bias(const EpilogueJob& j, cudaStream_t stream) {
  if (j.rows * j.out == 0) return;
  const bool four = j.out % 4 == 0;
  const unsigned blocks = blocks_for(j.rows * j.out / (four ? 4 : 1), threads);
  const bool integer = j.number == Number::s32;
  if (integer && four) epilogue_kernel<std::int32_t, 4><<<blocks, threads, 0, stream>>>(j);
  if (integer && !four) epilogue_kernel<std::int32_t, 1><<<blocks, threads, 0, stream>>>(j);
  if (!integer && four) epilogue_kernel<float, 4><<<blocks, threads, 0, stream>>>(j);
  if (!integer && !four) epilogue_kernel<float, 1><<<blocks, threads, 0, stream>>>(j);
  launched("scale_and_bias");
}

}  // namespace qfid::kernels::gpu
