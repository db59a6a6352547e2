// What attention is. One head; c = scale, 1/sqrt(head_dim) unless given:
//   softmax            S = Q K^T c + mask;  P = softmax(S) by row;  O = P V                         (Vaswani et al. 2017)
//   gate, value site   g_j scales V_j before anything else happens to V (key position j)            (arXiv 2510.09017 eq.
//   4-6) gate, output site  O_i <- g_i O_i (query position i)                                            (same, appendix B)
//   learnable sink     exp(sink_h) joins each row's denominator and carries no value
// g = sigmoid(gate_logits), computed by the caller in f32 from V as projected (VGA) or from the normed hidden state (IGA).
// Causal masks are bottom-right aligned: query i sees keys <= i + kv_len - q_len. GQA: each K/V head serves
// q_heads / kv_heads consecutive query heads. A row with every key masked gives 0 and is counted.
//
// Order of roundings (the contract; each backend follows it):
//  1. smooth_k: K <- K - mean of K over the row's valid tokens (padding excluded), per head; a learnable sink's logit is
//     lowered by c * q_i . kbar, so that it stays exact.
//  2. value-site gate (f32), then quantize Q, K, V by their schemes over [B, T, heads, d].
//  3. INT8: s32 exact, S = f32(s32) * ((s_q * s_k) * c). FP8: f32 accumulation of exact products, times ((s_q * s_k) * c).
//     f32/bf16: products accumulated in f32, times c. Then additive mask, causal/padding mask (-inf).
//  4. m = row max of S (with the sink); E = exp(S - m); l = sum E + exp(sink - m) in f32 from the unquantized E (or from
//     code/p_scale when quantized_sum). scores_storage bf16 rounds S once, in step 3 before the masks.
//  5. P codes: uint8 rhe(E*255), int8 rhe(E*127), e4m3/e5m2 cast(E*p_scale), bf16 rhe(E), f32 E.
//     reference running_forward/reverse: m is the running maximum over key blocks visited in that order, O and l
//     rescaled by exp(m_old - m_new) in f32.
//  6. O = (sum p*v) * s_v / (p_scale * l); channel scales of V per column.
//  7. output-site gate in f32; then the optional output scheme (quantize-dequantize).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/linear.h"
#include "kernels/taps.h"

namespace qfid::kernels {

enum class GateInput : std::uint8_t { value, hidden };
enum class GateSite : std::uint8_t { value, output };
struct Gate {
  GateInput input = GateInput::value;
  GateSite site = GateSite::output;
  friend bool operator==(const Gate&, const Gate&) = default;
};

enum class PReference : std::uint8_t { row_max, running_forward, running_reverse };

/// Coding of P. format f32, bf16, int8, uint8, e4m3 or e5m2. p_scale: 0 = the format's default (uint8 255, int8 127 - not
/// adjustable; fp8 256). Spelling: FORMAT[/scale=256][/running_forward(64)][/quantized_sum], e.g. "uint8", "e4m3/scale=448".
struct ProbScheme {
  quant::Format format = quant::Format::f32;
  float p_scale = 0;
  PReference reference = PReference::row_max;
  std::int64_t block = 64;  ///< keys per block of the running references
  bool quantized_sum = false;
  float effective_scale() const;  ///< 255, 127, p_scale or 256, 1 for f32 and bf16
  friend bool operator==(const ProbScheme&, const ProbScheme&) = default;
};
std::string to_string(const ProbScheme& scheme);
ProbScheme parse_prob_scheme(std::string_view text);  ///< Error{usage} as parse_scheme

struct AttentionSchemes {
  quant::QuantScheme q, k, v;
  ProbScheme p;
  quant::QuantScheme output;  ///< extra rounding of the context, default none (f32)
  bool smooth_k = false;
  DType scores_storage = DType::f32;  ///< or bf16
  friend bool operator==(const AttentionSchemes&, const AttentionSchemes&) = default;
};

struct AttentionProblem {
  std::int64_t q_heads = 1, kv_heads = 1, head_dim = 0, v_head_dim = 0;
  bool causal = false;
  std::optional<float> scale;  ///< default 1/sqrt(head_dim)
  std::optional<Gate> gate;
  bool learnable_sink = false;
  AttentionSchemes schemes;
  ExecutionMode mode = ExecutionMode::real;
  bool fast_accum = false;  ///< as LinearProblem's

  float softmax_scale() const;
  std::int64_t gates() const;  ///< kv_heads (value site), q_heads (output site), 0 without a gate
  std::string to_string() const;
};

/// Static ranges by operand; empty when the scheme is dynamic or fixed.
struct AttentionRanges {
  std::vector<quant::Range> q, k, v, output;
};

struct AttentionInputs {
  DeviceTensor q;  ///< f32 [B, q_len, q_heads, head_dim]
  DeviceTensor k;  ///< f32 [B, kv_len, kv_heads, head_dim]
  DeviceTensor v;  ///< f32 [B, kv_len, kv_heads, v_head_dim]
  DeviceTensor
      gate_logits;        ///< f32 [B, kv_len, gates]; the output site reads row i + kv_len - q_len; undefined without a gate
  DeviceTensor sink;      ///< f32 [q_heads]; undefined without a learnable sink
  DeviceTensor key_mask;  ///< u8 [B, kv_len], 1 = valid; undefined = all valid
  DeviceTensor bias;      ///< additive mask, f32 [1|B, 1|q_heads, q_len, kv_len], may hold -inf; undefined = none
};

/// Counts per (window, query head), row-major [B, q_heads]; small host numbers, always kept.
struct ProbCounts {
  std::int64_t visible = 0;      ///< unmasked (query, key) pairs
  std::int64_t zero_codes = 0;   ///< of these, P codes equal to 0 (for f32: E == 0)
  std::int64_t masked_rows = 0;  ///< rows with every key masked
  friend bool operator==(const ProbCounts&, const ProbCounts&) = default;
};
struct AttentionResult {
  DeviceTensor output;  ///< f32 [B, q_len, q_heads, v_head_dim]
  std::vector<ProbCounts> probs;
  quant::CodeCounts q, k, v, p;
};

class PreparedAttention {
 public:
  virtual ~PreparedAttention() = default;
  virtual const AttentionProblem& problem() const = 0;
  virtual std::string implementation() const = 0;  ///< as PreparedLinear's; "qk=...;pv=..."
};

/// Every rule that doesn't depend on the backend: sizes, heads dividing, q with k and p with v pairing up (both integer, or
/// both from {f32, bf16, fp8}), granularities legal for the operand. Error{usage} naming the field.
void validate(const AttentionProblem& problem);
/// Error{usage} where s32 sums of `kv_len` (or a running reference's block of) products of integer P and V could pass 2^31:
/// from 65,794 keys on with uint8 P, 131,072 with int8.
void check_keys(const AttentionProblem& problem, std::int64_t kv_len);

}  // namespace qfid::kernels
