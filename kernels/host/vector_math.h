// exp and log in double without branches, for loops that the compiler vectorizes (quant/core/dispatch.h): relative error
// below 4e-16 on the ranges used, the same bits on every ISA (fused multiply-adds are asked for by name; a CPU without them
// computes the same, slowly). Sources: range reduction after Cody and Waite 1980; the log series is that of atanh.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace qfid::kernels::host {

inline constexpr double least_log = -700;

/// Coefficients, the highest power's first, and constants, of this file and of vector_math_avx512.h.
struct ExpConstants {
  static constexpr double magic = 6755399441055744.0;  ///< 1.5 * 2^52: the sum's low bits are the nearest integer
  static constexpr double log2_e = 1.4426950408889634, ln2_high = 6.93147180369123816490e-01,
                          ln2_low = 1.90821492927058770002e-10;
  static constexpr double terms[] = {
      1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
      1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0};
};
struct LogConstants {
  static constexpr double ln2 = 0.6931471805599453, sqrt2 = 1.4142135623730951;
  static constexpr double two52 = 4503599627370496.0;
  static constexpr std::uint64_t two52_bits = 0x4330000000000000, mantissa = 0x000FFFFFFFFFFFFF,
                                 one_bits = 0x3FF0000000000000;
  /// Of z = s^2 behind 1 in atanh(s) / s.
  static constexpr double terms[] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                     1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
};
struct TangentConstants {
  static constexpr double terms[] = {2.0 / 479001600, 2.0 / 39916800, 2.0 / 3628800, 2.0 / 362880, 2.0 / 40320, 2.0 / 5040,
                                     2.0 / 720,       2.0 / 120,      2.0 / 24,      2.0 / 6,      1.0};
};

/// ((t[0] x + t[1]) x + ...) + t[n - 1]: unrolled, so that the loop around it is what the compiler vectorizes.
template <std::size_t n, std::size_t... i>
__attribute__((always_inline)) inline double polynomial(const double (&terms)[n], double x, std::index_sequence<i...>) {
  double p = terms[0];
  ((p = std::fma(p, x, terms[i + 1])), ...);
  return p;
}
template <std::size_t n>
__attribute__((always_inline)) inline double polynomial(const double (&terms)[n], double x) {
  return polynomial(terms, x, std::make_index_sequence<n - 1>{});
}

/// e^x for x <= 700; results below e^least_log are that.
__attribute__((always_inline)) inline double exp_lane(double x) {
  using C = ExpConstants;
  x = x < least_log ? least_log : x;
  const double shifted = std::fma(x, C::log2_e, C::magic);
  const double n = shifted - C::magic;
  const double r = std::fma(n, -C::ln2_low, std::fma(n, -C::ln2_high, x));
  const double p = polynomial(C::terms, r);
  return std::bit_cast<double>(std::bit_cast<std::uint64_t>(p) + (std::bit_cast<std::uint64_t>(shifted) << 52));
}

/// ln x for finite normal x > 0.
__attribute__((always_inline)) inline double log_lane(double x) {
  using C = LogConstants;
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const double raw = std::bit_cast<double>((bits & C::mantissa) | C::one_bits);  // [1, 2)
  const bool high = raw > C::sqrt2;
  const double m = high ? raw * 0.5 : raw;
  // The exponent field as a number: placed in the mantissa of 2^52.
  const double field = std::bit_cast<double>((bits >> 52) | C::two52_bits) - C::two52;
  const double exponent = field - (high ? 1022.0 : 1023.0);
  const double f = m - 1.0, s = f / (f + 2.0), z = s * s;
  const double p = polynomial(C::terms, z);
  return std::fma(exponent, C::ln2, std::fma(s * z, p * 2.0, s * 2.0));
}

/// e^d - 1 - d for |d| <= 1/4 without cancellation: its Taylor series, relative error below 1e-15.
__attribute__((always_inline)) inline double exp_minus_tangent_lane(double d) {
  return polynomial(TangentConstants::terms, d) * d * d * 0.5;
}

}  // namespace qfid::kernels::host
