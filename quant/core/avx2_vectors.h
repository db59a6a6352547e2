// Vectors by name, for sums that GCC doesn't keep in registers by itself: called where current_isa() is AVX2 or more.
#pragma once

#include <cstring>

namespace qfid::quant {

struct Avx2 {
  using Singles = float __attribute__((vector_size(16)));
  using Doubles = double __attribute__((vector_size(32)));

  /// Aligned as T is.
  template <class V, class T>
  __attribute__((target("avx2"), always_inline)) static V load(const T* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
  }
  template <class V, class T>
  __attribute__((target("avx2"), always_inline)) static void store(const V& v, T* to) {
    std::memcpy(to, &v, sizeof v);
  }
  /// Four numbers in double.
  __attribute__((target("avx2"), always_inline)) static Doubles wide(const float* x) {
    return __builtin_convertvector(load<Singles>(x), Doubles);
  }
};

}  // namespace qfid::quant
