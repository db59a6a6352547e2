// The activations of kernels/backend.h: in double, rounded once, where they aren't exact in f32.
#pragma once

#include <cfloat>
#include <cmath>

#include "kernels/backend.h"

namespace qfid::kernels::gpu {

__device__ inline float relu(float x) { return x > 0.0F ? x : (x == x ? 0.0F : x); }

__device__ inline float activated(float x, Activation kind) {
  const double v = x;
  constexpr double sqrt2 = 1.41421356237309504880, pi = 3.14159265358979323846;
  switch (kind) {
    case Activation::relu:
      return relu(x);
    case Activation::gelu_erf:
      return static_cast<float>(0.5 * v * (1 + erf(v * sqrt2 / 2)));
    case Activation::gelu_tanh:
      return static_cast<float>(0.5 * v * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 * v * v * v))));
    case Activation::silu:
      return static_cast<float>(v / (1 + exp(-v)));
  }
  return x;
}

}  // namespace qfid::kernels::gpu
