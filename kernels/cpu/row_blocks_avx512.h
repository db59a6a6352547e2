// The row passes of kernels/cpu/row_blocks.h in AVX-512, written out: what a compiler makes of the plain loops spends a
// third of its instructions on narrowing codes and counting zeros. The same numbers, bit for bit. The CPU must have what
// quant::Isa::avx512 names.
#pragma once

#include "kernels/cpu/row_blocks.h"

namespace qfid::kernels::cpu {

/// Whether these do the block: scores without bias, key mask and bf16 rounding; codes that no listener and no quantized sum
/// asks for, in any type but s16 pairs.
bool has_avx512(const ScoreBlock& block);
bool has_avx512(const CodeBlock& block);

/// As score_block() and code_block().
std::int64_t score_block_avx512(const ScoreBlock& block, std::int32_t* sums);
std::int64_t score_block_avx512(const ScoreBlock& block, float* sums);
std::int64_t code_block_avx512(const CodeBlock& block);

}  // namespace qfid::kernels::cpu
