// Where two rows of probabilities end: masked keys add nothing to any sum over them, and under a causal mask they are half.
#pragma once

#include <bit>
#include <cstdint>

namespace qfid::kernels::host {

/// No bit but the sign's is set.
struct Blank {
  __attribute__((always_inline)) bool operator()(const float* x, std::int64_t n) const {
    std::uint32_t bits = 0;
    for (std::int64_t i = 0; i < n; ++i) bits |= std::bit_cast<std::uint32_t>(x[i]);
    return (bits & 0x7FFFFFFFU) == 0;
  }
};

/// Length without the keys at the end that are 0 in both rows: masked keys, which add nothing.
struct SeenKeys {
  __attribute__((always_inline)) std::int64_t operator()(const float* p, const float* q, std::int64_t n) const {
    constexpr std::int64_t step = 32;
    while (n >= step && Blank{}(p + n - step, step) && Blank{}(q + n - step, step)) n -= step;
    while (n > 0 && p[n - 1] == 0.0F && q[n - 1] == 0.0F) --n;
    return n;
  }
};

}  // namespace qfid::kernels::host
