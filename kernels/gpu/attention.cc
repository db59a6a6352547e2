// Attention as two products with a row pass between them. Q, K and V are cast into the layouts the products want (heads
// apart, padded to 16; V transposed); then, chunk by chunk of (window, key head) pairs and query rows: S = Q.K^T, the row
// pass (kernels/gpu/softmax.h), P.V, the output's scales and gate. Scales of Q, K and V
// are left out of the products and folded into our kernels. The listener never changes what the products compute.
#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/gpu/attention_sizes.h"
#include "kernels/gpu/elementwise.h"
#include "kernels/gpu/gpu_backend.h"
#include "kernels/gpu/softmax.h"

namespace qfid::kernels::gpu {

using quant::Format;

namespace {

class GpuAttention : public PreparedAttention {
 public:
  GpuAttention(const AttentionProblem& p, const AttentionRanges& r, int capability)
      : ranges(r),
        qk(product_types(p.schemes.q.format, p.schemes.k.format, capability)),
        pv(product_types(p.schemes.p.format, p.schemes.v.format, capability)),
        problem_(p) {
    // Products of floating codes may leave S in bf16 at once; integers are scaled first and rounded in the row pass.
    if (p.schemes.scores_storage == DType::bf16 && qk.acc == Number::f32 && qk.a != Number::f32) scores = Number::bf16;
    if (qk.acc == Number::s32) scores = Number::s32;
  }
  const AttentionProblem& problem() const override { return problem_; }
  std::string implementation() const override {
    return qk_name.empty() ? "" : "qk=" + qk_name + qk.note + ";pv=" + pv_name + pv.note;
  }
  AttentionRanges ranges;
  ProductTypes qk, pv;
  Number scores = Number::f32;
  std::string qk_name, pv_name;

 private:
  AttentionProblem problem_;
};

/// One attention call on its way.
class Run {
 public:
  Run(Context& context, GemmCache& gemms, GpuAttention& a, const AttentionInputs& inputs, TapSink* sink,
      const ChunkSize& chunk)
      : c_(context), gemms_(gemms), a_(a), p_(a.problem()), in_(inputs), sink_(sink), size_(chunk), s_(sizes_of(p_, inputs)) {}

  AttentionResult operator()() {
    counts_ = c_.zeros<std::uint64_t>(9 + s_.B * s_.q_heads * 3);
    prepare_operands();
    make_taps();
    context_tensor();
    if (s_.B * s_.rows * s_.kv_len > 0) chunks();
    hand_out_taps();
    return finish();
  }

 private:
  std::int64_t code_bytes(std::int64_t n, Number number) const { return n * static_cast<std::int64_t>(size_of(number)); }

  // --- operands ---

  std::shared_ptr<std::uint64_t> tally(int operand) const { return {counts_, counts_.get() + 3 * operand}; }

  void prepare_operands() {
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
    q_ = heads_apart(q, s_.q_len, s_.q_heads, s_.q_len, p_.schemes.q, a_.ranges.q, a_.qk.a, TapPoint::q_codes);
    k_ = heads_apart(k, s_.kv_len, s_.kv_heads, s_.kv_p, p_.schemes.k, a_.ranges.k, a_.qk.b, TapPoint::k_codes);
    if (k_.scale && k_.scales.s1 < s_.kv_len) {
      key_scales_ = c_.array<float>(s_.B * s_.kv_heads * s_.kv_p);
      spread_key_scales(k_.scales, s_.B, s_.kv_len, s_.kv_heads, s_.kv_p, key_scales_.get(), c_.stream());
    }
    transpose_values(v);
  }

