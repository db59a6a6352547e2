#include "tests/support/faulty_backend.h"

#include <algorithm>
#include <array>
#include <utility>

#include "quant/quantize.h"

namespace qfid::tests {

using kernels::DeviceTensor;
using quant::Shape;
using quant::Tensor;

namespace {

constexpr std::array<const char*, 6> prepared_order{"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"};

struct FaultyAttention final : kernels::PreparedAttention {
  std::unique_ptr<kernels::PreparedAttention> inner;
  kernels::AttentionProblem asked;
  int layer = -1;  ///< -1: in full precision, left alone
  const kernels::AttentionProblem& problem() const override { return asked; }
  std::string implementation() const override { return inner->implementation(); }
};

struct FaultyLinear final : kernels::PreparedLinear {
  std::unique_ptr<kernels::PreparedLinear> inner;
  bool spoiled = false;
  Tensor weight, bias;  ///< dequantized, where sums are cut
  const kernels::LinearProblem& problem() const override { return inner->problem(); }
  std::string implementation() const override { return inner->implementation(); }
};

Tensor rounded(quant::View<const float> x, const quant::QuantScheme& scheme, quant::Role role) {
  Tensor out(quant::DType::f32, x.shape());
  quant::dequantize(quant::quantize(x, scheme, role), role, out.view<float>());
  return out;
}

/// The 14 leading bits, the rest cut.
double cut(double x) {
  if (x == 0) return 0;
  int exponent = 0;
  const double fraction = std::frexp(x, &exponent);
  return std::ldexp(std::trunc(std::ldexp(fraction, 14)), exponent - 14);
}

void cut_product(const float* x, const Tensor& weight, const Tensor& bias, float* dst) {
  const std::int64_t outs = weight.shape()[1], k = weight.shape()[3];
  for (std::int64_t o = 0; o < outs; ++o) {
    const float* w = weight.view<float>().data() + o * k;
    double sum = 0;
    for (std::int64_t i = 0; i < k; i += 32) {
      double part = 0;
      for (std::int64_t j = i; j < std::min(i + 32, k); ++j) part += static_cast<double>(x[j]) * static_cast<double>(w[j]);
      sum = cut(sum + part);
    }
    dst[o] = static_cast<float>(sum) + (bias.empty() ? 0 : bias.view<float>()[o]);
  }
}

/// Numbers of one head of x [B, T, heads, d], read as [d, T].
Tensor transposed(Tensor x, int head) {
  const std::int64_t windows = x.shape()[0], length = x.shape()[1], heads = x.shape()[2], d = x.shape()[3];
  const Tensor from = x.clone();
  const auto at = [&](std::int64_t b, std::int64_t t, std::int64_t i) { return ((b * length + t) * heads + head) * d + i; };
  for (std::int64_t b = 0; b < windows; ++b)
    for (std::int64_t n = 0; n < length * d; ++n)
      x.view<float>().data()[at(b, n / d, n % d)] = from.view<float>().data()[at(b, n % length, n / length)];
  return x;
}

}  // namespace

std::unique_ptr<kernels::PreparedLinear> FaultyBackend::prepare(const kernels::LinearProblem& problem,
                                                                const kernels::LinearWeights& weights) {
  const bool quantized = problem.weights != quant::QuantScheme{} || problem.activations != quant::QuantScheme{};
  const int index = quantized ? linears_++ : -1;
  auto linear = std::make_unique<FaultyLinear>();
  Tensor stale(quant::DType::f32, weights.weight.shape());
  std::copy(weights.weight.data(), weights.weight.data() + weights.weight.size(), stale.view<float>().data());
  const bool here =
      quantized && index / 6 == place_.layer && place_.linear == prepared_order[static_cast<std::size_t>(index % 6)];
  linear->spoiled = fault_ == Fault::not_finite && here;
  if (fault_ == Fault::stale_scale && here)
    for (std::int64_t i = 0; i < problem.in; ++i) stale.view<float>().data()[place_.channel * problem.in + i] *= 1.05F;
  linear->inner = inner_->prepare(problem, {std::as_const(stale).view<float>(), weights.bias, weights.activation_ranges});
  if (fault_ == Fault::fast_accum && quantized) {
    linear->weight =
        rounded(weights.weight.reshaped(Shape{1, problem.out, 1, problem.in}), problem.weights, quant::Role::weight);
    linear->bias = Tensor(quant::DType::f32, Shape{weights.bias.size()});
    std::copy(weights.bias.data(), weights.bias.data() + weights.bias.size(), linear->bias.view<float>().data());
  }
  return linear;
}

DeviceTensor FaultyBackend::linear(kernels::PreparedLinear& prepared, const DeviceTensor& src, quant::CodeCounts* counts) {
  auto& faulty = static_cast<FaultyLinear&>(prepared);
  const bool quantized =
      faulty.problem().weights != quant::QuantScheme{} || faulty.problem().activations != quant::QuantScheme{};
  if (const int before = quantized ? runs_++ : -1; before >= place_.calls) {
    if (fault_ == Fault::gone)
      throw quant::Error(quant::ErrorKind::unavailable, "gpu: cudaLaunchKernel on Test GPU: uncorrectable ECC error");
    if (fault_ == Fault::no_memory && before == place_.calls)
      throw quant::Error(quant::ErrorKind::unavailable, "out of memory on Test GPU: 12.0 MiB asked for, 3.0 MiB free");
  }
  DeviceTensor right = inner_->linear(*faulty.inner, src, counts);
  if (faulty.spoiled) {
    Tensor output = inner_->download(right);
    output.view<float>().data()[place_.channel] = INFINITY;
    return inner_->upload(output);
  }
  if (faulty.weight.empty()) return right;
  const std::int64_t windows = src.shape[0], length = src.shape[1], in = src.shape[2], outs = right.shape[2];
  const Tensor x = inner_->download(src);
  Tensor dst(quant::DType::f32, right.shape);
  for (std::int64_t b = 0; b < windows; ++b) {
    const quant::View<const float> window(x.view<float>().data() + b * length * in, Shape{1, length, 1, in});
    const Tensor codes = rounded(window, faulty.problem().activations, quant::Role::activation);
    for (std::int64_t t = 0; t < length; ++t)
      cut_product(codes.view<float>().data() + t * in, faulty.weight, faulty.bias,
                  dst.view<float>().data() + (b * length + t) * outs);
  }
  return inner_->upload(dst);
}

std::unique_ptr<kernels::PreparedAttention> FaultyBackend::prepare(const kernels::AttentionProblem& problem,
                                                                   const kernels::AttentionRanges& ranges) {
  auto attention = std::make_unique<FaultyAttention>();
  attention->asked = problem;
  kernels::AttentionProblem done = problem;
  if (problem.schemes != kernels::AttentionSchemes{}) {
    attention->layer = attentions_++;
    if (fault_ == Fault::p_scale && (place_.layer == -1 || place_.layer == attention->layer)) done.schemes.p.p_scale = 1;
  }
  attention->inner = inner_->prepare(done, ranges);
  return attention;
}

kernels::AttentionResult FaultyBackend::attention(kernels::PreparedAttention& prepared,
                                                  const kernels::AttentionInputs& inputs, kernels::TapSink* taps) {
  auto& faulty = static_cast<FaultyAttention&>(prepared);
  if (faulty.layer != place_.layer) return inner_->attention(*faulty.inner, inputs, taps);
  kernels::AttentionInputs given = inputs;
  if (fault_ == Fault::k_transposed) given.k = inner_->upload(transposed(inner_->download(inputs.k), place_.head));
  kernels::AttentionResult result = inner_->attention(*faulty.inner, given, taps);
  if (fault_ == Fault::v_scale) {
    Tensor output = inner_->download(result.output);
    const std::int64_t heads = output.shape()[2], d = output.shape()[3];
    float* x = output.view<float>().data();
    for (std::int64_t n = 0; n < output.shape().elements(); ++n)
      if (n / d % heads == place_.head) x[n] *= 1.01F;
    result.output = inner_->upload(output);
  }
  return result;
}

}  // namespace qfid::tests
