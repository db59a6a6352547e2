// Linears: weights quantized on the host and packed once, padded to what INT8 and FP8 products ask; activations quantized
// on the device; the product into s32 or f32; scales and bias by our own kernel, in the order of kernels/linear.h, and what
// follows the linear with them (scales by group and block are cuBLASLt's own). Rows go through in chunks whose accumulators
// stay in L2. f32 and bf16 end in the library's own bias; what follows is a pass in place.
#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/gpu/elementwise.h"
#include "kernels/gpu/gpu_backend.h"
#include "kernels/gpu/linear_kernels.h"

namespace qfid::kernels::gpu {

using quant::Format;
using quant::Tensor;

namespace {

constexpr std::int64_t chunk_bytes = std::int64_t{24} << 20;  // of accumulators

/// Rows that products with block scales are made of.
constexpr std::int64_t in_fours(std::int64_t rows) { return (rows + 3) / 4 * 4; }

/// Bytes of [out, in] codes as numbers of `number`, rows padded to k, `n` rows.
std::vector<std::byte> packed(const Tensor& codes, Number number, std::int64_t out, std::int64_t in, std::int64_t n,
                              std::int64_t k) {
  const std::size_t width = size_of(number);
  std::vector<std::byte> bytes(static_cast<std::size_t>(n * k) * width);
  std::vector<float> row(static_cast<std::size_t>(in));
  for (std::int64_t o = 0; o < out; ++o) {
    std::byte* dst = bytes.data() + static_cast<std::size_t>(o * k) * width;
    const std::size_t stored = quant::info(codes.dtype()).bytes;
    const std::byte* src = codes.raw() + static_cast<std::size_t>(o * in) * stored;
    const auto count = static_cast<std::size_t>(in);
    if (width == stored) {
      std::memcpy(dst, src, count * width);
      continue;
    }
    switch (codes.dtype()) {
      case DType::e4m3:
        quant::expand(std::span(reinterpret_cast<const quant::e4m3*>(src), count), std::span(row));
        break;
      case DType::e5m2:
        quant::expand(std::span(reinterpret_cast<const quant::e5m2*>(src), count), std::span(row));
        break;
      default:
        quant::expand(std::span(reinterpret_cast<const quant::bf16*>(src), count), std::span(row));
    }
    if (number == Number::f32) std::memcpy(dst, row.data(), count * width);
    if (number == Number::bf16) quant::cast_to_bf16(row, std::span(reinterpret_cast<quant::bf16*>(dst), count));
  }
  return bytes;
}

/// Scales of weights as cuBLASLt reads them, beyond the last output ones. Of groups: a row for each 128 inputs, n wide.
std::vector<float> packed_scales_of_groups(const Tensor& scales, std::int64_t out, std::int64_t in, std::int64_t n) {
  const std::int64_t groups = scale_blocks(in);
  std::vector<float> all(static_cast<std::size_t>(groups * n), 1.0F);
  for (std::int64_t i = 0; i < out * groups; ++i)
    all[static_cast<std::size_t>(i % groups * n + i / groups)] = scales.view<float>()[i];
  return all;
}

/// Of blocks: rows of blocks, each padded to four.
std::vector<float> packed_scales_of_blocks(const Tensor& scales, std::int64_t out, std::int64_t in) {
  const std::int64_t groups = scale_blocks(in), ld = padded_scale_blocks(in);
  std::vector<float> all(static_cast<std::size_t>(scale_blocks(out) * ld), 1.0F);
  for (std::int64_t i = 0; i < scale_blocks(out) * groups; ++i)
    all[static_cast<std::size_t>(i / groups * ld + i % groups)] = scales.view<float>()[i];
  return all;
}

}  // namespace

class GpuLinear : public PreparedLinear {
 public:
  GpuLinear(Context& context, const LinearProblem& p, const LinearWeights& w)
      : ranges(w.activation_ranges),
        types(product_types(p.activations.format, p.weights.format, context.capability())),
        problem_(p) {
    quant::require(w.weight.shape() == Shape{p.out, p.in}, "linear: weight is " + w.weight.shape().to_string());
    const quant::QuantizedTensor q =
        quant::quantize(w.weight.reshaped(Shape{1, p.out, 1, p.in}), p.weights, quant::Role::weight);
    scaled = quant::is_scaled(p.weights.format) || quant::is_scaled(p.activations.format);
    // Activations that stay f32 are read where they are, unpadded.
    k = p.activations.format == Format::f32 ? p.in : padded(p.in);
    n = scaled ? padded(p.out) : p.out;
    weights = context.uploaded(packed(q.codes, types.b, p.out, p.in, n, k));
    std::vector<float> b(static_cast<std::size_t>(p.out)), s(static_cast<std::size_t>(p.out), 1.0F);
    if (w.bias.size() > 0) std::copy_n(w.bias.data(), p.out, b.begin());
    inner = inner_scales(p);
    if (inner == InnerScales::blocks)
      scales_along_k = context.uploaded(packed_scales_of_blocks(q.scales, p.out, p.in));
    else if (inner == InnerScales::groups)
      scales_along_k = context.uploaded(packed_scales_of_groups(q.scales, p.out, p.in, n));
    else if (!q.scales.empty())
      for (std::int64_t o = 0; o < p.out; ++o)
        s[static_cast<std::size_t>(o)] = q.scales.view<float>()[q.scales.shape().elements() == 1 ? 0 : o];
    bias = context.uploaded(b);
    scale = context.uploaded(s);
    fused_bias = !scaled && w.bias.size() > 0;
    shift = p.activations.format == Format::uint8 ? 128 : 0;
    if (shift != 0) {
      std::vector<std::int32_t> sums(static_cast<std::size_t>(p.out));
      for (std::int64_t i = 0; i < p.in * p.out; ++i)
        sums[static_cast<std::size_t>(i / p.in)] += std::as_const(q.codes).view<std::int8_t>()[i];
      colsum = context.uploaded(sums);
    }
  }

