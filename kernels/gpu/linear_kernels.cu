#include "kernels/gpu/activations.cuh"
#include "kernels/gpu/launch.cuh"
#include "kernels/gpu/linear_kernels.h"
#include "kernels/gpu/pack.cuh"

namespace qfid::kernels::gpu {

namespace {

constexpr int threads = 256;

template <class Acc>
__device__ float finished(const EpilogueJob& j, Acc acc, float sx, std::int32_t correction, std::int64_t o) {
  if (correction != 0) acc += static_cast<Acc>(correction * j.colsum[o]);
  return static_cast<float>(acc) * (sx * j.sw[o]) + j.bias[o];
}

/// What an epilogue does behind the bias: ReLU, the others (a switch a number), or nothing.
enum class Tail : std::uint8_t { none, relu, other };

template <Tail tail>
__device__ float behind(float y, Activation kind) {
  if constexpr (tail == Tail::relu) return relu(y);
  if constexpr (tail == Tail::other) return activated(y, kind);
  return y;
}

template <class Acc, int N, Tail tail>
__global__ void epilogue_kernel(EpilogueJob j, Activation kind) {
  // A chunk's accumulators fit 32-bit counts.
  const unsigned groups = static_cast<unsigned>(j.out / N), n = static_cast<unsigned>(j.rows) * groups;
  const unsigned tokens = static_cast<unsigned>(j.tokens);
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const unsigned r = i / groups, o = i % groups * N, row = static_cast<unsigned>(j.first_row) + r;
    const std::int64_t g = row / tokens * j.x.per_window + row % tokens / static_cast<unsigned>(j.x.s1);
    const float sx = j.x.scale == nullptr ? 1.0F : j.x.scale[g];
    const std::int32_t z = j.x.zero == nullptr ? 0 : j.x.zero[g];
    const Acc* acc = static_cast<const Acc*>(j.acc) + static_cast<std::int64_t>(r) * j.ld + o;
    const std::int64_t at = static_cast<std::int64_t>(row) * j.out + o;
    const auto a = *reinterpret_cast<const Pack<Acc, N>*>(acc);
    Pack<float, N> out;
#pragma unroll
    for (int k = 0; k < N; ++k) out.v[k] = behind<tail>(finished(j, a.v[k], sx, j.shift - z, o + k), kind);
    *reinterpret_cast<Pack<float, N>*>(j.dst + at) = out;
    if (j.residual == nullptr) continue;
    const auto residual = *reinterpret_cast<const Pack<float, N>*>(j.residual + at);
#pragma unroll
    for (int k = 0; k < N; ++k) out.v[k] = residual.v[k] + out.v[k];
    *reinterpret_cast<Pack<float, N>*>(j.sum + at) = out;
  }
}

__global__ void transpose_kernel(ScaleRows j, float* dst) {
  const unsigned ld = static_cast<unsigned>(j.ld), n = static_cast<unsigned>(j.groups) * ld;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const std::int64_t g = i / ld, r = i % ld, row = j.first + r;
    dst[i] = r < j.rows ? j.scales.scale[row / j.tokens * j.scales.per_window + row % j.tokens * j.groups + g] : 1.0F;
  }
}

template <class Acc, int N>
void run(const EpilogueJob& j, cudaStream_t stream) {
  const unsigned blocks = blocks_for(j.rows * j.out / N, threads);
  const Activation kind = j.activation.value_or(Activation::relu);
  if (!j.activation)
    epilogue_kernel<Acc, N, Tail::none><<<blocks, threads, 0, stream>>>(j, kind);
  else if (kind == Activation::relu)
    epilogue_kernel<Acc, N, Tail::relu><<<blocks, threads, 0, stream>>>(j, kind);
  else
    epilogue_kernel<Acc, N, Tail::other><<<blocks, threads, 0, stream>>>(j, kind);
}

}  // namespace

void scale_and_bias(const EpilogueJob& j, cudaStream_t stream) {
  if (j.rows * j.out == 0) return;
  const bool four = j.out % 4 == 0 && reinterpret_cast<std::uintptr_t>(j.residual) % 16 == 0;
  const bool integer = j.number == Number::s32;
  if (integer && four) run<std::int32_t, 4>(j, stream);
  if (integer && !four) run<std::int32_t, 1>(j, stream);
  if (!integer && four) run<float, 4>(j, stream);
  if (!integer && !four) run<float, 1>(j, stream);
  launched("scale_and_bias");
}

void transpose_scales(const ScaleRows& j, float* dst, cudaStream_t stream) {
  transpose_kernel<<<blocks_for(j.groups * j.ld, threads), threads, 0, stream>>>(j, dst);
  launched("transpose_scales");
}

}  // namespace qfid::kernels::gpu
