// Attention: operands are quantized, then run in panels of blocks, or through matmul primitives where panels can't.
#include "kernels/cpu/attention_state.h"
#include "kernels/cpu/block_product.h"

namespace qfid::kernels::cpu {

using quant::Tensor;

std::unique_ptr<PreparedAttention> CpuBackend::prepare(const AttentionProblem& problem, const AttentionRanges& ranges) {
  validate(problem);
  return std::make_unique<CpuAttention>(problem, ranges, isa_);
}

AttentionResult CpuBackend::attention(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* sink) {
  auto& a = dynamic_cast<CpuAttention&>(prepared);
  const AttentionProblem& p = a.problem();
  host::AttentionOperands o = host::prepare_operands(p, a.ranges, inputs, sink);
  AttentionResult result;
  result.probs.resize(static_cast<std::size_t>(o.batch * p.q_heads));
  result.q = o.q.counts;
  result.k = o.k.counts;
  result.v = o.v.counts;
  if (p.mode == ExecutionMode::emulated)
    for (host::Operand* operand : {&o.q, &o.k, &o.v}) *operand = host::as_numbers(*operand);
  AttentionTaps taps(sink, Shape{o.batch, p.q_heads, o.q_len, o.kv_len}, p);
  Tensor context(DType::f32, Shape{o.batch, o.q_len, p.q_heads, p.v_head_dim});
  const AttentionCall call{a, o, taps, context, result.probs};
  if (!attention_in_panels(call, blocks_, memory_)) attention_by_matmul(call, cache_);
  for (const ProbCounts& counts : result.probs) {
    result.p.elements += counts.visible;
    result.p.flushed += counts.zero_codes;
  }
  if (sink != nullptr) taps.hand_out(sink);
  if (wants(sink, TapPoint::context)) sink->take(TapPoint::context, host::adopt(context.clone()));
  host::finish_output(p, a.ranges, o, context);
  result.output = host::adopt(std::move(context));
  if (wants(sink, TapPoint::output)) sink->take(TapPoint::output, result.output);
  return result;
}

}  // namespace qfid::kernels::cpu
