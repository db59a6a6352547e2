#include "kernels/host/operands.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace qfid::kernels::host {

using quant::Tensor;
using quant::View;

namespace {

void check(bool ok, const char* what, const Shape& found, const std::string& expected) {
  quant::require(ok, "attention: " + std::string(what) + " is " + found.to_string() + ", expected " + expected);
}

Tensor gate_values(const AttentionInputs& inputs, const AttentionProblem& problem, std::int64_t batch, std::int64_t kv_len) {
  const auto logits = view<float>(inputs.gate_logits);
  check(logits.shape() == Shape{batch, kv_len, problem.gates()}, "gate_logits", logits.shape(), "[B, kv_len, gates]");
  Tensor gate(DType::f32, logits.shape());
  const auto g = gate.view<float>();
  for (std::int64_t i = 0; i < g.size(); ++i)
    g[i] = static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(logits[i]))));
  return gate;
}

Tensor gated_values(View<const float> v, View<const float> gate) {
  Tensor gated(DType::f32, v.shape());
  const auto out = gated.view<float>();
  for (std::int64_t r = 0; r < v.rows(); ++r)
    for (std::int64_t d = 0; d < v.columns(); ++d) out[r * v.columns() + d] = gate[r] * v[r * v.columns() + d];
  return gated;
}

/// Mean of K over the valid tokens, per window and head: [B, H, D], in double, rounded once.
std::vector<float> key_means(View<const float> k, const std::uint8_t* mask) {
  const Shape& s = k.shape();
  std::vector<float> means;
  for (std::int64_t b = 0; b < s[0]; ++b)
    for (std::int64_t h = 0; h < s[2]; ++h)
      for (std::int64_t d = 0; d < s[3]; ++d) {
        double sum = 0, n = 0;
        for (std::int64_t t = 0; t < s[1]; ++t)
          if (mask == nullptr || mask[b * s[1] + t] != 0) {
            sum += static_cast<double>(k[((b * s[1] + t) * s[2] + h) * s[3] + d]);
            n += 1;
          }
        means.push_back(n > 0 ? static_cast<float>(sum / n) : 0.0F);
      }
  return means;
}

Tensor smoothed(View<const float> k, const std::vector<float>& means) {
  const Shape& s = k.shape();
  Tensor result(DType::f32, s);
  const auto out = result.view<float>();
  for (std::int64_t r = 0; r < k.rows(); ++r) {
    const std::int64_t b = r / (s[1] * s[2]), h = r % s[2];
    for (std::int64_t d = 0; d < s[3]; ++d)
      out[r * s[3] + d] = k[r * s[3] + d] - means[static_cast<std::size_t>((b * s[2] + h) * s[3] + d)];
  }
  return result;
}

Tensor sink_logits(const AttentionProblem& problem, const AttentionInputs& inputs, View<const float> q,
                   const std::vector<float>& means) {
  const Shape& s = q.shape();
  const auto sink = view<float>(inputs.sink);
  check(sink.size() == problem.q_heads, "sink", sink.shape(), "[q_heads]");
  Tensor result(DType::f32, Shape{s[0], s[2], s[1]});
  const auto out = result.view<float>();
  const std::int64_t group = problem.q_heads / problem.kv_heads;
  for (std::int64_t b = 0; b < s[0]; ++b)
    for (std::int64_t h = 0; h < s[2]; ++h)
      for (std::int64_t i = 0; i < s[1]; ++i) {
        double lowered = 0;
        for (std::int64_t d = 0; !means.empty() && d < s[3]; ++d)
          lowered += static_cast<double>(q[((b * s[1] + i) * s[2] + h) * s[3] + d]) *
                     static_cast<double>(means[static_cast<std::size_t>((b * problem.kv_heads + h / group) * s[3] + d)]);
        out[(b * s[2] + h) * s[1] + i] =
            static_cast<float>(static_cast<double>(sink[h]) - lowered * static_cast<double>(problem.softmax_scale()));
      }
  return result;
}

DeviceTensor copy_of(const Tensor& tensor) { return adopt(tensor.clone()); }

}  // namespace

Tensor expanded(const Operand& operand) {
  Tensor result(DType::f32, operand.codes.shape());
  const auto out = result.view<float>();
  switch (operand.codes.dtype()) {
    case DType::e4m3:
      quant::expand(operand.codes.view<quant::e4m3>().span(), out.span());
      break;
    case DType::e5m2:
      quant::expand(operand.codes.view<quant::e5m2>().span(), out.span());
      break;
    case DType::bf16:
      quant::expand(operand.codes.view<quant::bf16>().span(), out.span());
      break;
    case DType::i8: {
      const auto codes = operand.codes.view<std::int8_t>();
      for (std::int64_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(codes[i]);
      break;
    }
    case DType::u8: {
      const auto codes = operand.codes.view<std::uint8_t>();
      const Shape& s = operand.codes.shape();
      for (std::int64_t i = 0; i < out.size(); ++i) {
        const std::int64_t d = i % s[3], h = i / s[3] % s[2], t = i / (s[3] * s[2]) % s[1], b = i / (s[3] * s[2] * s[1]);
        out[i] = static_cast<float>(codes[i] - operand.zero_at(b, t, h, d));
      }
      break;
    }
    default:
      std::copy_n(operand.codes.view<float>().data(), out.size(), out.data());
  }
  return result;
}

Tensor dequantized(const Operand& operand) {
  Tensor result = expanded(operand);
  if (operand.scale.empty()) return result;
  const auto out = result.view<float>();
  const Shape& s = result.shape();
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < out.rows(); ++r) {
    const std::int64_t h = r % s[2], t = r / s[2] % s[1], b = r / (s[2] * s[1]);
    for (std::int64_t d = 0; d < s[3]; ++d) out[r * s[3] + d] *= operand.scale_at(b, t, h, d);
  }
  return result;
}

