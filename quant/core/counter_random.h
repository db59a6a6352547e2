// Random numbers that need no state: the n-th of a stream, without those before it, so that an element's number depends on
// where it is and not on who computes it when. SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
// generators"): the mix of key + (n + 1) * golden ratio is its n-th output when seeded with `key`.
#pragma once

#include <cstdint>

namespace qfid::quant {

constexpr std::uint64_t counter_random(std::uint64_t key, std::uint64_t n) {
  std::uint64_t z = key + (n + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

}  // namespace qfid::quant
