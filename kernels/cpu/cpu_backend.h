// The cpu backend's inside: what its files share.
#pragma once

#include "kernels/cpu/backend.h"
#include "kernels/cpu/block_product.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/panel_memory.h"
#include "kernels/host/host_backend.h"
#include "kernels/host/operands.h"

namespace qfid::kernels::cpu {

class CpuBackend : public host::HostBackend {
 public:
  CpuBackend() : isa_(effective_isa()) {}
  BackendInfo info() const override;
  Support available() const override { return {}; }
  Support supports(const LinearProblem& problem) const override;
  Support supports(const AttentionProblem& problem) const override;
  std::unique_ptr<PreparedLinear> prepare(const LinearProblem& problem, const LinearWeights& weights) override;
  DeviceTensor linear(PreparedLinear& prepared, const DeviceTensor& src, quant::CodeCounts* counts) override;
  LinearResult linear_then(PreparedLinear& prepared, const DeviceTensor& src, const LinearTail& tail) override;
  std::unique_ptr<PreparedAttention> prepare(const AttentionProblem& problem, const AttentionRanges& ranges) override;
  AttentionResult attention(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* sink) override;

 private:
  /// Codes of the last input a linear quantized: q, k and v read the same one. Holding `src` keeps its memory from reuse.
  struct LastOperand {
    DeviceTensor src;
    quant::QuantScheme scheme;
    std::vector<quant::Range> ranges;
    std::shared_ptr<const host::Operand> operand;
  };
  std::shared_ptr<const host::Operand> quantized(const DeviceTensor& src, const quant::QuantScheme& scheme,
                                                 const std::vector<quant::Range>& ranges);

  Isa isa_;
  GemmCache cache_;
  BlockCache blocks_;
  PanelMemory memory_;
  std::vector<StripMemory> strips_;  ///< of linears, by thread
  LastOperand last_;
};

/// What the operands of a product are stored in: integers stay codes (s8, u8) where VNNI makes their products exact, and are
/// f32 numbers below; FP8 and bf16 codes expand exactly to bf16 where AMX makes it fast, to f32 elsewhere or beside f32.
/// Emulated: dequantized numbers in f32.
struct ProductTypes {
  DataType a, b, accumulator;
  /// Exact f32 route: K blocks of at most 512, summed in s32; s16 pairs take its place with AVX2.
  bool integer_as_f32 = false;
};
ProductTypes product_types(quant::Format a, quant::Format b, ExecutionMode mode, const Isa& isa);
/// K block of the exact f32 route: 512 * 255 * 127 < 2^24.
inline constexpr std::int64_t exact_block = 512;

/// `n` codes of `format` starting at element `offset` of `codes` as numbers of `type` (zero points not subtracted).
void expand_codes(const quant::Tensor& codes, std::int64_t offset, std::int64_t n, DataType type, void* dst);
std::size_t size_of(DataType type);

}  // namespace qfid::kernels::cpu
