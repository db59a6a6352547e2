// The attention contract as loops: one query row at a time.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/host/operands.h"
#include "kernels/reference/backend.h"
#include "kernels/reference/products.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::reference {

using quant::Format;
using quant::Tensor;
using quant::View;

namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

class ReferenceAttention : public PreparedAttention {
 public:
  ReferenceAttention(const AttentionProblem& p, const AttentionRanges& r) : ranges(r), problem_(p) {}
  const AttentionProblem& problem() const override { return problem_; }
  std::string implementation() const override { return "reference:loops"; }
  AttentionRanges ranges;

 private:
  AttentionProblem problem_;
};

/// Tensors kept for a listener; empty ones aren't wanted.
struct Taps {
  Tensor scores_i32, scores, probs, p_codes, lse;
  static Taps wanted(const TapSink* sink, const Shape& all, const AttentionProblem& p) {
    Taps taps;
    const DType code = quant::storage(p.schemes.p.format);
    if (quant::is_integer(p.schemes.q.format) && p.mode == ExecutionMode::real && wants(sink, TapPoint::scores_i32))
      taps.scores_i32 = Tensor::zeros(DType::i32, all);
    if (wants(sink, TapPoint::scores)) taps.scores = Tensor::zeros(DType::f32, all);
    if (wants(sink, TapPoint::probs)) taps.probs = Tensor::zeros(DType::f32, all);
    if (wants(sink, TapPoint::p_codes)) taps.p_codes = Tensor::zeros(code, all);
    if (wants(sink, TapPoint::lse)) taps.lse = Tensor::zeros(DType::f32, Shape{all[0], all[1], all[2]});
    return taps;
  }
  void hand_out(TapSink* sink) {
    const auto give = [&](TapPoint point, Tensor& tensor) {
      if (!tensor.empty()) sink->take(point, host::adopt(std::move(tensor)));
    };
    give(TapPoint::scores_i32, scores_i32);
    give(TapPoint::scores, scores);
    give(TapPoint::probs, probs);
    give(TapPoint::p_codes, p_codes);
    give(TapPoint::lse, lse);
  }
};

class HeadLoop {
 public:
  HeadLoop(const AttentionProblem& p, const host::AttentionOperands& o)
      : p_(p),
        o_(o),
        emulated_(p.mode == ExecutionMode::emulated),
        q_(emulated_ ? host::dequantized(o.q) : host::expanded(o.q)),
        k_(emulated_ ? host::dequantized(o.k) : host::expanded(o.k)),
        v_(emulated_ ? host::dequantized(o.v) : host::expanded(o.v)) {}

  void run(std::int64_t b, std::int64_t h, Taps& taps, Tensor& context, ProbCounts& counts) const {
    const std::int64_t kv = o_.kv_len, kv_head = h / (p_.q_heads / p_.kv_heads);
    std::vector<float> keys(static_cast<std::size_t>(p_.head_dim * kv));  // [d, kv]
    for (std::int64_t j = 0; j < kv; ++j)
      for (std::int64_t d = 0; d < p_.head_dim; ++d)
        keys[static_cast<std::size_t>(d * kv + j)] =
            k_.view<float>()[((b * kv + j) * p_.kv_heads + kv_head) * p_.head_dim + d];
    std::vector<float> values(static_cast<std::size_t>(kv * p_.v_head_dim));  // [kv, d_v]
    for (std::int64_t j = 0; j < kv; ++j)
      std::copy_n(v_.view<float>().data() + ((b * kv + j) * p_.kv_heads + kv_head) * p_.v_head_dim, p_.v_head_dim,
                  values.data() + j * p_.v_head_dim);
    for (std::int64_t i = 0; i < o_.q_len; ++i) row(b, h, i, kv_head, keys, values, taps, context, counts);
  }

