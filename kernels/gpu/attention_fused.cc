// Attention by the fused kernel: operands in tiles of 128 keys or rows, in the order it copies them to shared memory.
#include "kernels/gpu/attention_call.h"
#include "kernels/gpu/fused.h"

namespace qfid::kernels::gpu {

namespace {

constexpr std::int64_t tiles_of(std::int64_t n, std::int64_t tile) { return (n + tile - 1) / tile; }

class FusedCall : public AttentionCall {
 public:
  using AttentionCall::AttentionCall;

 private:
  OperandLayout layout() const override {
    return {tiles_of(s_.q_len, fused_rows) * fused_rows, k_tiles() * fused_keys, a_.fused_width, a_.fused_width};
  }
  std::int64_t k_tiles() const { return tiles_of(s_.kv_len, fused_keys); }

  void cast_values(const Source& v) override {
    v_.codes = c_.allocate(static_cast<std::size_t>(s_.B * s_.kv_heads * k_tiles() * fused_keys * a_.fused_width));
    cast_value_tiles(job_of(v_, v, a_.pv.b, false), v_.codes.get(), a_.fused_width, c_.stream());
  }

  void compute() override {
    const ProbScheme& scheme = p_.schemes.p;
    FusedJob job{};
    job.q = q_.codes.get();
    job.k = k_.codes.get();
    job.v = v_.codes.get();
    job.windows = static_cast<int>(s_.B);
    job.q_heads = static_cast<int>(s_.q_heads);
    job.kv_heads = static_cast<int>(s_.kv_heads);
    job.q_len = static_cast<int>(s_.q_len);
    job.kv_len = static_cast<int>(s_.kv_len);
    job.q_tiles = static_cast<int>(tiles_of(s_.q_len, fused_rows));
    job.k_tiles = static_cast<int>(k_tiles());
    job.causal = p_.causal;
    job.fast_accum = p_.fast_accum;
    job.in = score_inputs();
    job.prob.format = scheme.format;
    job.prob.scale = scheme.effective_scale();
    job.prob.quantized_sum = scheme.quantized_sum;
    job.prob.counts = prob_counts();
    job.taps = taps_;
    job.raw = raw_scores_;
    job.v_scales = v_.scales;
    job.gate = output_gate();
    job.width = static_cast<int>(s_.dv);
    job.context = context_.defined() ? data<float>(context_) : nullptr;
    job.output = data<float>(output_);
    fused_attention(job, a_.fused_width, c_.stream());
    const FusedNames names = fused_names(p_.schemes.q.format, p_.schemes.k.format, scheme.format, p_.schemes.v.format);
    a_.qk_name = std::string("fused wgmma ") + names.qk;
    a_.pv_name = std::string("fused wgmma ") + names.pv + (p_.fast_accum && a_.pv.acc == Number::f32 ? " fast_accum" : "");
  }
};

}  // namespace

std::unique_ptr<AttentionCall> fused_call(Context& context, GpuAttention& attention, const AttentionInputs& inputs,
                                          TapSink* sink) {
  return std::make_unique<FusedCall>(context, attention, inputs, sink);
}

}  // namespace qfid::kernels::gpu
