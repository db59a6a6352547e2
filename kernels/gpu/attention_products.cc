// Attention as two products of cuBLASLt with a row pass between them. Q, K and V are cast into the layouts the products want
// (heads apart, padded to 16; V transposed); then, chunk by chunk of (window, key head) pairs and query rows: S = Q.K^T, the
// row pass (kernels/gpu/softmax.h), P.V, the output's scales and gate. Scales of Q, K and V are left out of the products and
// folded into our kernels.
#include <algorithm>

#include "kernels/gpu/attention_call.h"

namespace qfid::kernels::gpu {

using quant::Format;

namespace {

class ProductsCall : public AttentionCall {
 public:
  ProductsCall(Context& context, GemmCache& gemms, GpuAttention& attention, const AttentionInputs& inputs, TapSink* sink,
               const ChunkSize& chunk)
      : AttentionCall(context, attention, inputs, sink), gemms_(gemms), size_(chunk) {}

 private:
  OperandLayout layout() const override { return {s_.q_len, s_.kv_p, s_.d_p, 0}; }
  void cast_values(const Source& v) override;
  void compute() override;
  void limit_keys(RowChunk& chunk) const;
  void scores(const RowChunk& chunk, void* dst, Number number);
  void raw_scores(const RowChunk& chunk);
  bool fast(const ProductTypes& types) const;
  void one_chunk(const RowChunk& chunk);
  void values(const RowChunk& chunk, std::int64_t begin, std::int64_t width, std::int64_t ld_p);
  bool whole_sums() const;
  void sum_columns(std::int64_t first, std::int64_t batches, std::int64_t begin, std::int64_t end);
  void running_blocks(const RowChunk& chunk, const ScoreInputs& inputs, const ProbJob& job);

  GemmCache& gemms_;
  const ChunkSize size_;
  std::shared_ptr<float> l_, m_, shrink_, sum_;
  std::shared_ptr<void> scores_, p_codes_, acc_;
  std::shared_ptr<std::int32_t> colsum_;
  bool running_ = false;
  std::int64_t block_ = 1, block_p_ = 16, v_tokens_ = 16;
};

void ProductsCall::cast_values(const Source& v) {
  const ProbScheme& scheme = p_.schemes.p;
  running_ = !by_row_max(scheme, s_.kv_len);
  block_ = running_ ? scheme.block : std::max<std::int64_t>(1, s_.kv_len);
  const std::int64_t blocks = (s_.kv_len + block_ - 1) / block_;
  block_p_ = running_ ? padded(block_) : s_.kv_p;
  v_tokens_ = blocks * block_p_;
  v_.codes = c_.allocate(static_cast<std::size_t>(code_bytes(s_.B * s_.kv_heads * s_.dv_p * v_tokens_, a_.pv.b)));
  cast_transposed(job_of(v_, v, a_.pv.b, false), v_.codes.get(), s_.dv_p, v_tokens_, block_, block_p_, c_);
}

void ProductsCall::compute() {
  // A running reference goes block by block through the keys: its chunks would be many small products.
  const std::int64_t rows = rows_at_once(s_, p_.causal && !running_, size_.rows),
                     width = static_cast<std::int64_t>(size_of(a_.scores));
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
      RowChunk chunk{b,          std::min(batches, pairs - b),
                     r,          std::min(rows, s_.rows - r),
                     s_.kv_len,  s_.kv_p,
                     s_.q_len,   s_.kv_len,
                     s_.q_heads, s_.kv_heads,
                     p_.causal};
      if (raw_scores_ != nullptr) raw_scores(chunk);
      limit_keys(chunk);
      one_chunk(chunk);
    }
}

/// Keys that the chunk's rows can see: later ones are left out of both products.
void ProductsCall::limit_keys(RowChunk& chunk) const {
  if (!p_.causal) return;
  const std::int64_t first = chunk.first_row % s_.q_len;
  const std::int64_t last = first + chunk.rows > s_.q_len ? s_.q_len - 1 : first + chunk.rows - 1;
  chunk.keys = std::clamp<std::int64_t>(last + 1 + s_.kv_len - s_.q_len, 1, s_.kv_len);
  chunk.ld = padded(chunk.keys);
}

void ProductsCall::scores(const RowChunk& chunk, void* dst, Number number) {
  GemmShape shape{
      a_.qk.a,       a_.qk.b,          number,           chunk.rows,           chunk.ld, s_.d_p, s_.d_p, s_.d_p, chunk.ld,
      chunk.batches, s_.rows * s_.d_p, s_.kv_p * s_.d_p, chunk.rows * chunk.ld};
  shape.fast_accum = fast(a_.qk);
  const auto* q = static_cast<const std::byte*>(q_.codes.get()) +
                  code_bytes((chunk.first_batch * s_.rows + chunk.first_row) * s_.d_p, a_.qk.a);
  const auto* k = static_cast<const std::byte*>(k_.codes.get()) + code_bytes(chunk.first_batch * s_.kv_p * s_.d_p, a_.qk.b);
  a_.qk_name = gemms_.run(shape, {q, k, nullptr, dst}).implementation();
}

/// Tap scores_i32: a product of its own, over all keys. Its numbers are those of the chunk's where both exist.
void ProductsCall::raw_scores(const RowChunk& chunk) {
  if (a_.qk.acc != Number::s32) return;
  const auto raw = c_.array<std::int32_t>(chunk.batches * chunk.rows * chunk.ld);
  scores(chunk, raw.get(), Number::s32);
  scatter_i32(chunk, raw.get(), raw_scores_, c_.stream());
}

bool ProductsCall::fast(const ProductTypes& types) const {
  return p_.fast_accum && size_of(types.a) == 1 && types.acc == Number::f32;
}

void ProductsCall::one_chunk(const RowChunk& chunk) {
  scores(chunk, scores_.get(), a_.scores);
  const ProbScheme& scheme = p_.schemes.p;
  ScoreInputs inputs = score_inputs();
  inputs.acc = scores_.get();
  const ProbJob job{scheme.format, a_.pv.a,      scheme.effective_scale(), scheme.quantized_sum, p_codes_.get(),
                    l_.get(),      prob_counts()};
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
                          output_gate(),
                          s_.dv};
  finish_rows(chunk, last, context_.defined() ? data<float>(context_) : nullptr, data<float>(output_), c_.stream());
}

