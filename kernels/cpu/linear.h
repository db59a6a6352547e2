// A linear of the cpu backend: what its files share.
#pragma once

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/strip_weights.h"

namespace qfid::kernels::cpu {

class CpuLinear : public PreparedLinear {
 public:
  static constexpr std::int64_t row_block = StripWeights::row_block;

  CpuLinear(const LinearProblem& problem, const LinearWeights& weights, const Isa& isa, BlockCache& cache);

  const LinearProblem& problem() const override { return problem_; }
  std::string implementation() const override;

  LinearProblem problem_;
  std::vector<quant::Range> ranges;
  ProductTypes types{};
  bool emulated = false, scaled = false, has_bias = false;
  std::vector<float> bias, scale;
  std::vector<std::int32_t> colsum;                    ///< of integers
  std::unique_ptr<StripWeights> strips;                ///< where there are block products
  std::vector<std::unique_ptr<PackedWeights>> packed;  ///< else: one, or one for each K block of the exact f32 route

 private:
  void pack_strips(const quant::Tensor& codes, const Isa& isa, BlockCache& cache);
  void pack_primitives(const quant::Tensor& codes);
};

/// What a call multiplies: rows of x, `tokens` to a window. `raw`: the bytes of its codes or numbers; x.codes is empty for
/// f32, whose numbers are read where they are.
struct LinearSource {
  const host::Operand& x;
  const std::byte* raw;
  std::int64_t rows, tokens;
  float scale(std::int64_t row) const { return x.scale_at(row / tokens, row % tokens, 0); }
  std::int32_t zero(std::int64_t row) const { return x.zero_at(row / tokens, row % tokens, 0); }
};

/// dst [rows, out] and, where the tail has a residual, sum, by strips: tail included. memory: of each thread.
void multiply_in_strips(CpuLinear& linear, const LinearSource& src, const LinearTail& tail, std::vector<StripMemory>& memory,
                        float* dst, float* sum);
/// dst by oneDNN's matmul primitives, without a tail.
void multiply_by_primitives(CpuLinear& linear, const LinearSource& src, float* dst);

}  // namespace qfid::kernels::cpu
