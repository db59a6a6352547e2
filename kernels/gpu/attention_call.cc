#include "kernels/gpu/attention_call.h"

#include <cmath>

#include "kernels/gpu/elementwise.h"

namespace qfid::kernels::gpu {

using quant::Format;

namespace {

Number own(Format format) {
  if (format == Format::f32) return Number::f32;
  if (format == Format::bf16) return Number::bf16;
  return quant::is_integer(format) ? Number::s8 : format == Format::e4m3 ? Number::e4m3 : Number::e5m2;
}

}  // namespace

AttentionCall::AttentionCall(Context& context, GpuAttention& attention, const AttentionInputs& inputs, TapSink* sink)
    : c_(context), a_(attention), p_(a_.problem()), in_(inputs), s_(sizes_of(p_, inputs)), sink_(sink) {}

PendingAttention AttentionCall::operator()() {
  counts_ = c_.zeros<std::uint64_t>(9 + s_.B * s_.q_heads * 3);
  prepare_operands();
  make_taps();
  context_tensor();
  if (s_.B * s_.rows * s_.kv_len > 0) compute();
  hand_out_taps();
  return finish();
}

// --- operands ---

void AttentionCall::prepare_operands() {
  const auto* q = data<const float>(in_.q);
  const auto* k = data<const float>(in_.k);
  const auto* v = data<const float>(in_.v);
  std::shared_ptr<float> means;
  if (p_.schemes.smooth_k) {
    means = c_.array<float>(s_.B * s_.kv_heads * s_.d);
    key_means(k, mask(), means.get(), s_.B, s_.kv_len, s_.kv_heads, s_.d, c_.stream());
    smooth_ = c_.array<float>(s_.B * s_.kv_len * s_.kv_heads * s_.d);
    subtract_means(k, means.get(), smooth_.get(), s_.B, s_.kv_len, s_.kv_heads, s_.d, c_.stream());
    k = smooth_.get();
  }
  if (p_.learnable_sink) {
    sink_logits_ = c_.array<float>(s_.B * s_.q_heads * s_.q_len);
    sink_logits(data<const float>(in_.sink), q, means.get(), p_.softmax_scale(), sink_logits_.get(), s_.B, s_.q_len,
                s_.q_heads, s_.kv_heads, s_.d, c_.stream());
  }
  if (p_.gate) v = gated(v);
  const OperandLayout l = layout();
  q_ = heads_apart(q, s_.q_len, s_.q_heads, l.q_tokens, p_.schemes.q, a_.ranges.q, a_.qk.a, TapPoint::q_codes);
  k_ = heads_apart(k, s_.kv_len, s_.kv_heads, l.k_tokens, p_.schemes.k, a_.ranges.k, a_.qk.b, TapPoint::k_codes);
  if (k_.scale && k_.scales.s1 < s_.kv_len) {
    key_scales_ = c_.array<float>(s_.B * s_.kv_heads * l.k_tokens);
    spread_key_scales(k_.scales, s_.B, s_.kv_len, s_.kv_heads, l.k_tokens, key_scales_.get(), c_.stream());
  }
  const Source values{v, s_.B, s_.kv_len, s_.kv_heads, s_.dv};
  v_ = scaled_operand(c_, values, p_.schemes.v, a_.ranges.v, tally(2));
  cast_values(values);
  tap_codes(v_, values, TapPoint::v_codes);
  if (wants(sink_, TapPoint::v_dequantized)) sink_->take(TapPoint::v_dequantized, dequantized(v_, values));
}

const float* AttentionCall::gated(const float* v) {
  gate_ = c_.tensor(DType::f32, in_.gate_logits.shape);
  sigmoid(data<const float>(in_.gate_logits), data<float>(gate_), gate_.shape.elements(), c_.stream());
  if (wants(sink_, TapPoint::gate)) sink_->take(TapPoint::gate, gate_);
  DeviceTensor values = in_.v;
  if (p_.gate->site == GateSite::value) {
    values = c_.tensor(DType::f32, in_.v.shape);
    scale_rows(v, data<const float>(gate_), data<float>(values), s_.B * s_.kv_len * s_.kv_heads, s_.dv, c_.stream());
    gated_ = values;
  }
  if (wants(sink_, TapPoint::v_gated)) sink_->take(TapPoint::v_gated, values);
  return data<const float>(values);
}

const float* AttentionCall::output_gate() const {
  return p_.gate && p_.gate->site == GateSite::output ? data<const float>(gate_) : nullptr;
}

Operand AttentionCall::heads_apart(const float* x, std::int64_t length, std::int64_t heads, std::int64_t tokens,
                                   const quant::QuantScheme& scheme, const std::vector<quant::Range>& ranges, Number number,
                                   TapPoint tap) {
  const Source source{x, s_.B, length, heads, s_.d};
  Operand o = scaled_operand(c_, source, scheme, ranges, tally(tap == TapPoint::q_codes ? 0 : 1));
  const OperandLayout l = layout();
  o.codes = c_.allocate(static_cast<std::size_t>(code_bytes(s_.B * heads * tokens * l.columns, number)));
  cast(o, job_of(o, source, number, false), o.codes.get(),
       {heads * tokens * l.columns, l.columns, tokens * l.columns, tokens, l.columns, l.swizzle}, c_);
  tap_codes(o, source, tap);
  return o;
}

/// Codes as the contract shows them, dense, in the storage of the scheme; and the job that made them.
CastJob AttentionCall::dense(const Operand& o, const Source& source, void* codes) {
  CastJob job = job_of(o, source, own(o.scheme.format), false);
  job.tally = nullptr;
  cast(o, job, codes, {source.T * source.H * source.D, source.H * source.D, source.D, source.T, source.D}, c_);
  return job;
}

void AttentionCall::tap_codes(const Operand& o, const Source& source, TapPoint tap) {
  if (!wants(sink_, tap)) return;
  const DeviceTensor codes = c_.tensor(quant::storage(o.scheme.format), Shape{source.B, source.T, source.H, source.D});
  dense(o, source, codes.storage.get());
  sink_->take(tap, codes);
}

/// What the operand's codes stand for, in f32.
DeviceTensor AttentionCall::dequantized(const Operand& o, const Source& source) {
  const DeviceTensor result = c_.tensor(DType::f32, Shape{source.B, source.T, source.H, source.D});
  const auto codes = c_.allocate(static_cast<std::size_t>(code_bytes(result.shape.elements(), own(o.scheme.format))));
  dequantize_rows(dense(o, source, codes.get()), codes.get(), data<float>(result), c_.stream());
  return result;
}

ScoreInputs AttentionCall::score_inputs() const {
  const Shape& bias = in_.bias.shape;
  const std::int64_t row = s_.q_len * s_.kv_len;
  return {nullptr,
          a_.scores,
          q_.scales,
          k_.scales,
          key_scales_.get(),
          layout().k_tokens,
          p_.softmax_scale(),
          p_.schemes.scores_storage == DType::bf16 && a_.scores != Number::bf16,
          mask(),
          in_.bias.defined() ? data<const float>(in_.bias) : nullptr,
          in_.bias.defined() && bias[0] > 1 ? bias[1] * row : 0,
          in_.bias.defined() && bias[1] > 1 ? row : 0,
          sink_logits_.get()};
}

void AttentionCall::make_taps() {
  const Shape all{s_.B, s_.q_heads, s_.q_len, s_.kv_len};
  const auto make = [&](TapPoint point, DType dtype, const Shape& shape, bool cleared) {
    if (!wants(sink_, point)) return;
    DeviceTensor t = c_.tensor(dtype, shape);
    if (cleared) c_.clear(t.storage.get(), static_cast<std::size_t>(shape.elements()) * quant::info(dtype).bytes);
    made_.emplace_back(point, t);
  };
  if (quant::is_integer(p_.schemes.q.format)) make(TapPoint::scores_i32, DType::i32, all, true);
  make(TapPoint::scores, DType::f32, all, true);
  make(TapPoint::probs, DType::f32, all, true);
  make(TapPoint::p_codes, quant::storage(p_.schemes.p.format), all, true);
  make(TapPoint::lse, DType::f32, Shape{s_.B, s_.q_heads, s_.q_len}, true);
  for (auto& [point, t] : made_) {
    if (point == TapPoint::scores) {
      taps_.scores = data<float>(t);
      fill(taps_.scores, -INFINITY, t.shape.elements(), c_.stream());  // keys no row of a chunk sees are not visited
    }
    if (point == TapPoint::scores_i32) raw_scores_ = data<std::int32_t>(t);
    if (point == TapPoint::probs) taps_.probs = data<float>(t);
    if (point == TapPoint::p_codes) taps_.p_codes = t.storage.get();
    if (point == TapPoint::lse) taps_.lse = data<float>(t);
  }
}

void AttentionCall::hand_out_taps() {
  for (const auto& [point, t] : made_) sink_->take(point, t);
  if (context_.defined()) sink_->take(TapPoint::context, context_);
}

void AttentionCall::context_tensor() {
  const Shape shape{s_.B, s_.q_len, s_.q_heads, s_.dv};
  output_ = c_.tensor(DType::f32, shape);
  if (s_.kv_len == 0) c_.clear(output_.storage.get(), static_cast<std::size_t>(shape.elements()) * 4);
  if (wants(sink_, TapPoint::context)) context_ = c_.tensor(DType::f32, shape);
}

PendingAttention AttentionCall::finish() {
  const DeviceTensor output = rounded(output_);
  if (wants(sink_, TapPoint::output)) sink_->take(TapPoint::output, output);
  return {output, [context = c_.shared_from_this(), counts = counts_, sizes = s_, q = q_.elements, k = k_.elements,
                   v = v_.elements] {
            AttentionResult result;
            const std::vector<std::uint64_t> all = context->fetched(counts.get(), 9 + sizes.B * sizes.q_heads * 3);
            const auto at = [&](std::size_t i) { return static_cast<std::int64_t>(all[9 + i]); };
            result.probs.resize(static_cast<std::size_t>(sizes.B * sizes.q_heads));
            for (std::size_t i = 0; i < result.probs.size(); ++i) {
              result.probs[i] = {at(3 * i), at(3 * i + 1), at(3 * i + 2)};
              if (sizes.kv_len == 0) result.probs[i].masked_rows = sizes.q_len;
              result.p.elements += result.probs[i].visible;
              result.p.flushed += result.probs[i].zero_codes;
            }
            result.q = counts_of(q, all.data());
            result.k = counts_of(k, all.data() + 3);
            result.v = counts_of(v, all.data() + 6);
            return result;
          }};
}

/// The output scheme: quantize and back.
DeviceTensor AttentionCall::rounded(const DeviceTensor& x) {
  if (p_.schemes.output.format == Format::f32) return x;
  const Source source{data<const float>(x), s_.B, s_.q_len, s_.q_heads, s_.dv};
  return dequantized(scaled_operand(c_, source, p_.schemes.output, a_.ranges.output, nullptr), source);
}

}  // namespace qfid::kernels::gpu
