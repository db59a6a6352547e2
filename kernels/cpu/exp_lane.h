// e^x in f32 without branches, for loops that the compiler vectorizes (quant/core/dispatch.h): the same bits on every ISA.
#pragma once

#include <bit>
#include <cstdint>

namespace qfid::kernels::cpu {

/// e^x for x <= 0 within 2 ulp; 0 below -87.33 (where e^x is subnormal), -inf included.
/// Cody-Waite reduction, Taylor polynomial of degree 7 on [-ln2/2, ln2/2].
__attribute__((always_inline)) inline float exp_lane(float x_in) {
  const bool gone = x_in < -87.33F;
  const float x = gone ? -87.33F : x_in;
  constexpr float magic = 12582912.0F;
  const float shifted = x * 1.44269504F + magic, n = shifted - magic;
  const float r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  float p = 1.0F / 5040;
  p = p * r + 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const float e = std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + (std::bit_cast<std::uint32_t>(shifted) << 23));
  return gone ? 0.0F : e;
}

/// e[i] = exp_lane(s[i] - m), i < n: step by step over all lanes, so that several registers' chains of operations run side
/// by side instead of one after the other.
template <int n>
__attribute__((always_inline)) inline void exp_lanes(const float* __restrict s, float m, float* __restrict e) {
  constexpr float magic = 12582912.0F;
  float x[n], shifted[n], r[n], p[n];
  for (int i = 0; i < n; ++i) x[i] = s[i] - m;
  for (int i = 0; i < n; ++i) r[i] = x[i] < -87.33F ? -87.33F : x[i];
  for (int i = 0; i < n; ++i) shifted[i] = r[i] * 1.44269504F + magic;
  for (int i = 0; i < n; ++i) p[i] = shifted[i] - magic;
  for (int i = 0; i < n; ++i) r[i] = (r[i] - p[i] * 0.693359375F) - p[i] * -2.12194440e-4F;
  for (int i = 0; i < n; ++i) p[i] = r[i] * (1.0F / 5040) + 1.0F / 720;
  for (int i = 0; i < n; ++i) p[i] = p[i] * r[i] + 1.0F / 120;
  for (int i = 0; i < n; ++i) p[i] = p[i] * r[i] + 1.0F / 24;
  for (int i = 0; i < n; ++i) p[i] = p[i] * r[i] + 1.0F / 6;
  for (int i = 0; i < n; ++i) p[i] = p[i] * r[i] + 0.5F;
  for (int i = 0; i < n; ++i) p[i] = p[i] * r[i] + 1.0F;
  for (int i = 0; i < n; ++i) p[i] = p[i] * r[i] + 1.0F;
  for (int i = 0; i < n; ++i)
    p[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(p[i]) + (std::bit_cast<std::uint32_t>(shifted[i]) << 23));
  for (int i = 0; i < n; ++i) e[i] = x[i] < -87.33F ? 0.0F : p[i];
}

}  // namespace qfid::kernels::cpu