Operand as_numbers(const Operand& operand) {
  Operand numbers;
  numbers.codes = dequantized(operand);
  return numbers;
}

const float* AttentionOperands::bias_row(std::int64_t b, std::int64_t h, std::int64_t i) const {
  if (bias.size() == 0) return nullptr;
  const Shape& s = bias.shape();
  return bias.data() + (((s[0] == 1 ? 0 : b) * s[1] + (s[1] == 1 ? 0 : h)) * s[2] + i) * s[3];
}

AttentionOperands prepare_operands(const AttentionProblem& problem, const AttentionRanges& ranges,
                                   const AttentionInputs& inputs, TapSink* taps) {
  const auto q = view<float>(inputs.q), k = view<float>(inputs.k), v = view<float>(inputs.v);
  check(q.shape().rank() == 4 && q.shape()[2] == problem.q_heads && q.shape()[3] == problem.head_dim, "q", q.shape(),
        "[B, q_len, q_heads, head_dim]");
  AttentionOperands o;
  o.batch = q.shape()[0];
  o.q_len = q.shape()[1];
  o.kv_len = k.shape()[1];
  check(k.shape() == Shape{o.batch, o.kv_len, problem.kv_heads, problem.head_dim}, "k", k.shape(),
        "[B, kv_len, kv_heads, head_dim]");
  check(v.shape() == Shape{o.batch, o.kv_len, problem.kv_heads, problem.v_head_dim}, "v", v.shape(),
        "[B, kv_len, kv_heads, v_head_dim]");
  check_keys(problem, o.kv_len);
  if (inputs.key_mask.defined()) {
    check(inputs.key_mask.shape == Shape{o.batch, o.kv_len}, "key_mask", inputs.key_mask.shape, "[B, kv_len]");
    o.key_mask = view<std::uint8_t>(inputs.key_mask).data();
  }
  if (inputs.bias.defined()) {
    const Shape& s = inputs.bias.shape;
    check(s.rank() == 4 && (s[0] == 1 || s[0] == o.batch) && (s[1] == 1 || s[1] == problem.q_heads) && s[2] == o.q_len &&
              s[3] == o.kv_len,
          "bias", s, "[1|B, 1|q_heads, q_len, kv_len]");
    o.bias = view<float>(inputs.bias);
  }
  std::vector<float> means;
  if (problem.schemes.smooth_k) means = key_means(k, o.key_mask);
  if (problem.learnable_sink) o.sink_logits = sink_logits(problem, inputs, q, means);
  Tensor gated, smooth;
  if (problem.gate) {
    o.gate = gate_values(inputs, problem, o.batch, o.kv_len);
    if (problem.gate->site == GateSite::value) gated = gated_values(v, std::as_const(o.gate).view<float>());
    if (wants(taps, TapPoint::gate)) taps->take(TapPoint::gate, copy_of(o.gate));
    if (wants(taps, TapPoint::v_gated)) taps->take(TapPoint::v_gated, gated.empty() ? inputs.v : copy_of(gated));
  }
  if (!means.empty()) smooth = smoothed(k, means);
  const OperandSource sources[] = {{q, problem.schemes.q, ranges.q},
                                   {smooth.empty() ? k : std::as_const(smooth).view<float>(), problem.schemes.k, ranges.k},
                                   {gated.empty() ? v : std::as_const(gated).view<float>(), problem.schemes.v, ranges.v}};
  std::vector<Operand> operands = quantize_operands(sources);
  o.q = std::move(operands[0]);
  o.k = std::move(operands[1]);
  o.v = std::move(operands[2]);
  if (wants(taps, TapPoint::q_codes)) taps->take(TapPoint::q_codes, copy_of(o.q.codes));
  if (wants(taps, TapPoint::k_codes)) taps->take(TapPoint::k_codes, copy_of(o.k.codes));
  if (wants(taps, TapPoint::v_codes)) taps->take(TapPoint::v_codes, copy_of(o.v.codes));
  if (wants(taps, TapPoint::v_dequantized)) taps->take(TapPoint::v_dequantized, adopt(dequantized(o.v)));
  return o;
}

void finish_output(const AttentionProblem& problem, const AttentionRanges& ranges, const AttentionOperands& o,
                   Tensor& context) {
  const auto out = context.view<float>();
  const std::int64_t d = problem.v_head_dim;
  if (problem.gate && problem.gate->site == GateSite::output) {
    quant::require(o.q_len <= o.kv_len, "attention: q_len is " + std::to_string(o.q_len) + ", kv_len " +
                                            std::to_string(o.kv_len) +
                                            ": an output-site gate reads row i + kv_len - q_len, expected q_len <= kv_len");
    const auto gate = o.gate.view<float>();
    for (std::int64_t r = 0; r < out.rows(); ++r) {
      const std::int64_t h = r % problem.q_heads, i = r / problem.q_heads % o.q_len, b = r / (problem.q_heads * o.q_len);
      const float g = gate[(b * o.kv_len + i + o.kv_len - o.q_len) * problem.q_heads + h];
      for (std::int64_t c = 0; c < d; ++c) out[r * d + c] *= g;
    }
  }
  if (problem.schemes.output.format == quant::Format::f32) return;
  context = dequantized(quantize_operand(std::as_const(context).view<float>(), problem.schemes.output, ranges.output));
}

}  // namespace qfid::kernels::host
