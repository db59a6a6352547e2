#include "kernels/cpu/pair_product.h"

#include <immintrin.h>

#include <cstring>

#include "quant/core/dispatch.h"

namespace qfid::kernels::cpu {

namespace {

constexpr std::int64_t tile_columns = 16;  // two registers of 8 sums
constexpr int tile_rows = 6;               // 12 sums, 2 of b, 1 of a, 1 product: all 16 registers

/// `rows` x 16 sums over all of K stay in registers.
template <int rows>
__attribute__((target("avx2"))) void tile(const PairProduct& p, const std::int16_t* a, const std::int16_t* b,
                                          std::int32_t* c) {
  __m256i sum[rows][2];
  for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  for (std::int64_t k = 0; k < p.K; k += 2, b += 2 * p.N) {
    const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
    const __m256i right = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + tile_columns));
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      std::int32_t pair;
      std::memcpy(&pair, a + r * p.lda + k, sizeof pair);
      const __m256i both = _mm256_set1_epi32(pair);
      sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(both, left));
      sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(both, right));
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
    for (int half = 0; half < 2; ++half) {
      auto* at = reinterpret_cast<__m256i*>(c + r * p.ldc + half * (tile_columns / 2));
      _mm256_storeu_si256(at, p.add ? _mm256_add_epi32(_mm256_loadu_si256(at), sum[r][half]) : sum[r][half]);
    }
}

using Tile = void (*)(const PairProduct&, const std::int16_t*, const std::int16_t*, std::int32_t*);
constexpr Tile tiles[tile_rows] = {tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>};

}  // namespace

bool has_pair_products() { return quant::best_isa() >= quant::Isa::avx2; }

void PairProduct::run(std::int64_t M, const std::int16_t* a, const std::int16_t* b, std::int32_t* c) const {
  for (std::int64_t n = 0; n < N; n += tile_columns)
    for (std::int64_t m = 0; m < M; m += tile_rows)
      tiles[(M - m < tile_rows ? M - m : tile_rows) - 1](*this, a + m * lda, b + 2 * n, c + m * ldc + n);
}

}  // namespace qfid::kernels::cpu