 private:
  std::vector<float> scores(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t kv_head,
                            const std::vector<float>& keys, Taps& taps, std::int64_t tap_row) const {
    const std::int64_t kv = o_.kv_len, d = p_.head_dim;
    std::vector<double> sum(static_cast<std::size_t>(kv));
    const float* q = q_.view<float>().data() + ((b * o_.q_len + i) * p_.q_heads + h) * d;
    for (std::int64_t c = 0; c < d; ++c) axpy(static_cast<double>(q[c]), keys.data() + c * kv, sum.data(), kv);
    std::vector<float> s(static_cast<std::size_t>(kv));
    const float c = p_.softmax_scale();
    const float* bias = o_.bias_row(b, h, i);
    for (std::int64_t j = 0; j < kv; ++j) {
      const auto n = static_cast<std::size_t>(j);
      const float scale = emulated_ ? c : (o_.q.scale_at(b, i, h) * o_.k.scale_at(b, j, kv_head)) * c;
      if (!taps.scores_i32.empty())
        taps.scores_i32.view<std::int32_t>()[tap_row * kv + j] = static_cast<std::int32_t>(sum[n]);
      s[n] = static_cast<float>(sum[n]) * scale;
      if (p_.schemes.scores_storage == DType::bf16) s[n] = quant::to_f32(quant::to_bf16(s[n]));
      if (bias != nullptr) s[n] += bias[j];
      const bool hidden = (p_.causal && j > i + kv - o_.q_len) || !o_.key_valid(b, j, kv);
      if (hidden) s[n] = minus_infinity;
    }
    return s;
  }

  /// Code of E and its value.
  std::pair<std::uint16_t, float> code(float e) const {
    const float scale = p_.schemes.p.effective_scale();
    switch (p_.schemes.p.format) {
      case Format::uint8:
      case Format::int8: {
        const float v = std::isnan(e) ? 0.0F : std::nearbyint(e * scale);
        return {static_cast<std::uint16_t>(v), v};
      }
      case Format::e4m3: {
        const quant::e4m3 v = quant::to_e4m3(e * scale);
        return {v.bits, quant::to_f32(v)};
      }
      case Format::e5m2: {
        const quant::e5m2 v = quant::to_e5m2(e * scale);
        return {v.bits, quant::to_f32(v)};
      }
      case Format::bf16: {
        const quant::bf16 v = quant::to_bf16(e);
        return {v.bits, quant::to_f32(v)};
      }
      default:
        return {0, e};
    }
  }

  void store_code(Taps& taps, std::int64_t at, std::pair<std::uint16_t, float> c) const {
    if (taps.p_codes.empty()) return;
    switch (taps.p_codes.dtype()) {
      case DType::f32:
        taps.p_codes.view<float>()[at] = c.second;
        break;
      case DType::bf16:
        taps.p_codes.view<quant::bf16>()[at].bits = c.first;
        break;
      default:
        taps.p_codes.raw()[at] = static_cast<std::byte>(c.first);
    }
  }

