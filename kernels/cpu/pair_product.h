// INT8 products of CPUs without VNNI: codes as s16, two keys or channels a time (vpmaddwd), summed in s32. Exact: no pair
// sum of two products of codes within [-128, 255] leaves s32, where vpmaddubsw would saturate its s16. Twice as many
// multiplications an instruction as f32.
#pragma once

#include <cstdint>

namespace qfid::kernels::cpu {

/// Whether this CPU has the instructions (AVX2).
bool has_pair_products();

/// c[M, N] (+)= a[M, K] b[K, N], one thread. K even, N a multiple of 16.
struct PairProduct {
  std::int64_t K, N;
  std::int64_t lda, ldc;  ///< in elements
  bool add;
  /// a: s16, row-major. b: s16 [K/2][N][2], 4-byte aligned. c: s32.
  void run(std::int64_t M, const std::int16_t* a, const std::int16_t* b, std::int32_t* c) const;
};

}  // namespace qfid::kernels::cpu
