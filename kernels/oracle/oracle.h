// The oracle: attention, linears and comparisons of logits in double, straight from their definitions, sharing no code with
// the kernels. Slow, and used only to judge them. Fed either with real numbers (full precision) or with the numbers that
// codes stand for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/reductions.h"

namespace qfid::kernels::oracle {

/// One head. q [q_len, d], k [kv_len, d], v [kv_len, dv], row-major. Gates empty = none. mask[i][j] as one flat vector,
/// 1 = visible. sink: NaN = none.
struct Head {
  std::int64_t q_len, kv_len, d, dv;
  std::vector<double> q, k, v;
  std::vector<char> visible;
  double scale;
  double sink;
  std::vector<double> bias;         ///< additive mask [q_len, kv_len], or empty
  std::vector<double> value_gate;   ///< [kv_len], scales V
  std::vector<double> output_gate;  ///< [q_len], scales O
};
struct HeadResult {
  std::vector<double> output;     ///< [q_len, dv]
  std::vector<double> probs;      ///< [q_len, kv_len]
  std::vector<double> magnitude;  ///< sum_j p_ij |v_j|, [q_len, dv]: what rounding errors are measured in
  std::vector<double>
      score_magnitude;  ///< largest over visible keys of sum_c |q_c k_c| scale + |bias|, at least |sink|, [q_len]
};
HeadResult attention(const Head& head);

/// x [rows, in], w [out, in], bias [out] or empty -> [rows, out].
std::vector<double> linear(const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& bias,
                           std::int64_t rows, std::int64_t in, std::int64_t out);

/// One row of Reductions::compare_logits, each field from its definition.
TokenComparison compare_logits(std::span<const float> base, std::span<const float> test, std::int32_t target);

}  // namespace qfid::kernels::oracle
