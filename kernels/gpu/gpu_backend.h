// The gpu backend's inside: what its files share. The device is started by the first call that needs it, so that a program
// which only links this backend pays nothing for it.
#pragma once

#include "kernels/gpu/backend.h"
#include "kernels/gpu/context.h"
#include "kernels/gpu/gemm.h"
#include "kernels/gpu/quantize.h"
#include "kernels/gpu/reductions.h"
#include "kernels/gpu/tallies.h"

namespace qfid::kernels::gpu {

/// How a product of two formats runs on a device.
struct ProductTypes {
  Number a, b, acc;
  std::string note;  ///< appended to the implementation's name; empty when the formats multiply as they are
};
/// Integers as s8; FP8 as FP8 where the device and the library have that pair, else expanded exactly to bf16; f32 beside
/// f32. E5M2 x E5M2 is not in cuBLASLt.
ProductTypes product_types(quant::Format a, quant::Format b, int capability);

/// Activations e4m3/group(128) by weights e4m3/block(128x128) or e4m3/group(128): cuBLASLt multiplies their scales in
/// between.
InnerScales inner_scales(const LinearProblem& p);

/// How much of the scores attention works on at a time. Chunks that stay in L2 lose more to products too small to fill the
/// device than they save (docs/results): these are several times larger.
struct ChunkSize {
  std::int64_t bytes = std::int64_t{512} << 20;
  std::int64_t rows = 2048;  ///< query rows of one (window, key head) pair
};

class GpuLinear;

class GpuBackend : public Backend {
 public:
  explicit GpuBackend(int device) : device_(device) {}
  BackendInfo info() const override;
  Support available() const override;
  Support supports(const LinearProblem& problem) const override;
  Support supports(const AttentionProblem& problem) const override;

  DeviceTensor upload(const quant::Tensor& host) override;
  quant::Tensor download(const DeviceTensor& tensor) override;
  void synchronize() override;
  std::optional<std::int64_t> free_memory() const override { return context().free_memory(); }
  std::int64_t logits_at_once() const override { return std::int64_t{256} << 20; }

  std::unique_ptr<PreparedLinear> prepare(const LinearProblem& problem, const LinearWeights& weights) override;
  DeviceTensor linear(PreparedLinear& prepared, const DeviceTensor& src, quant::CodeCounts* counts) override;
  LinearResult linear_then(PreparedLinear& prepared, const DeviceTensor& src, const LinearTail& tail) override;
  std::unique_ptr<PreparedAttention> prepare(const AttentionProblem& problem, const AttentionRanges& ranges) override;
  AttentionResult attention(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* taps) override;
  PendingAttention attention_later(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* taps) override;

  DeviceTensor embedding(const DeviceTensor& ids, const DeviceTensor& table) override;
  DeviceTensor add(const DeviceTensor& a, const DeviceTensor& b) override;
  DeviceTensor layer_norm(const DeviceTensor& x, const DeviceTensor& gamma, const DeviceTensor& beta, float eps) override;
  DeviceTensor rms_norm(const DeviceTensor& x, const DeviceTensor& gamma, float eps) override;
  DeviceTensor activation(const DeviceTensor& x, Activation kind) override;
  DeviceTensor rotary(const DeviceTensor& x, std::int64_t first, double theta) override;
  DeviceTensor slice(const DeviceTensor& x, std::int64_t begin, std::int64_t end) override;
  Reductions& reductions() override;

  Context& context() const;
  /// For benchmarks; another size may give other bits of f32 (another algorithm of the library).
  void set_chunk(const ChunkSize& chunk) { chunk_ = chunk; }

 private:
  /// Codes of the last input a linear quantized: q, k and v read the same one. Holding `src` keeps its memory from reuse.
  struct LastCodes {
    DeviceTensor src;
    quant::QuantScheme scheme;
    std::vector<quant::Range> ranges;
    Number number = Number::f32;
    std::shared_ptr<Operand> operand;
    PendingCounts counts;
  };
  /// What `last_` holds then.
  const LastCodes& quantized(const DeviceTensor& src, const quant::QuantScheme& scheme,
                             const std::vector<quant::Range>& ranges, Number number);
  void plain_product(GpuLinear& linear, const std::byte* a, std::int64_t rows, const LinearTail& tail, LinearResult& result);
  void scaled_product(GpuLinear& linear, const std::byte* a, const ScaleView& scales, std::int64_t rows, std::int64_t tokens,
                      const LinearTail& tail, LinearResult& result);
  GemmCache& gemms();

  int device_;
  ChunkSize chunk_;
  mutable std::shared_ptr<Context> context_;
  std::unique_ptr<GemmCache> gemms_;
  std::unique_ptr<GpuReductions> reductions_;
  std::unique_ptr<Tallies> tallies_;
  LastCodes last_;
};

}  // namespace qfid::kernels::gpu
