// What the two ways of running attention on CPUs share: in panels of ukernel blocks (panel_attention.cc) and in oneDNN's
// matmul primitives (matmul_attention.cc).
#pragma once

#include <algorithm>
#include <limits>
#include <string>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/host/operands.h"

namespace qfid::kernels::cpu {

inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

class CpuAttention : public PreparedAttention {
 public:
  CpuAttention(const AttentionProblem& p, const AttentionRanges& r, const Isa& on)
      : ranges(r),
        isa(on),
        qk(product_types(p.schemes.q.format, p.schemes.k.format, p.mode, isa)),
        pv(product_types(p.schemes.p.format, p.schemes.v.format, p.mode, isa)),
        problem_(p) {}
  const AttentionProblem& problem() const override { return problem_; }
  std::string implementation() const override { return name; }
  AttentionRanges ranges;
  Isa isa;
  ProductTypes qk, pv;
  std::string name;  ///< of what ran last

 private:
  AttentionProblem problem_;
};

/// Tensors kept for a listener; empty ones aren't wanted.
struct AttentionTaps {
  quant::Tensor scores_i32, scores, probs, p_codes, lse;
  AttentionTaps(const TapSink* sink, const Shape& all, const AttentionProblem& p) {
    const DType code = quant::storage(p.schemes.p.format);
    if (quant::is_integer(p.schemes.q.format) && p.mode == ExecutionMode::real && wants(sink, TapPoint::scores_i32))
      scores_i32 = quant::Tensor::zeros(DType::i32, all);
    if (wants(sink, TapPoint::scores)) scores = quant::Tensor(DType::f32, all);
    if (wants(sink, TapPoint::probs)) probs = quant::Tensor::zeros(DType::f32, all);
    if (wants(sink, TapPoint::p_codes)) p_codes = quant::Tensor::zeros(code, all);
    if (wants(sink, TapPoint::lse)) lse = quant::Tensor(DType::f32, Shape{all[0], all[1], all[2]});
    if (!scores.empty()) std::fill_n(scores.view<float>().data(), scores.shape().elements(), minus_infinity);
  }
  void hand_out(TapSink* sink) {
    for (auto [point, tensor] :
         {std::pair{TapPoint::scores_i32, &scores_i32}, std::pair{TapPoint::scores, &scores},
          std::pair{TapPoint::probs, &probs}, std::pair{TapPoint::p_codes, &p_codes}, std::pair{TapPoint::lse, &lse}})
      if (!tensor->empty()) sink->take(point, host::adopt(std::move(*tensor)));
  }
};

/// One call's work: what goes in and what comes out.
struct AttentionCall {
  CpuAttention& prepared;
  const host::AttentionOperands& operands;
  AttentionTaps& taps;
  quant::Tensor& context;          ///< f32 [B, q_len, q_heads, v_head_dim], before an output-site gate
  std::vector<ProbCounts>& probs;  ///< [B * q_heads]
};

/// Keys that rows up to `last` can see, at least one.
inline std::int64_t keys_seen(const AttentionProblem& p, const host::AttentionOperands& o, std::int64_t last) {
  return p.causal ? std::clamp<std::int64_t>(last + 1 + o.kv_len - o.q_len, 1, o.kv_len) : o.kv_len;
}

/// False, with nothing done, where a product of this problem has no block kernel here, or P refers to a running maximum.
bool attention_in_panels(const AttentionCall& call, BlockCache& cache, PanelMemory& memory);
void attention_by_matmul(const AttentionCall& call, GemmCache& cache);

}  // namespace qfid::kernels::cpu
