// Taps: named places inside a layer, and the listener. No listener, no cost: a kernel asks wants() before it keeps anything.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "kernels/tensor.h"

namespace qfid::kernels {

/// Shapes: [B, T, H] for token rows; q, k, v, v_gated, v_dequantized, context, output [B, T, heads, d]; gate [B, T, gates];
/// scores, probs, p_codes [B, q_heads, q_len, kv_len]; lse [B, q_heads, q_len].
enum class TapPoint : std::uint8_t {
  hidden_in,  ///< the layer's input (residual stream)
  attn_in,    ///< after the norm that precedes attention
  q,
  k,
  v,        ///< as the projections produced them, f32
  v_gated,  ///< after a value-site gate, before quantization
  gate,     ///< sigma(logits), f32
  q_codes,
  k_codes,
  v_codes,        ///< storage dtype of the scheme
  v_dequantized,  ///< V as the product with P sees it: code * scale, f32
  scores_i32,     ///< raw s32 of an INT8 Q.K^T where the query sees the key; only when Q and K are INT8 and run as such
  scores,         ///< scaled f32 scores, after mask (-inf where masked)
  probs,          ///< E / l in f32, before coding
  p_codes,        ///< codes of P (storage dtype of its format)
  lse,            ///< log-sum-exp of each score row (sink included)
  context,        ///< O before an output-site gate
  output,         ///< attention's result (after the gate), before out_proj
  attn_out,       ///< after out_proj, before the residual add
  ffn_in,         ///< after the norm that precedes the feed-forward
  ffn_act,        ///< after the activation
  ffn_out,        ///< after fc2, before the residual add
  residual,       ///< the layer's output
  logits,
};
inline constexpr std::array<std::string_view, 22> tap_names{
    "hidden_in", "attn_in",       "q",          "k",      "v",     "v_gated", "gate", "q_codes", "k_codes",
    "v_codes",   "v_dequantized", "scores_i32", "scores", "probs", "p_codes", "lse",  "context", "output",
    "attn_out",  "ffn_in",        "ffn_act",    "ffn_out"};
constexpr std::string_view to_string(TapPoint point) {
  const auto i = static_cast<std::size_t>(point);
  return i < tap_names.size() ? tap_names[i] : point == TapPoint::residual ? "residual" : "logits";
}

class TapSink {
 public:
  virtual ~TapSink() = default;
  virtual bool wants(TapPoint point) const = 0;
  virtual void take(TapPoint point, const DeviceTensor& tensor) = 0;
};

inline bool wants(const TapSink* sink, TapPoint point) { return sink != nullptr && sink->wants(point); }

}  // namespace qfid::kernels