  const float* gated(const float* v) {
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

  Operand heads_apart(const float* x, std::int64_t length, std::int64_t heads, std::int64_t tokens,
                      const quant::QuantScheme& scheme, const std::vector<quant::Range>& ranges, Number number,
                      TapPoint tap) {
    const Source source{x, s_.B, length, heads, s_.d};
    Operand o = scaled_operand(c_, source, scheme, ranges, tally(tap == TapPoint::q_codes ? 0 : 1));
    o.codes = c_.allocate(static_cast<std::size_t>(code_bytes(s_.B * heads * tokens * s_.d_p, number)));
    cast(o, job_of(o, source, number, false), o.codes.get(), {heads * tokens * s_.d_p, s_.d_p, tokens * s_.d_p, tokens, s_.d_p},
         c_);
    tap_codes(o, source, tap);
    return o;
  }

  void transpose_values(const float* v) {
    const ProbScheme& scheme = p_.schemes.p;
    // Over one block a running maximum is the row's.
    running_ = scheme.reference != PReference::row_max && scheme.block < s_.kv_len;
    block_ = running_ ? scheme.block : std::max<std::int64_t>(1, s_.kv_len);
    blocks_ = (s_.kv_len + block_ - 1) / block_;
    block_p_ = running_ ? padded(block_) : s_.kv_p;
    v_tokens_ = blocks_ * block_p_;
    const Source source{v, s_.B, s_.kv_len, s_.kv_heads, s_.dv};
    v_ = scaled_operand(c_, source, p_.schemes.v, a_.ranges.v, tally(2));
    v_.codes = c_.allocate(static_cast<std::size_t>(code_bytes(s_.B * s_.kv_heads * s_.dv_p * v_tokens_, a_.pv.b)));
    cast_transposed(job_of(v_, source, a_.pv.b, false), v_.codes.get(), s_.dv_p, v_tokens_, block_, block_p_, c_);
    tap_codes(v_, source, TapPoint::v_codes);
    if (wants(sink_, TapPoint::v_dequantized)) sink_->take(TapPoint::v_dequantized, dequantized(v_, source));
  }

  /// Codes as the contract shows them, dense, in the storage of the scheme; and the job that made them.
  CastJob dense(const Operand& o, const Source& source, void* codes) {
    CastJob job = job_of(o, source, own(o.scheme.format), false);
    job.tally = nullptr;
    cast(o, job, codes, {source.T * source.H * source.D, source.H * source.D, source.D, source.T, source.D}, c_);
    return job;
  }

  void tap_codes(const Operand& o, const Source& source, TapPoint tap) {
    if (!wants(sink_, tap)) return;
    const DeviceTensor codes = c_.tensor(quant::storage(o.scheme.format), Shape{source.B, source.T, source.H, source.D});
    dense(o, source, codes.storage.get());
    sink_->take(tap, codes);
  }

  /// What the operand's codes stand for, in f32.
  DeviceTensor dequantized(const Operand& o, const Source& source) {
    const DeviceTensor result = c_.tensor(DType::f32, Shape{source.B, source.T, source.H, source.D});
    const auto codes = c_.allocate(static_cast<std::size_t>(code_bytes(result.shape.elements(), own(o.scheme.format))));
    dequantize_rows(dense(o, source, codes.get()), codes.get(), data<float>(result), c_.stream());
    return result;
  }

  static Number own(Format format) {
    if (format == Format::f32) return Number::f32;
    if (format == Format::bf16) return Number::bf16;
    return quant::is_integer(format) ? Number::s8 : format == Format::e4m3 ? Number::e4m3 : Number::e5m2;
  }

  const std::uint8_t* mask() const { return in_.key_mask.defined() ? data<const std::uint8_t>(in_.key_mask) : nullptr; }

  // --- taps ---

  void make_taps() {
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

  void hand_out_taps() {
    for (const auto& [point, t] : made_) sink_->take(point, t);
    if (context_.defined()) sink_->take(TapPoint::context, context_);
  }

  void context_tensor() {
    const Shape shape{s_.B, s_.q_len, s_.q_heads, s_.dv};
    output_ = c_.tensor(DType::f32, shape);
    if (s_.kv_len == 0) c_.clear(output_.storage.get(), static_cast<std::size_t>(shape.elements()) * 4);
    if (wants(sink_, TapPoint::context)) context_ = c_.tensor(DType::f32, shape);
  }

  // --- chunks ---

  void chunks() {
    const std::int64_t rows = std::min(s_.rows, size_.rows), width = static_cast<std::int64_t>(size_of(a_.scores));
    const std::int64_t pairs = s_.B * s_.kv_heads;
    const std::int64_t batches = 
        std::clamp<std::int64_t>(size_.bytes / (rows * s_.kv_p * width), 1, std::min<std::int64_t>(pairs, 16384));
    const std::int64_t lines = batches * rows, p_columns = std::max(s_.kv_p, v_tokens_);
    scores_ = c_.allocate(static_cast<std::size_t>(lines * s_.kv_p * width));
    p_codes_ = c_.allocate(static_cast<std::size_t>(code_bytes(lines * p_columns, a_.pv.a)));
    acc_ = c_.allocate(static_cast<std::size_t>(lines * s_.dv_p * 4));
    l_ = c_.array<float>(lines);
    if (p_.schemes.p.format == Format::uint8) {
      colsum_ = c_.array<std::int32_t>((whole_sums() ? pairs : batches) * s_.dv_p);
      if (whole_sums()) sum_columns(0, pairs, 0, v_tokens_);
    }
    if (running_) {
      m_ = c_.array<float>(lines);
      shrink_ = c_.array<float>(lines);
      sum_ = c_.array<float>(lines * s_.dv_p);
    }
    for (std::int64_t b = 0; b < pairs; b += batches)
      for (std::int64_t r = 0; r < s_.rows; r += rows) {
        RowChunk chunk{b, std::min(batches, pairs - b), r, std::min(rows, s_.rows - r), s_.kv_len, s_.kv_p,
                       s_.q_len, s_.kv_len, s_.q_heads, s_.kv_heads, p_.causal};
        if (raw_scores_ != nullptr) raw_scores(chunk);
        limit_keys(chunk);
        one_chunk(chunk);
      }
  }

  /// Keys that the chunk's rows can see: later ones are left out of both products.
  void limit_keys(RowChunk& chunk) const {
    if (!p_.causal) return;
    const std::int64_t first = chunk.first_row % s_.q_len;
    const std::int64_t last = first + chunk.rows > s_.q_len ? s_.q_len - 1 : first + chunk.rows - 1;
    chunk.keys = std::clamp<std::int64_t>(last + 1 + s_.kv_len - s_.q_len, 1, s_.kv_len);
    chunk.ld = padded(chunk.keys);
  }

  void scores(const RowChunk& chunk, void* dst, Number number) {
    GemmShape shape{a_.qk.a,     a_.qk.b, number,        chunk.rows, chunk.ld, s_.d_p, s_.d_p, s_.d_p, chunk.ld,
                    chunk.batches, s_.rows * s_.d_p, s_.kv_p * s_.d_p, chunk.rows * chunk.ld};
    shape.fast_accum = fast(a_.qk);
    const auto* q = static_cast<const std::byte*>(q_.codes.get()) +
                    code_bytes((chunk.first_batch * s_.rows + chunk.first_row) * s_.d_p, a_.qk.a);
    const auto* k = static_cast<const std::byte*>(k_.codes.get()) + code_bytes(chunk.first_batch * s_.kv_p * s_.d_p, a_.qk.b);
    a_.qk_name = gemms_.run(shape, {q, k, nullptr, dst}).implementation();
  }

  /// Tap scores_i32: a product of its own, over all keys. Its numbers are those of the chunk's where both exist.
  void raw_scores(const RowChunk& chunk) {
    if (a_.qk.acc != Number::s32) return;
    const auto raw = c_.array<std::int32_t>(chunk.batches * chunk.rows * chunk.ld);
    scores(chunk, raw.get(), Number::s32);
    scatter_i32(chunk, raw.get(), raw_scores_, c_.stream());
  }

  bool fast(const ProductTypes& types) const {
    return p_.fast_accum && size_of(types.a) == 1 && types.acc == Number::f32;
  }

  void one_chunk(const RowChunk& chunk) {
    scores(chunk, scores_.get(), a_.scores);
    const ProbScheme& scheme = p_.schemes.p;
    const Shape& bias = in_.bias.shape;
    const std::int64_t row = s_.q_len * s_.kv_len;
    const ScoreInputs inputs{scores_.get(),
                             a_.scores,
                             q_.scales,
                             k_.scales,
                             key_scales_.get(),
                             s_.kv_p,
                             p_.softmax_scale(),
                             p_.schemes.scores_storage == DType::bf16 && a_.scores != Number::bf16,
                             mask(),
                             in_.bias.defined() ? data<const float>(in_.bias) : nullptr,
                             in_.bias.defined() && bias[0] > 1 ? bias[1] * row : 0,
                             in_.bias.defined() && bias[1] > 1 ? row : 0,
                             sink_logits_.get()};
    const ProbJob job{scheme.format, a_.pv.a, scheme.effective_scale(), scheme.quantized_sum, p_codes_.get(), l_.get(),
                      reinterpret_cast<std::int64_t*>(counts_.get() + 9)};
    if (running_) {
      running_blocks(chunk, inputs, job);
    } else {
      softmax_rows(chunk, inputs, job, taps_, c_.stream());
      values(chunk, 0, chunk.ld, chunk.ld);
    }
    const FinishInputs last{running_ ? static_cast<const void*>(sum_.get()) : acc_.get(),
                            running_ ? Number::f32 : a_.pv.acc,
                            s_.dv_p,
                            running_ || !colsum_ ? nullptr : colsum_.get() + (whole_sums() ? chunk.first_batch * s_.dv_p : 0),
                            v_.scales,
                            l_.get(),
                            scheme.effective_scale(),
                            p_.gate && p_.gate->site == GateSite::output ? data<const float>(gate_) : nullptr,
                            s_.dv};
    finish_rows(chunk, last, context_.defined() ? data<float>(context_) : nullptr, data<float>(output_), c_.stream());
  }

  /// acc = P . V over `width` positions of V from `begin`; P [batches, rows, ld_p].
  void values(const RowChunk& chunk, std::int64_t begin, std::int64_t width, std::int64_t ld_p) {
    GemmShape shape{a_.pv.a,       a_.pv.b,           a_.pv.acc,         chunk.rows,          s_.dv_p, width, ld_p, v_tokens_, s_.dv_p,
                    chunk.batches, chunk.rows * ld_p, s_.dv_p * v_tokens_, chunk.rows * s_.dv_p};
    shape.fast_accum = fast(a_.pv);
    const std::int64_t first = chunk.first_batch * s_.dv_p * v_tokens_;
    const auto* v = static_cast<const std::byte*>(v_.codes.get()) + code_bytes(first + begin, a_.pv.b);
    a_.pv_name = gemms_.run(shape, {p_codes_.get(), v, nullptr, acc_.get()}).implementation();
    if (colsum_ && !whole_sums()) sum_columns(first, chunk.batches, begin, begin + width);
  }

  /// Every product takes all of V: its columns are summed once.
  bool whole_sums() const { return !running_ && !p_.causal; }

  void sum_columns(std::int64_t first, std::int64_t batches, std::int64_t begin, std::int64_t end) {
    column_sums(static_cast<const std::int8_t*>(v_.codes.get()) + first, batches, s_.dv_p, v_tokens_, begin, end,
                colsum_.get(), c_.stream());
  }

  void running_blocks(const RowChunk& chunk, const ScoreInputs& inputs, const ProbJob& job) {
    const RunningState state{m_.get(), l_.get(), shrink_.get()};
    running_start(chunk, inputs, state, c_.stream());
    const std::int64_t blocks = (chunk.keys + block_ - 1) / block_;
    const bool reverse = p_.schemes.p.reference == PReference::running_reverse;
    for (std::int64_t n = 0; n < blocks; ++n) {
      const std::int64_t at = reverse ? blocks - 1 - n : n, begin = at * block_;
      running_block(chunk, inputs, job, taps_, state, begin, std::min(begin + block_, chunk.keys), block_p_, c_.stream());
      values(chunk, at * block_p_, block_p_, block_p_);
      accumulate_block(acc_.get(), a_.pv.acc, colsum_.get(), shrink_.get(), sum_.get(), chunk.batches, chunk.rows, s_.dv_p,
                       n == 0, c_.stream());
    }
    running_finish(chunk, inputs, job, taps_, state, c_.stream());
  }

  AttentionResult finish() {
    AttentionResult result;
    result.output = rounded(output_);
    if (wants(sink_, TapPoint::output)) sink_->take(TapPoint::output, result.output);
    const std::vector<std::uint64_t> all = c_.fetched(counts_.get(), 9 + s_.B * s_.q_heads * 3);
    const auto counts = [&](std::size_t i) { return static_cast<std::int64_t>(all[9 + i]); };
    result.probs.resize(static_cast<std::size_t>(s_.B * s_.q_heads));
    for (std::size_t i = 0; i < result.probs.size(); ++i) {
      result.probs[i] = {counts(3 * i), counts(3 * i + 1), counts(3 * i + 2)};
      if (s_.kv_len == 0) result.probs[i].masked_rows = s_.q_len;
      result.p.elements += result.probs[i].visible;
      result.p.flushed += result.probs[i].zero_codes;
    }
    result.q = counts_of(q_, all.data());
    result.k = counts_of(k_, all.data() + 3);
    result.v = counts_of(v_, all.data() + 6);
    return result;
  }

  /// The output scheme: quantize and back.
  DeviceTensor rounded(const DeviceTensor& x) {
    if (p_.schemes.output.format == Format::f32) return x;
    const Source source{data<const float>(x), s_.B, s_.q_len, s_.q_heads, s_.dv};
    return dequantized(scaled_operand(c_, source, p_.schemes.output, a_.ranges.output, nullptr), source);
  }

  Context& c_;
  GemmCache& gemms_;
  GpuAttention& a_;
  const AttentionProblem& p_;
  const AttentionInputs& in_;
  TapSink* sink_;
  const ChunkSize size_;
  const Sizes s_;
  Operand q_, k_, v_;
  DeviceTensor gate_, gated_, context_, output_;
  std::shared_ptr<float> smooth_, sink_logits_, key_scales_, l_, m_, shrink_, sum_;
  std::shared_ptr<void> scores_, p_codes_, acc_;
  std::shared_ptr<std::int32_t> colsum_;
  std::shared_ptr<std::uint64_t> counts_;  ///< tallies of q, k, v, three each, then of P by (window, head): one copy at the end
  std::vector<std::pair<TapPoint, DeviceTensor>> made_;
  ScoreTaps taps_;
  std::int32_t* raw_scores_ = nullptr;
  bool running_ = false;
  std::int64_t block_ = 1, blocks_ = 0, block_p_ = 16, v_tokens_ = 16;
};

}  // namespace

std::unique_ptr<PreparedAttention> GpuBackend::prepare(const AttentionProblem& problem, const AttentionRanges& ranges) {
  validate(problem);
  return std::make_unique<GpuAttention>(problem, ranges, context().capability());
}

AttentionResult GpuBackend::attention(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* sink) {
  return Run(context(), gemms(), dynamic_cast<GpuAttention&>(prepared), inputs, sink, chunk_)();
}

}  // namespace qfid::kernels::gpu
