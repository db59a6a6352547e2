#include "kernels/gpu/attention_call.h"
#include "kernels/gpu/fused.h"

namespace qfid::kernels::gpu {

namespace {

/// Head width of the fused kernel that has the problem's formats and widths (Hopper); 0: none. Mode library is cuBLASLt's.
int width_if_fused(const AttentionProblem& p, int capability) {
  const AttentionSchemes& s = p.schemes;
  if (capability != 90 || p.mode == ExecutionMode::library) return 0;
  if (fused_names(s.q.format, s.k.format, s.p.format, s.v.format).qk == nullptr) return 0;
  return fused_width(p.head_dim, p.v_head_dim);
}

}  // namespace

GpuAttention::GpuAttention(const AttentionProblem& p, const AttentionRanges& r, int capability)
    : ranges(r),
      qk(product_types(p.schemes.q.format, p.schemes.k.format, capability)),
      pv(product_types(p.schemes.p.format, p.schemes.v.format, capability)),
      fused_width(width_if_fused(p, capability)),
      problem_(p) {
  // cuBLASLt's products of floating codes may leave S in bf16 at once; otherwise it is scaled first and rounded then.
  const bool halved = p.schemes.scores_storage == DType::bf16 && qk.acc == Number::f32 && qk.a != Number::f32;
  if (halved && fused_width == 0) scores = Number::bf16;
  if (qk.acc == Number::s32) scores = Number::s32;
}

std::string GpuAttention::implementation() const {
  return qk_name.empty() ? "" : "qk=" + qk_name + qk.note + ";pv=" + pv_name + pv.note;
}

std::unique_ptr<PreparedAttention> GpuBackend::prepare(const AttentionProblem& problem, const AttentionRanges& ranges) {
  validate(problem);
  return std::make_unique<GpuAttention>(problem, ranges, context().capability());
}

AttentionResult GpuBackend::attention(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* sink) {
  return attention_later(prepared, inputs, sink).result();
}

PendingAttention GpuBackend::attention_later(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* sink) {
  auto& attention = dynamic_cast<GpuAttention&>(prepared);
  const bool fused = attention.fused_width > 0 && by_row_max(attention.problem().schemes.p, inputs.k.shape[1]);
  const auto call = fused ? fused_call(context(), attention, inputs, sink)
                          : call_of_products(context(), gemms(), attention, inputs, sink, chunk_);
  return (*call)();
}

}  // namespace qfid::kernels::gpu