  void row(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t kv_head, const std::vector<float>& keys,
           const std::vector<float>& values, Taps& taps, Tensor& context, ProbCounts& counts) const {
    const std::int64_t kv = o_.kv_len, d = p_.v_head_dim, tap_row = (b * p_.q_heads + h) * o_.q_len + i;
    const std::vector<float> s = scores(b, h, i, kv_head, keys, taps, tap_row);
    if (!taps.scores.empty()) std::copy(s.begin(), s.end(), taps.scores.view<float>().data() + tap_row * kv);
    float* out = context.view<float>().data() + ((b * o_.q_len + i) * p_.q_heads + h) * d;
    std::fill_n(out, d, 0.0F);
    const bool has_sink = !o_.sink_logits.empty();
    const float sink = has_sink ? o_.sink_logits.view<float>()[tap_row] : minus_infinity;
    const std::int64_t visible = std::count_if(s.begin(), s.end(), [](float x) { return x != minus_infinity; });
    counts.visible += visible;
    if (visible == 0) {
      ++counts.masked_rows;
      if (!taps.lse.empty()) taps.lse.view<float>()[tap_row] = sink;
      return;
    }
    const ProbScheme& scheme = p_.schemes.p;
    const bool running = scheme.reference != PReference::row_max;
    const std::int64_t block = running ? scheme.block : kv, blocks = (kv + block - 1) / block;
    float m = sink, l = has_sink ? 1.0F : 0.0F;
    std::vector<double> sum(static_cast<std::size_t>(d));
    for (std::int64_t n = 0; n < blocks; ++n) {
      const std::int64_t begin = (scheme.reference == PReference::running_reverse ? blocks - 1 - n : n) * block;
      const std::int64_t end = std::min(begin + block, kv);
      const float top = *std::max_element(s.begin() + begin, s.begin() + end);
      if (std::all_of(s.begin() + begin, s.begin() + end, [](float x) { return x == minus_infinity; })) continue;
      const float m_new = std::max(m, top);
      if (m != minus_infinity) {
        const auto shrink = static_cast<float>(std::exp(static_cast<double>(m - m_new)));
        l *= shrink;
        for (std::int64_t c = 0; c < d; ++c) out[c] *= shrink;
      }
      m = m_new;
      std::fill(sum.begin(), sum.end(), 0.0);
      double part = 0;
      for (std::int64_t j = begin; j < end; ++j) {
        const float score = s[static_cast<std::size_t>(j)];
        if (score == minus_infinity) continue;
        const auto e = static_cast<float>(std::exp(static_cast<double>(score - m)));
        const auto c = code(e);
        counts.zero_codes += c.second == 0.0F;
        const bool by_code = scheme.quantized_sum && !std::isnan(e);  // integers code NaN as 0
        part += static_cast<double>(by_code ? c.second / scheme.effective_scale() : e);
        store_code(taps, tap_row * kv + j, c);
        const float weight = emulated_ ? c.second / scheme.effective_scale() : c.second;
        axpy(static_cast<double>(weight), values.data() + j * d, sum.data(), d);
      }
      l += static_cast<float>(part);
      for (std::int64_t c = 0; c < d; ++c) out[c] += static_cast<float>(sum[static_cast<std::size_t>(c)]);
    }
    finish_row(b, kv_head, s, m, l, taps, tap_row, out);
  }

  void finish_row(std::int64_t b, std::int64_t kv_head, const std::vector<float>& s, float m, float l, Taps& taps,
                  std::int64_t tap_row, float* out) const {
    const float denominator = emulated_ ? l : p_.schemes.p.effective_scale() * l;
    for (std::int64_t c = 0; c < p_.v_head_dim; ++c)
      out[c] = (emulated_ ? out[c] : out[c] * o_.v.scale_at(b, 0, kv_head, c)) / denominator;
    if (!taps.lse.empty())
      taps.lse.view<float>()[tap_row] = static_cast<float>(static_cast<double>(m) + std::log(static_cast<double>(l)));
    if (taps.probs.empty()) return;
    float* probs = taps.probs.view<float>().data() + tap_row * o_.kv_len;
    for (std::size_t j = 0; j < s.size(); ++j)
      if (s[j] != minus_infinity) probs[j] = static_cast<float>(std::exp(static_cast<double>(s[j] - m))) / l;
  }

  const AttentionProblem& p_;
  const host::AttentionOperands& o_;
  bool emulated_;
  const Tensor q_, k_, v_;
};

}  // namespace

std::unique_ptr<PreparedAttention> ReferenceBackend::prepare(const AttentionProblem& problem,
                                                             const AttentionRanges& ranges) {
  validate(problem);
  return std::make_unique<ReferenceAttention>(problem, ranges);
}

AttentionResult ReferenceBackend::attention(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* sink) {
  auto& a = dynamic_cast<ReferenceAttention&>(prepared);
  const AttentionProblem& p = a.problem();
  const host::AttentionOperands o = host::prepare_operands(p, a.ranges, inputs, sink);
  AttentionResult result;
  result.probs.resize(static_cast<std::size_t>(o.batch * p.q_heads));
  result.q = o.q.counts;
  result.k = o.k.counts;
  result.v = o.v.counts;
  Taps taps = Taps::wanted(sink, Shape{o.batch, p.q_heads, o.q_len, o.kv_len}, p);
  Tensor context(DType::f32, Shape{o.batch, o.q_len, p.q_heads, p.v_head_dim});
  const HeadLoop loop(p, o);
  quant::FirstError error;
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < o.batch * p.q_heads; ++i)
    error.guard([&] { loop.run(i / p.q_heads, i % p.q_heads, taps, context, result.probs[static_cast<std::size_t>(i)]); });
  error.rethrow();
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

}  // namespace qfid::kernels::reference
