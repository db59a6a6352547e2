// Linears: weights packed once; activations quantized window by window; products by strips of outputs, or where oneDNN has
// no ukernel for them, and for its own FP8 products, by its matmul primitive.
#include "kernels/cpu/linear.h"

#include <algorithm>
#include <vector>

#include "quant/core/dispatch.h"

namespace qfid::kernels::cpu {

using quant::Format;
using quant::Tensor;

namespace {

DataType f8(Format format) { return format == Format::e4m3 ? DataType::f8_e4m3 : DataType::f8_e5m2; }

}  // namespace

CpuLinear::CpuLinear(const LinearProblem& p, const LinearWeights& w, const Isa& isa, BlockCache& cache)
    : problem_(p), ranges(w.activation_ranges) {
  quant::require(w.weight.shape() == Shape{p.out, p.in}, "linear: weight is " + w.weight.shape().to_string());
  const quant::QuantizedTensor q =
      quant::quantize(w.weight.reshaped(Shape{1, p.out, 1, p.in}), p.weights, quant::Role::weight);
  types = product_types(p.activations.format, p.weights.format, p.mode, isa);
  if (p.mode == ExecutionMode::library) types = {f8(p.activations.format), f8(p.weights.format), DataType::f32, false};
  emulated = p.mode == ExecutionMode::emulated;
  scaled = !emulated && (quant::is_scaled(p.weights.format) || quant::is_scaled(p.activations.format));
  has_bias = w.bias.size() > 0;
  bias.assign(static_cast<std::size_t>(p.out), 0.0F);
  if (has_bias) std::copy_n(w.bias.data(), p.out, bias.begin());
  scale.assign(static_cast<std::size_t>(p.out), 1.0F);
  if (scaled && !q.scales.empty())
    for (std::int64_t o = 0; o < p.out; ++o)
      scale[static_cast<std::size_t>(o)] = q.scales.view<float>()[q.scales.shape().elements() == 1 ? 0 : o];
  colsum.assign(static_cast<std::size_t>(p.out), 0);
  for (std::int64_t o = 0; scaled && quant::is_integer(p.weights.format) && o < p.out; ++o)
    for (std::int64_t i = 0; i < p.in; ++i) colsum[static_cast<std::size_t>(o)] += q.codes.view<std::int8_t>()[o * p.in + i];
  Tensor numbers;
  if (emulated) {
    numbers = Tensor(DType::f32, q.codes.shape());
    quant::dequantize(q, quant::Role::weight, numbers.view<float>());
  }
  if (p.mode != ExecutionMode::library) pack_strips(emulated ? numbers : q.codes, isa, cache);
  if (!strips) pack_primitives(emulated ? numbers : q.codes);
}

std::string CpuLinear::implementation() const {
  if (strips)
    return block_name(strips->route().type) + " in strips" +
           (types.integer_as_f32 ? " (exact s16 products of integer codes: no VNNI)" : "");
  std::string text = packed[0]->product().implementation();
  if (types.integer_as_f32) text += " (exact f32 products of integer codes, K blocks of 512: no VNNI)";
  return text;
}

void CpuLinear::pack_strips(const Tensor& codes, const Isa& isa, BlockCache& cache) {
  // Tests force lower paths than the CPU's.
  if (types.integer_as_f32 && quant::current_isa() < quant::Isa::avx2) return;
  const std::optional<BlockRoute> route = block_route(types, isa);
  if (!route) return;
  const std::int64_t n = problem_.in * problem_.out;
  std::vector<std::byte> plain(static_cast<std::size_t>(n) * route->bytes);
  if (route->type == BlockType::s16) {
    std::copy_n(codes.view<std::int8_t>().data(), n, reinterpret_cast<std::int16_t*>(plain.data()));
  } else {
    expand_codes(codes, 0, n, types.b, plain.data());
  }
  strips = StripWeights::make(plain.data(), problem_.out, problem_.in, *route, isa, cache);
}

void CpuLinear::pack_primitives(const Tensor& codes) {
  const std::int64_t in = problem_.in, out = problem_.out, step = types.integer_as_f32 ? exact_block : in;
  for (std::int64_t begin = 0; begin < in; begin += step) {
    const std::int64_t k = std::min(step, in - begin);
    std::vector<std::byte> plain(static_cast<std::size_t>(out * k) * size_of(types.b));
    for (std::int64_t o = 0; o < out; ++o)
      expand_codes(codes, o * in + begin, k, types.b, plain.data() + static_cast<std::size_t>(o * k) * size_of(types.b));
    packed.push_back(std::make_unique<PackedWeights>(plain.data(), types.b, types.a, types.accumulator, out, k, row_block,
                                                     !scaled && has_bias));
  }
}

std::unique_ptr<PreparedLinear> CpuBackend::prepare(const LinearProblem& problem, const LinearWeights& weights) {
  validate(problem);
  return std::make_unique<CpuLinear>(problem, weights, isa_, blocks_);
}

std::shared_ptr<const host::Operand> CpuBackend::quantized(const DeviceTensor& src, const quant::QuantScheme& scheme,
                                                           const std::vector<quant::Range>& ranges) {
  if (scheme.format == Format::f32) return std::make_shared<host::Operand>();
  const bool same = last_.operand && last_.src.storage == src.storage && last_.src.shape == src.shape &&
                    last_.scheme == scheme && last_.ranges == ranges;
  if (!same) {
    const Shape& s = src.shape;
    last_ = {src, scheme, ranges,
             std::make_shared<host::Operand>(
                 host::quantize_operand(host::view<float>(src).reshaped(Shape{s[0], s[1], 1, s[2]}), scheme, ranges))};
  }
  return last_.operand;
}

DeviceTensor CpuBackend::linear(PreparedLinear& prepared, const DeviceTensor& src, quant::CodeCounts* counts) {
  const LinearResult result = CpuBackend::linear_then(prepared, src, {});
  if (counts != nullptr) *counts += result.counts.get();
  return result.y;
}

LinearResult CpuBackend::linear_then(PreparedLinear& prepared, const DeviceTensor& src, const LinearTail& tail) {
  auto& w = dynamic_cast<CpuLinear&>(prepared);
  const LinearProblem& p = w.problem();
  const Shape& s = src.shape;
  quant::require(s.rank() == 3 && s[2] == p.in,
                 "linear: src is " + s.to_string() + ", expected [B, T, " + std::to_string(p.in) + "]");
  const Shape shape{s[0], s[1], p.out};
  if (tail.residual.defined())
    quant::require(tail.residual.shape == shape && tail.residual.dtype == DType::f32,
                   "linear: the residual must be f32 " + shape.to_string() + ", not " + tail.residual.shape.to_string());
  const std::shared_ptr<const host::Operand> operand = quantized(src, p.activations, w.ranges);
  const bool dequantize = w.emulated && !operand->codes.empty();
  const host::Operand numbers = dequantize ? host::as_numbers(*operand) : host::Operand{};
  const host::Operand& x = dequantize ? numbers : *operand;
  const std::byte* raw = x.codes.empty() ? static_cast<const std::byte*>(src.storage.get()) : x.codes.raw();
  const LinearSource source{x, raw, s[0] * s[1], s[1]};
  LinearResult result;
  result.counts = PendingCounts(operand->counts);
  Tensor y(DType::f32, shape);
  float* dst = y.view<float>().data();
  if (!w.strips) {
    multiply_by_primitives(w, source, dst);
    result.y = host::adopt(std::move(y));
    if (tail.activation) result.y = activation(result.y, *tail.activation);
    if (tail.residual.defined()) result.sum = add(tail.residual, result.y);
    return result;
  }
  Tensor sum = tail.residual.defined() ? Tensor(DType::f32, shape) : Tensor();
  multiply_in_strips(w, source, tail, strips_, dst, tail.residual.defined() ? sum.view<float>().data() : nullptr);
  result.y = host::adopt(std::move(y));
  if (tail.residual.defined()) result.sum = host::adopt(std::move(sum));
  return result;
}

}  // namespace qfid::kernels::cpu
