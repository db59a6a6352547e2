// Neighbours that are loaded and stored together.
#pragma once

namespace qfid::kernels::gpu {

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

}  // namespace qfid::kernels::gpu
