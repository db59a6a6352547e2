// Seeded, portable random numbers: the same seed gives the same values with every compiler and library (the standard
// library's distributions promise no such thing). Engine: std::mt19937_64, whose output the standard fixes.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>

namespace qfid::quant {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t bits() { return engine_(); }
  /// Uniform in [0, 1) with 53 random bits.
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  /// Uniform integer in [0, n), n > 0, unbiased by rejection.
  std::uint64_t below(std::uint64_t n) {
    const std::uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    std::uint64_t value = engine_();
    while (value >= limit) value = engine_();
    return value % n;
  }
  /// Standard normal (Box and Muller 1958).
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace qfid::quant
