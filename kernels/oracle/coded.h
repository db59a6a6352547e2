// The oracle of quantized attention: one head whose operands are already codes, in double, by the order of roundings of
// kernels/attention.h. What a kernel chose (codes of Q, K, V and P, stored scores) comes in; what must follow comes out.
// Rows are computed one at a time, so that a judge can change one scale and look at the rows it reaches.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace qfid::kernels::oracle {

/// Codes as the numbers they stand for, without scales; scales by row of Q, row of K, column of V.
struct CodedHead {
  std::int64_t q_len = 0, kv_len = 0, d = 0, dv = 0;
  std::vector<double> q, k, v;                    ///< [q_len, d], [kv_len, d], [kv_len, dv]
  std::vector<double> q_scale, k_scale, v_scale;  ///< [q_len], [kv_len], [dv]
  double scale = 1;                               ///< the softmax scale c
  std::vector<char> visible;                      ///< [q_len, kv_len], 1 = visible
  std::vector<double> bias;                       ///< additive mask [q_len, kv_len], or empty
  std::vector<double> sink;                       ///< the sink's logit by row [q_len], or empty
  double p_scale = 1;                             ///< a code of P stands for code / p_scale
  std::int64_t block = 0;                         ///< keys per block of a running reference; 0 = the row's maximum
  bool reverse = false;                           ///< blocks are visited from the last to the first
  bool quantized_sum = false;                     ///< the denominator sums codes / p_scale
};

struct CodedRow {
  std::int64_t visible = 0;             ///< keys this row sees; with none, all below is 0
  std::vector<double> score;            ///< exact, after the additive mask [kv_len]; 0 where masked
  std::vector<double> score_magnitude;  ///< sum_c |q_c k_c| times all scales [kv_len]
  std::vector<double> score_size;       ///< sqrt(sum_c (q_c k_c)^2) times all scales [kv_len]
  std::vector<double> e;                ///< exp(S - reference of the key's block): what is coded [kv_len]
  std::vector<double> prob;             ///< exp(S - maximum) / l [kv_len]
  double maximum = 0, l = 0, lse = 0;
  std::vector<double> output;     ///< before any gate [dv]
  std::vector<double> magnitude;  ///< sum_j |p_j||v_j|, scaled as the output is [dv]
  std::vector<double> size;       ///< sqrt(sum_j (p_j v_j)^2), scaled alike [dv]
};

/// p: the numbers of the row's P codes [kv_len]. stored: the scores as the kernel stored them, where storing rounds them;
/// empty = exact ones.
CodedRow coded_row(const CodedHead& head, std::int64_t i, std::span<const double> p, std::span<const double> stored = {});

}  // namespace qfid::kernels::oracle
