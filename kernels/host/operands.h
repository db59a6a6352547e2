// Steps 1 and 2 of the attention contract (kernels/attention.h) and the quantization of linears' inputs, for backends whose
// tensors lie in host memory: gates, smoothing, codes and scales, masks. Windows are quantized in parallel, each alone.
#pragma once

#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kernels/host/host_memory.h"
#include "quant/quantize.h"

namespace qfid::kernels::host {

/// Codes of [B, T, H, D] and their scales, window by window (static scales are repeated, so the lookup is one rule).
struct Operand {
  quant::QuantScheme scheme;
  quant::Tensor codes;
  std::vector<float> scale;              ///< [B * granules]; empty for f32 and bf16
  std::vector<std::int32_t> zero_point;  ///< same, when affine
  std::array<std::int64_t, 4> step{1, 1, 1, 1};
  std::array<std::int64_t, 4> count{1, 1, 1, 1};  ///< granules of one window along each axis
  quant::CodeCounts counts;

  std::int64_t granule(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d) const {
    return ((b * count[1] + t / step[1]) * count[2] + h / step[2]) * count[3] + d / step[3];
  }
  float scale_at(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d = 0) const {
    return scale.empty() ? 1.0F : scale[static_cast<std::size_t>(granule(b, t, h, d))];
  }
  std::int32_t zero_at(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d = 0) const {
    return zero_point.empty() ? 0 : zero_point[static_cast<std::size_t>(granule(b, t, h, d))];
  }
};

/// What becomes an operand: x [B, T, H, D] by its scheme, static ranges where the scheme wants them.
struct OperandSource {
  quant::View<const float> x;
  const quant::QuantScheme& scheme;
  const std::vector<quant::Range>& ranges;
};
/// Of several at once: threads are woken once for all of them.
std::vector<Operand> quantize_operands(std::span<const OperandSource> sources);
Operand quantize_operand(quant::View<const float> x, const quant::QuantScheme& scheme,
                         const std::vector<quant::Range>& ranges);

/// Codes as f32 numbers: integers minus their zero point, FP8 and bf16 expanded; without scales. Same shape.
quant::Tensor expanded(const Operand& operand);
/// code * scale in f32: what emulated arms compute with.
quant::Tensor dequantized(const Operand& operand);
/// The same as an operand of f32 numbers, without scales.
Operand as_numbers(const Operand& operand);

/// Everything attention needs before its first product.
struct AttentionOperands {
  std::int64_t batch = 0, q_len = 0, kv_len = 0;
  Operand q, k, v;
  quant::Tensor gate;         ///< sigmoid(logits) f32 [B, kv_len, gates]; empty without a gate
  quant::Tensor sink_logits;  ///< f32 [B, q_heads, q_len], lowered by smoothing; empty without a learnable sink
  const std::uint8_t* key_mask = nullptr;
  quant::View<const float> bias;

  bool key_valid(std::int64_t b, std::int64_t j, std::int64_t kv) const {
    return key_mask == nullptr || key_mask[b * kv + j] != 0;
  }
  /// Row of the additive mask, or null.
  const float* bias_row(std::int64_t b, std::int64_t h, std::int64_t i) const;
};
/// Checks shapes (Error{internal} naming what differs), applies the value-site gate and smoothing, quantizes, and hands out
/// the taps v_gated, gate, q_codes, k_codes, v_codes, v_dequantized.
AttentionOperands prepare_operands(const AttentionProblem& problem, const AttentionRanges& ranges,
                                   const AttentionInputs& inputs, TapSink* taps);

/// Step 7: the output-site gate in place, then the output scheme (quantize-dequantize); context [B, q_len, q_heads, d_v].
void finish_output(const AttentionProblem& problem, const AttentionRanges& ranges, const AttentionOperands& operands,
                   quant::Tensor& context);

}  // namespace qfid::kernels::host
