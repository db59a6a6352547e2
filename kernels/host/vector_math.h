// exp and log in double without branches, for loops that the compiler vectorizes (quant/core/dispatch.h): relative error
// below 4e-16 on the ranges used, the same bits on every ISA (fused multiply-adds are asked for by name; a CPU without them
// computes the same, slowly). Sources: range reduction after Cody and Waite 1980; the log series is that of atanh.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace qfid::kernels::host {

inline constexpr double least_log = -700;

/// e^x for x <= 700; results below e^least_log are that.
__attribute__((always_inline)) inline double exp_lane(double x) {
  x = x < least_log ? least_log : x;
  constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52: the sum's low bits are the nearest integer
  const double shifted = std::fma(x, 1.4426950408889634, magic);
  const double n = shifted - magic;
  const double r = std::fma(n, -1.90821492927058770002e-10, std::fma(n, -6.93147180369123816490e-01, x));
  double p = 1.0 / 479001600;
  p = std::fma(p, r, 1.0 / 39916800);
  p = std::fma(p, r, 1.0 / 3628800);
  p = std::fma(p, r, 1.0 / 362880);
  p = std::fma(p, r, 1.0 / 40320);
  p = std::fma(p, r, 1.0 / 5040);
  p = std::fma(p, r, 1.0 / 720);
  p = std::fma(p, r, 1.0 / 120);
  p = std::fma(p, r, 1.0 / 24);
  p = std::fma(p, r, 1.0 / 6);
  p = std::fma(p, r, 0.5);
  p = std::fma(p, r, 1.0);
  p = std::fma(p, r, 1.0);
  return std::bit_cast<double>(std::bit_cast<std::uint64_t>(p) + (std::bit_cast<std::uint64_t>(shifted) << 52));
}

/// ln x for finite normal x > 0.
__attribute__((always_inline)) inline double log_lane(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const double raw = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL);  // [1, 2)
  const bool high = raw > 1.4142135623730951;
  const double m = high ? raw * 0.5 : raw;
  // The exponent field as a number: placed in the mantissa of 2^52.
  const double field = std::bit_cast<double>((bits >> 52) | 0x4330000000000000ULL) - 4503599627370496.0;
  const double exponent = field - (high ? 1022.0 : 1023.0);
  const double f = m - 1.0, s = f / (f + 2.0), z = s * s;
  double p = 1.0 / 23;
  p = std::fma(p, z, 1.0 / 21);
  p = std::fma(p, z, 1.0 / 19);
  p = std::fma(p, z, 1.0 / 17);
  p = std::fma(p, z, 1.0 / 15);
  p = std::fma(p, z, 1.0 / 13);
  p = std::fma(p, z, 1.0 / 11);
  p = std::fma(p, z, 1.0 / 9);
  p = std::fma(p, z, 1.0 / 7);
  p = std::fma(p, z, 1.0 / 5);
  p = std::fma(p, z, 1.0 / 3);
  return std::fma(exponent, 0.6931471805599453, std::fma(s * z, p * 2.0, s * 2.0));
}

/// e^d - 1 - d for |d| <= 1/4 without cancellation: its Taylor series, relative error below 1e-15.
__attribute__((always_inline)) inline double exp_minus_tangent_lane(double d) {
  double p = 2.0 / 479001600;
  p = std::fma(p, d, 2.0 / 39916800);
  p = std::fma(p, d, 2.0 / 3628800);
  p = std::fma(p, d, 2.0 / 362880);
  p = std::fma(p, d, 2.0 / 40320);
  p = std::fma(p, d, 2.0 / 5040);
  p = std::fma(p, d, 2.0 / 720);
  p = std::fma(p, d, 2.0 / 120);
  p = std::fma(p, d, 2.0 / 24);
  p = std::fma(p, d, 2.0 / 6);
  p = std::fma(p, d, 1.0);
  return p * d * d * 0.5;
}

}  // namespace qfid::kernels::host