/// acc = P . V over `width` positions of V from `begin`; P [batches, rows, ld_p].
void ProductsCall::values(const RowChunk& chunk, std::int64_t begin, std::int64_t width, std::int64_t ld_p) {
  GemmShape shape{
      a_.pv.a,       a_.pv.b,           a_.pv.acc,           chunk.rows,          s_.dv_p, width, ld_p, v_tokens_, s_.dv_p,
      chunk.batches, chunk.rows * ld_p, s_.dv_p * v_tokens_, chunk.rows * s_.dv_p};
  shape.fast_accum = fast(a_.pv);
  const std::int64_t first = chunk.first_batch * s_.dv_p * v_tokens_;
  const auto* v = static_cast<const std::byte*>(v_.codes.get()) + code_bytes(first + begin, a_.pv.b);
  a_.pv_name = gemms_.run(shape, {p_codes_.get(), v, nullptr, acc_.get()}).implementation();
  if (colsum_ && !whole_sums()) sum_columns(first, chunk.batches, begin, begin + width);
}

/// Every product takes all of V: its columns are summed once.
bool ProductsCall::whole_sums() const { return !running_ && !p_.causal; }

void ProductsCall::sum_columns(std::int64_t first, std::int64_t batches, std::int64_t begin, std::int64_t end) {
  column_sums(static_cast<const std::int8_t*>(v_.codes.get()) + first, batches, s_.dv_p, v_tokens_, begin, end,
              colsum_.get(), c_.stream());
}

void ProductsCall::running_blocks(const RowChunk& chunk, const ScoreInputs& inputs, const ProbJob& job) {
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

}  // namespace

std::unique_ptr<AttentionCall> call_of_products(Context& context, GemmCache& gemms, GpuAttention& attention,
                                                const AttentionInputs& inputs, TapSink* sink, const ChunkSize& chunk) {
  return std::make_unique<ProductsCall>(context, gemms, attention, inputs, sink, chunk);
}

}  // namespace qfid::kernels::gpu
