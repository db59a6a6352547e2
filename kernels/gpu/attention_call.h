// One attention call on its way: what both ways of computing it share. Operands are cast into the layouts the way wants,
// taps are made and handed out, counts fetched when somebody asks for them. The listener never changes what is computed.
#pragma once

#include <utility>
#include <vector>

#include "kernels/gpu/attention_sizes.h"
#include "kernels/gpu/gpu_backend.h"
#include "kernels/gpu/softmax.h"

namespace qfid::kernels::gpu {

class GpuAttention : public PreparedAttention {
 public:
  GpuAttention(const AttentionProblem& problem, const AttentionRanges& ranges, int capability);
  const AttentionProblem& problem() const override { return problem_; }
  std::string implementation() const override;

  AttentionRanges ranges;
  ProductTypes qk, pv;
  Number scores = Number::f32;  ///< what Q.K^T leaves for the row pass
  int fused_width = 0;          ///< head width of the fused kernel, for rows' own maxima; 0: two products and a row pass
  std::string qk_name, pv_name;

 private:
  AttentionProblem problem_;
};

/// How a way of computing lays out the codes of Q and K: rows of `columns` numbers, `q_tokens`, `k_tokens` of them a head.
struct OperandLayout {
  std::int64_t q_tokens, k_tokens, columns, swizzle;
};

class AttentionCall {
 public:
  AttentionCall(Context& context, GpuAttention& attention, const AttentionInputs& inputs, TapSink* sink);
  virtual ~AttentionCall() = default;
  AttentionCall(const AttentionCall&) = delete;
  AttentionCall& operator=(const AttentionCall&) = delete;

  PendingAttention operator()();

 protected:
  virtual OperandLayout layout() const = 0;
  /// Codes of V into v_.codes; v_ has its scales.
  virtual void cast_values(const Source& v) = 0;
  virtual void compute() = 0;

  static std::int64_t code_bytes(std::int64_t n, Number number) { return n * static_cast<std::int64_t>(size_of(number)); }
  const std::uint8_t* mask() const { return in_.key_mask.defined() ? data<const std::uint8_t>(in_.key_mask) : nullptr; }
  const float* output_gate() const;
  std::int64_t* prob_counts() const { return reinterpret_cast<std::int64_t*>(counts_.get() + 9); }
  /// All but acc.
  ScoreInputs score_inputs() const;

  Context& c_;
  GpuAttention& a_;
  const AttentionProblem& p_;
  const AttentionInputs& in_;
  const Sizes s_;
  Operand q_, k_, v_;
  DeviceTensor context_, output_;
  ScoreTaps taps_;
  std::int32_t* raw_scores_ = nullptr;  ///< tap scores_i32
  std::shared_ptr<float> sink_logits_, key_scales_;

 private:
  void prepare_operands();
  const float* gated(const float* v);
  Operand heads_apart(const float* x, std::int64_t length, std::int64_t heads, std::int64_t tokens,
                      const quant::QuantScheme& scheme, const std::vector<quant::Range>& ranges, Number number,
                      TapPoint tap);
  CastJob dense(const Operand& o, const Source& source, void* codes);
  void tap_codes(const Operand& o, const Source& source, TapPoint tap);
  DeviceTensor dequantized(const Operand& o, const Source& source);
  void make_taps();
  void hand_out_taps();
  void context_tensor();
  PendingAttention finish();
  DeviceTensor rounded(const DeviceTensor& x);
  std::shared_ptr<std::uint64_t> tally(int operand) const { return {counts_, counts_.get() + 3 * operand}; }

  TapSink* sink_;
  DeviceTensor gate_, gated_;
  std::shared_ptr<float> smooth_;
  std::shared_ptr<std::uint64_t>
      counts_;  ///< tallies of q, k, v, three each, then of P by (window, head): one copy at the end
  std::vector<std::pair<TapPoint, DeviceTensor>> made_;
};

/// Whether P is coded against the row's own maximum; over one block a running one is that.
inline bool by_row_max(const ProbScheme& p, std::int64_t kv_len) {
  return p.reference == PReference::row_max || p.block >= kv_len;
}

/// The two ways.
std::unique_ptr<AttentionCall> call_of_products(Context& context, GemmCache& gemms, GpuAttention& attention,
                                                const AttentionInputs& inputs, TapSink* sink, const ChunkSize& chunk);
std::unique_ptr<AttentionCall> fused_call(Context& context, GpuAttention& attention, const AttentionInputs& inputs,
                                          TapSink* sink);

}  // namespace qfid::kernels::gpu
