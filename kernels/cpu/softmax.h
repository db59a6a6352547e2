// The row pass of attention between its two products: scale, bias, mask, maximum, exp, sum, codes of P. Vectorized, the same
// bits on every ISA.
#pragma once

#include <cstdint>

#include "kernels/attention.h"

namespace qfid::kernels::cpu {

/// s[j] = f32(acc[j]) * ((sq * sk[j]) * c), in place (acc and s share memory); then bf16 rounding, bias, mask (-inf).
/// `visible`: keys from here on are masked (causal). Returns the row's maximum (-inf when all is masked).
struct ScoreRow {
  float sq, c;
  const float* sk;           ///< [n]
  const float* bias;         ///< [n] or null
  const std::uint8_t* mask;  ///< [n], 1 = valid, or null
  bool bf16_scores;
};
float finish_scores(const std::int32_t* acc, float* s, std::int64_t n, std::int64_t visible, const ScoreRow& row);
float finish_scores(const float* acc, float* s, std::int64_t n, std::int64_t visible, const ScoreRow& row);

/// e[j] = exp(s[j] - m), 0 where s is -inf; returns the sum in f32 (16 lanes, folded in order).
float exp_row(const float* s, float m, float* e, std::int64_t n);
/// exp of one number, the same bits as exp_row.
float exp_one(float x);

/// Codes of e: `codes` receives u8, s8, e4m3, e5m2, bf16 or f32; returns how many are 0. `code_sum` receives sum code /
/// p_scale where the scheme divides by it (quantized_sum).
std::int64_t code_row(const float* e, std::int64_t n, const ProbScheme& scheme, void* codes, float* scratch,
                      float& code_sum);

/// dst = acc as f32 (added to dst when `add`).
void take_product(const std::int32_t* acc, float* dst, std::int64_t n, bool add);
void take_product(const float* acc, float* dst, std::int64_t n, bool add);

}  // namespace qfid::kernels::cpu
