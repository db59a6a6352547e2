// The row passes of attention between its two products on blocks of `rows` x 64 scores that lie in cache: the same numbers
// as kernels/cpu/softmax.h, block by block. Sums of a row run in 16 lanes (lane = key mod 16) over all its blocks, so they
// are those of a row in one piece, whatever the blocks. Vectorized, the same bits on every ISA.
#pragma once

#include <cstdint>

#include "kernels/attention.h"
#include "kernels/cpu/block_product.h"

namespace qfid::kernels::cpu {

inline constexpr std::int64_t key_block = 64;  ///< keys of a block
inline constexpr std::int64_t row_lanes = 16;

/// Step 3 of the contract, in place: sums of the product (s32 or f32) become scores; -inf where masked.
struct ScoreBlock {
  std::int64_t rows;
  const float* sq;  ///< [rows]
  float c;
  const float* sk;             ///< [64]
  bool one_sk;                 ///< all of sk are one number
  const std::int32_t* excess;  ///< [64], taken from each integer sum: what A's offset added; or null
  std::int64_t visible;        ///< keys of the block that row 0 sees; may be below 0 or above `width`
  std::int64_t visible_step;   ///< by which each next row sees more: 1 (causal) or 0
  std::int64_t width;          ///< keys of the block that exist, at most 64
  const float* bias;           ///< additive mask of row 0, or null
  std::int64_t bias_step;      ///< from row to row
  const std::uint8_t* mask;    ///< 1 = valid, or null
  bool bf16_scores;
  float* top;  ///< [rows][16], raised to the block's largest scores by lane
};
/// Returns how many scores aren't -inf.
std::int64_t score_block(const ScoreBlock& block, std::int32_t* sums);
std::int64_t score_block(const ScoreBlock& block, float* sums);

/// Steps 4 and 5: E = exp(s - m), its sum, and P's codes as the second product takes them.
struct CodeBlock {
  std::int64_t rows;
  const float* scores;  ///< [rows][64]
  const float* m;       ///< [rows], finite: 0 of a row without a largest score, whose codes are then 0
  const ProbScheme* scheme;
  BlockType type;    ///< what p holds
  void* p;           ///< [rows], `ldp` elements apart, 64 written
  std::int64_t ldp;  ///< in elements
  float* sum;        ///< [rows][16], E added
  double* code_sum;  ///< [rows], values of the codes added in order of keys; null unless the scheme divides by it
  float* values;     ///< [rows][64] values of the codes, for a listener; or null
};
/// Returns how many of rows * 64 codes are 0.
std::int64_t code_block(const CodeBlock& block);

/// Step 6 of one row: out[c] = f32(sums[c]) * scales[c] / divisor.
void rescale(const std::int32_t* sums, const float* scales, float divisor, float* out, std::int64_t n);
void rescale(const float* sums, const float* scales, float divisor, float* out, std::int64_t n);

}  // namespace qfid::kernels::cpu
