// e^x in f32 without branches, for loops that the compiler vectorizes (quant/core/dispatch.h): the same bits on every ISA
// (fused multiply-adds are asked for by name; a CPU without them computes the same, slowly).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace qfid::kernels::cpu {

/// e^x for x <= 0 within 1 ulp; 0 below -87.33 (where e^x is subnormal), -inf included; NaN for NaN, whatever its payload.
/// Cody-Waite reduction, Taylor polynomial of degree 7 on [-ln2/2, ln2/2].
__attribute__((always_inline)) inline float exp_lane(float x_in) {
  constexpr float magic = 12582912.0F;
  const bool gone = x_in < -87.33F;
  const float x = gone ? -87.33F : x_in;
  const float shifted = std::fma(x, 1.44269504F, magic), n = shifted - magic;
  const float r = std::fma(n, 2.12194440e-4F, std::fma(n, -0.693359375F, x));
  float p = std::fma(r, 1.0F / 5040, 1.0F / 720);
  p = std::fma(p, r, 1.0F / 120);
  p = std::fma(p, r, 1.0F / 24);
  p = std::fma(p, r, 1.0F / 6);
  p = std::fma(p, r, 0.5F);
  p = std::fma(p, r, 1.0F);
  p = std::fma(p, r, 1.0F);
  const float e = std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + (std::bit_cast<std::uint32_t>(shifted) << 23));
  return x_in != x_in ? x_in : gone ? 0.0F : e;
}

}  // namespace qfid::kernels::cpu