  const LinearProblem& problem() const override { return problem_; }
  std::string implementation() const override {
    return name.empty() ? "" : name + types.note + (ranges_on_device(problem_.activations) ? "" : " (ranges on the host)");
  }

  std::vector<quant::Range> ranges;
  ProductTypes types;
  bool scaled = false, fused_bias = false;
  InnerScales inner = InnerScales::none;
  std::int64_t k = 0, n = 0;  ///< padded
  std::int32_t shift = 0;
  std::shared_ptr<std::byte> weights;
  std::shared_ptr<float> bias, scale, scales_along_k;
  std::shared_ptr<std::int32_t> colsum;
  std::string name;

 private:
  LinearProblem problem_;
};

std::unique_ptr<PreparedLinear> GpuBackend::prepare(const LinearProblem& problem, const LinearWeights& weights) {
  validate(problem);
  auto linear = std::make_unique<GpuLinear>(context(), problem, weights);
  gemms().load(linear->types.a, linear->types.b, linear->types.acc, linear->fused_bias);
  return linear;
}

const GpuBackend::LastCodes& GpuBackend::quantized(const DeviceTensor& src, const quant::QuantScheme& scheme,
                                                   const std::vector<quant::Range>& ranges, Number number) {
  const bool same = last_.operand && last_.src.storage == src.storage && last_.src.shape == src.shape &&
                    last_.scheme == scheme && last_.ranges == ranges && last_.number == number;
  if (same) return last_;
  const Shape& s = src.shape;
  // A group of channels is what a head is in attention: one token's range of one of them.
  const bool groups = scheme.granularity.kind == quant::GranularityKind::group;
  const std::int64_t group = groups ? scheme.granularity.m : s[2];
  quant::QuantScheme by_group = scheme;
  if (groups) by_group.granularity = {quant::GranularityKind::token};
  const Source source{data<const float>(src), s[0], s[1], s[2] / group, group};
  if (!tallies_) tallies_ = std::make_unique<Tallies>(context());
  const TallySlot tally = quant::is_scaled(scheme.format) ? tallies_->take() : TallySlot();
  auto operand = std::make_shared<Operand>(
      scaled_operand(context(), source, by_group, ranges, quant::is_scaled(scheme.format) ? tally.counters() : nullptr));
  const std::int64_t columns = padded(s[2]), head = groups ? group : 0, rows = s[0] * s[1],
                     bytes = columns * size_of(number);
  operand->codes = context().allocate(static_cast<std::size_t>(in_fours(rows) * bytes));
  if (groups)
    context().clear(static_cast<std::byte*>(operand->codes.get()) + rows * bytes,
                    static_cast<std::size_t>((in_fours(rows) - rows) * bytes));
  cast(*operand, job_of(*operand, source, number, true), operand->codes.get(),
       {s[1] * columns, columns, head, s[1], groups ? group : columns}, context());
  const PendingCounts counts =
      operand->tally ? tally.pending(operand->elements) : PendingCounts(quant::CodeCounts{.elements = operand->elements});
  return last_ = {src, scheme, ranges, number, operand, counts};
}

DeviceTensor GpuBackend::linear(PreparedLinear& prepared, const DeviceTensor& src, quant::CodeCounts* counts) {
  const LinearResult result = linear_then(prepared, src, {});
  if (counts != nullptr) *counts += result.counts.get();
  return result.y;
}

LinearResult GpuBackend::linear_then(PreparedLinear& prepared, const DeviceTensor& src, const LinearTail& tail) {
  auto& w = dynamic_cast<GpuLinear&>(prepared);
  const LinearProblem& p = w.problem();
  const Shape& s = src.shape;
  quant::require(s.rank() == 3 && s[2] == p.in,
                 "linear: src is " + s.to_string() + ", expected [B, T, " + std::to_string(p.in) + "]");
  LinearResult result;
  result.y = context().tensor(DType::f32, Shape{s[0], s[1], p.out});
  quant::require(!tail.residual.defined() || tail.residual.shape == result.y.shape,
                 "linear: the residual has another shape");
  const bool plain = p.activations.format == Format::f32;  // read where they are
  const LastCodes codes = plain ? LastCodes{} : quantized(src, p.activations, w.ranges, w.types.a);
  result.counts = codes.counts;
  const auto* a = static_cast<const std::byte*>(plain ? src.storage.get() : codes.operand->codes.get());
  if (tail.residual.defined()) result.sum = context().tensor(DType::f32, result.y.shape);
  if (s[0] * s[1] == 0) return result;
  if (w.scaled)
    scaled_product(w, a, codes.operand ? codes.operand->scales : ScaleView{}, s[0] * s[1], s[1], tail, result);
  else
    plain_product(w, a, s[0] * s[1], tail, result);
  return result;
}

void GpuBackend::plain_product(GpuLinear& w, const std::byte* a, std::int64_t rows, const LinearTail& tail,
                               LinearResult& result) {
  GemmShape shape{w.types.a, w.types.b, w.types.acc, rows, w.n, w.k, w.k, w.k, w.n};
  shape.bias = w.fused_bias;
  auto* y = data<float>(result.y);
  w.name = gemms().run(shape, {a, w.weights.get(), w.fused_bias ? w.bias.get() : nullptr, y}).implementation();
  const std::int64_t n = result.y.shape.elements();
  if (tail.activation) activate(y, *tail.activation, y, n, context().stream());
  if (tail.residual.defined()) gpu::add(data<const float>(tail.residual), y, data<float>(result.sum), n, context().stream());
}

void GpuBackend::scaled_product(GpuLinear& w, const std::byte* a, const ScaleView& scales, std::int64_t rows,
                                std::int64_t tokens, const LinearTail& tail, LinearResult& result) {
  const LinearProblem& p = w.problem();
  GemmShape shape{w.types.a, w.types.b, w.types.acc, rows, w.n, w.k, w.k, w.k, w.n};
  shape.inner_scales = w.inner;
  const bool along_k = w.inner != InnerScales::none;
  shape.fast_accum = p.fast_accum && quant::is_fp8(p.weights.format) && size_of(w.types.a) == 1;
  const std::int64_t step = std::min(rows, std::max<std::int64_t>(128, chunk_bytes / (4 * w.n) / 128 * 128));
  const auto acc = context().allocate(static_cast<std::size_t>(in_fours(step) * w.n) * 4);
  const auto a_scales = context().array<float>(along_k ? in_fours(step) * scale_blocks(w.k) : 0);
  const bool added = tail.residual.defined();
  EpilogueJob job{acc.get(),
                  w.types.acc,
                  w.n,
                  0,
                  0,
                  tokens,
                  p.out,
                  along_k ? ScaleView{} : scales,
                  w.scale.get(),
                  w.bias.get(),
                  w.colsum.get(),
                  w.shift,
                  tail.activation,
                  data<float>(result.y),
                  added ? data<const float>(tail.residual) : nullptr,
                  added ? data<float>(result.sum) : nullptr};
  for (std::int64_t first = 0; first < rows; first += step) {
    job.first_row = first;
    job.rows = shape.m = std::min(step, rows - first);
    const std::byte* part = a + static_cast<std::size_t>(first * shape.lda) * size_of(shape.a);
    if (along_k) {
      shape.m = in_fours(job.rows);
      transpose_scales({scales, first, job.rows, tokens, scale_blocks(w.k), shape.m}, a_scales.get(), context().stream());
    }
    w.name = gemms()
                 .run(shape, {part, w.weights.get(), nullptr, acc.get(), a_scales.get(), w.scales_along_k.get()})
                 .implementation();
    scale_and_bias(job, context().stream());
  }
}

}  // namespace qfid::kernels::gpu
