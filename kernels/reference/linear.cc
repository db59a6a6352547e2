#include <algorithm>
#include <vector>

#include "kernels/host/operands.h"
#include "kernels/reference/backend.h"
#include "kernels/reference/products.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::reference {

using quant::Tensor;
using quant::View;

namespace {

/// Weights as numbers (codes without scales; with them when emulated), transposed to [in, out] for the inner loop.
class ReferenceLinear : public PreparedLinear {
 public:
  ReferenceLinear(const LinearProblem& p, const LinearWeights& w) : problem_(p), ranges(w.activation_ranges) {
    quant::require(w.weight.shape() == Shape{p.out, p.in}, "linear: weight is " + w.weight.shape().to_string());
    const Shape four{1, p.out, 1, p.in};
    quantized = quant::quantize(w.weight.reshaped(four), p.weights, quant::Role::weight);
    if (quant::is_scaled(p.weights.format)) granules = quant::granules(four, p.weights, quant::Role::weight);
    const bool emulated = p.mode == ExecutionMode::emulated;
    Tensor numbers(DType::f32, four);
    if (emulated || !quant::is_scaled(p.weights.format)) {
      quant::dequantize(quantized, quant::Role::weight, numbers.view<float>());
    } else {
      quant::QuantizedTensor unscaled{p.weights, quantized.codes.clone(), Tensor(DType::f32, granules.scale_shape), {}, {}};
      std::fill_n(unscaled.scales.view<float>().data(), granules.scale_shape.elements(), 1.0F);
      quant::dequantize(unscaled, quant::Role::weight, numbers.view<float>());
    }
    transposed = Tensor(DType::f32, Shape{p.in, p.out});
    for (std::int64_t o = 0; o < p.out; ++o)
      for (std::int64_t i = 0; i < p.in; ++i) transposed.view<float>()[i * p.out + o] = numbers.view<float>()[o * p.in + i];
    bias.assign(static_cast<std::size_t>(p.out), 0.0F);
    if (w.bias.size() > 0) std::copy_n(w.bias.data(), p.out, bias.begin());
  }

  const LinearProblem& problem() const override { return problem_; }
  std::string implementation() const override { return "reference:loops"; }

  float weight_scale(std::int64_t o, std::int64_t i) const {
    if (problem_.mode == ExecutionMode::emulated || quantized.scales.empty()) return 1.0F;
    const std::int64_t index = o / granules.step[1] * granules.scale_shape[3] + i / granules.step[3];
    return quantized.scales.view<float>()[index];
  }
  /// Length of a run of inputs over which neither operand's scale changes.
  std::int64_t run_length() const {
    if (problem_.mode == ExecutionMode::emulated) return problem_.in;
    std::int64_t run = problem_.in;
    if (!quantized.scales.empty()) run = std::min(run, granules.step[3]);
    if (problem_.activations.granularity.kind == quant::GranularityKind::group)
      run = std::min(run, problem_.activations.granularity.m);
    return run;
  }

  LinearProblem problem_;
  std::vector<quant::Range> ranges;
  quant::QuantizedTensor quantized;
  quant::Granules granules{};
  Tensor transposed;
  std::vector<float> bias;
};

void one_row(const ReferenceLinear& w, const float* x, const host::Operand& operand, std::int64_t b, std::int64_t t,
             float* out) {
  const LinearProblem& p = w.problem();
  const bool emulated = p.mode == ExecutionMode::emulated;
  const std::int64_t run = w.run_length();
  const auto weights = w.transposed.view<float>();
  std::vector<double> sum(static_cast<std::size_t>(p.out));
  std::fill_n(out, p.out, 0.0F);
  for (std::int64_t begin = 0; begin < p.in; begin += run) {
    std::fill(sum.begin(), sum.end(), 0.0);
    const std::int64_t end = std::min(begin + run, p.in);
    for (std::int64_t i = begin; i < end; ++i)
      if (x[i] != 0.0F) axpy(static_cast<double>(x[i]), weights.data() + i * p.out, sum.data(), p.out);
    const float scale = emulated ? 1.0F : operand.scale_at(b, t, 0, begin);
    for (std::int64_t o = 0; o < p.out; ++o)
      out[o] += static_cast<float>(sum[static_cast<std::size_t>(o)]) * (scale * w.weight_scale(o, begin));
  }
  for (std::int64_t o = 0; o < p.out; ++o) out[o] += w.bias[static_cast<std::size_t>(o)];
}

}  // namespace

std::unique_ptr<PreparedLinear> ReferenceBackend::prepare(const LinearProblem& problem, const LinearWeights& weights) {
  validate(problem);
  return std::make_unique<ReferenceLinear>(problem, weights);
}

DeviceTensor ReferenceBackend::linear(PreparedLinear& prepared, const DeviceTensor& src, quant::CodeCounts* counts) {
  auto& w = dynamic_cast<ReferenceLinear&>(prepared);
  const LinearProblem& p = w.problem();
  const Shape& s = src.shape;
  quant::require(s.rank() == 3 && s[2] == p.in,
                 "linear: src is " + s.to_string() + ", expected [B, T, " + std::to_string(p.in) + "]");
  const host::Operand operand =
      host::quantize_operand(host::view<float>(src).reshaped(Shape{s[0], s[1], 1, s[2]}), p.activations, w.ranges);
  if (counts != nullptr) *counts += operand.counts;
  const Tensor numbers = p.mode == ExecutionMode::emulated ? host::dequantized(operand) : host::expanded(operand);
  Tensor result(DType::f32, Shape{s[0], s[1], p.out});
  const float* x = numbers.view<float>().data();
  float* out = result.view<float>().data();
  const std::int64_t rows = s[0] * s[1];
  quant::FirstError error;
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r)
    error.guard([&] { one_row(w, x + r * p.in, operand, r / s[1], r % s[1], out + r * p.out); });
  error.rethrow();
  return host::adopt(std::move(result));
}

}  // namespace qfid::kernels::reference
