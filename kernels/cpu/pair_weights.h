// INT8 linears on CPUs without VNNI: weights as s16 pairs, packed once, multiplied by kernels/cpu/pair_product.h. Exact, as
// the f32 route in K blocks is, at half its memory, and 1.6 to 3.5 times its speed with AVX2 (with
// AVX-512 but no VNNI, which multiplies f32 twice as wide, nobody measured it).
#pragma once

#include <cstdint>
#include <vector>

#include "quant/core/tensor.h"

namespace qfid::kernels::cpu {

/// Whether linears take this route: the CPU has the instructions, and no test has forced a lower path.
bool takes_pair_weights();

class PairWeights {
 public:
  /// codes: s8 [out, in].
  PairWeights(const quant::Tensor& codes, std::int64_t out, std::int64_t in);

  /// One thread's memory.
  struct Workspace {
    std::vector<std::int16_t> src;
    std::vector<std::int32_t> part;
  };
  /// acc[r, o] = sum over k of codes[first + r, k] * weight[o, k], exact; codes: u8 or s8 [*, in].
  void run(const quant::Tensor& codes, std::int64_t first, std::int64_t rows, Workspace& work, std::int32_t* acc) const;

 private:
  std::int64_t out_, in_;
  std::int64_t depth_;                ///< in, rounded up to a pair
  std::vector<std::int16_t> packed_;  ///< [strips of 16 outputs][depth / 2][16][2]
};

}  // namespace qfid::kernels::cpu
