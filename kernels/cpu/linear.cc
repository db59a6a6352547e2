// Linears: weights packed once; activations quantized window by window; products in row blocks, side by side on all threads,
// each followed at once by its scales and bias while it is in cache.
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/pair_weights.h"
#include "kernels/host/operands.h"
#include "quant/core/dispatch.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::cpu {

using quant::Format;
using quant::Tensor;
using quant::View;

namespace {

constexpr std::int64_t row_block = 128;

/// dst = f32(acc - z * colsum) * (sx * sw) + bias, in place over one row (acc and dst share memory).
struct Epilogue {
  template <class Acc>
  __attribute__((always_inline)) void operator()(const Acc* acc, float sx, std::int32_t z, const std::int32_t* colsum,
                                                 const float* sw, const float* bias, float* dst, std::int64_t n) const {
    for (std::int64_t o = 0; o < n; ++o) {
      const auto sum = static_cast<float>(z == 0 ? acc[o] : static_cast<Acc>(acc[o] - static_cast<Acc>(z * colsum[o])));
      dst[o] = sum * (sx * sw[o]) + bias[o];
    }
  }
};

class CpuLinear : public PreparedLinear {
 public:
  CpuLinear(const LinearProblem& p, const LinearWeights& w, const Isa& isa) : problem_(p), ranges(w.activation_ranges) {
    quant::require(w.weight.shape() == Shape{p.out, p.in}, "linear: weight is " + w.weight.shape().to_string());
    const quant::QuantizedTensor q =
        quant::quantize(w.weight.reshaped(Shape{1, p.out, 1, p.in}), p.weights, quant::Role::weight);
    types = product_types(p.activations.format, p.weights.format, p.mode, isa);
    if (p.mode == ExecutionMode::library) types = {f8(p.activations.format), f8(p.weights.format), DataType::f32, false};
    emulated = p.mode == ExecutionMode::emulated;
    scaled = !emulated && (quant::is_scaled(p.weights.format) || quant::is_scaled(p.activations.format));
    bias.assign(static_cast<std::size_t>(p.out), 0.0F);
    if (w.bias.size() > 0) std::copy_n(w.bias.data(), p.out, bias.begin());
    fused_bias = !scaled && w.bias.size() > 0;
    scale.assign(static_cast<std::size_t>(p.out), 1.0F);
    if (scaled && !q.scales.empty())
      for (std::int64_t o = 0; o < p.out; ++o)
        scale[static_cast<std::size_t>(o)] = q.scales.view<float>()[q.scales.shape().elements() == 1 ? 0 : o];
    if (scaled && p.activations.affine) {
      colsum.assign(static_cast<std::size_t>(p.out), 0);
      for (std::int64_t i = 0; i < p.in * p.out; ++i)
        colsum[static_cast<std::size_t>(i / p.in)] += q.codes.view<std::int8_t>()[i];
    } else {
      colsum.assign(1, 0);
    }
    if (emulated) {
      Tensor numbers(DType::f32, q.codes.shape());
      quant::dequantize(q, quant::Role::weight, numbers.view<float>());
      pack(numbers);
    } else if (types.integer_as_f32 && takes_pair_weights()) {
      pairs.emplace(q.codes, p.out, p.in);
    } else {
      pack(q.codes);
    }
  }

  const LinearProblem& problem() const override { return problem_; }
  std::string implementation() const override {
    if (pairs) return block_name(BlockType::s16) + " (exact s16 products of integer codes: no VNNI)";
    std::string text = packed[0]->product().implementation();
    if (types.integer_as_f32) text += " (exact f32 products of integer codes, K blocks of 512: no VNNI)";
    return text;
  }

  LinearProblem problem_;
  std::vector<quant::Range> ranges;
  ProductTypes types{};
  bool emulated = false, scaled = false, fused_bias = false;
  std::vector<float> bias, scale;
  std::vector<std::int32_t> colsum;
  std::optional<PairWeights> pairs;                    ///< of integers without VNNI
  std::vector<std::unique_ptr<PackedWeights>> packed;  ///< else: one, or one for each K block of the exact f32 route

 private:
  static DataType f8(Format format) { return format == Format::e4m3 ? DataType::f8_e4m3 : DataType::f8_e5m2; }

  void pack(const Tensor& codes) {
    const std::int64_t in = problem_.in, out = problem_.out, step = types.integer_as_f32 ? exact_block : in;
    for (std::int64_t begin = 0; begin < in; begin += step) {
      const std::int64_t k = std::min(step, in - begin);
      std::vector<std::byte> plain(static_cast<std::size_t>(out * k) * size_of(types.b));
      for (std::int64_t o = 0; o < out; ++o)
        expand_codes(codes, o * in + begin, k, types.b, plain.data() + static_cast<std::size_t>(o * k) * size_of(types.b));
      packed.push_back(
          std::make_unique<PackedWeights>(plain.data(), types.b, types.a, types.accumulator, out, k, row_block, fused_bias));
    }
  }
};

/// What one thread needs while it goes through row blocks.
struct Workspace {
  GemmContext context;
  PairWeights::Workspace pairs;
  std::vector<std::byte> src, padded;
  std::vector<float> part;
};

/// Sum over K blocks of exact f32 products, as s32.
void exact_products(CpuLinear& w, Workspace& work, const Tensor& codes, std::int64_t row, std::int64_t rows,
                    std::int32_t* acc) {
  const std::int64_t in = w.problem().in, out = w.problem().out;
  std::fill_n(acc, rows * out, 0);
  work.part.resize(static_cast<std::size_t>(row_block * out));
  for (std::size_t block = 0; block < w.packed.size(); ++block) {
    const std::int64_t begin = static_cast<std::int64_t>(block) * exact_block, k = std::min(exact_block, in - begin);
    work.src.assign(static_cast<std::size_t>(row_block * k) * 4, std::byte{0});
    for (std::int64_t r = 0; r < rows; ++r)
      expand_codes(codes, (row + r) * in + begin, k, DataType::f32, work.src.data() + static_cast<std::size_t>(r * k) * 4);
    w.packed[block]->product().run(work.context, work.src.data(), w.packed[block]->data(), nullptr, work.part.data());
    for (std::int64_t i = 0; i < rows * out; ++i)
      acc[i] += static_cast<std::int32_t>(work.part[static_cast<std::size_t>(i)]);
  }
}

/// `raw`: the codes' bytes; x.codes is empty for f32, whose numbers are read where they are.
void one_block(CpuLinear& w, Workspace& work, const host::Operand& x, const std::byte* raw, std::int64_t tokens,
               std::int64_t row, std::int64_t rows, float* dst) {
  const LinearProblem& p = w.problem();
  const std::size_t width = size_of(w.types.a);
  if (w.pairs) {
    w.pairs->run(x.codes, row, rows, work.pairs, reinterpret_cast<std::int32_t*>(dst));
  } else if (w.types.integer_as_f32) {
    exact_products(w, work, x.codes, row, rows, reinterpret_cast<std::int32_t*>(dst));
  } else {
    const std::size_t stored = w.emulated ? 4 : quant::info(quant::storage(p.activations.format)).bytes;
    const std::byte* src = raw + static_cast<std::size_t>(row * p.in) * stored;
    if (width != stored) {
      work.src.resize(static_cast<std::size_t>(rows * p.in) * width);
      expand_codes(x.codes, row * p.in, rows * p.in, w.types.a, work.src.data());
      src = work.src.data();
    }
    PackedWeights& packed = *w.packed[0];
    const void* bias = w.fused_bias ? w.bias.data() : nullptr;
    if (rows == row_block) {
      packed.product().run(work.context, src, packed.data(), bias, dst);
    } else {  // a short block is padded: one shape, one layout, one implementation
      work.padded.resize(static_cast<std::size_t>(row_block * p.in) * width);
      std::memcpy(work.padded.data(), src, static_cast<std::size_t>(rows * p.in) * width);
      work.part.resize(static_cast<std::size_t>(row_block * p.out));
      packed.product().run(work.context, work.padded.data(), packed.data(), bias, work.part.data());
      std::memcpy(dst, work.part.data(), static_cast<std::size_t>(rows * p.out) * 4);
    }
  }
  if (!w.scaled) return;
  const bool integer = w.types.integer_as_f32 || w.types.accumulator == DataType::s32;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t b = (row + r) / tokens, t = (row + r) % tokens;
    float* out = dst + r * p.out;
    const float sx = x.scale_at(b, t, 0);
    if (integer) {
      quant::dispatched(Epilogue{}, reinterpret_cast<const std::int32_t*>(out), sx, x.zero_at(b, t, 0), w.colsum.data(),
                        w.scale.data(), w.bias.data(), out, p.out);
    } else {
      quant::dispatched(Epilogue{}, static_cast<const float*>(out), sx, 0, w.colsum.data(), w.scale.data(), w.bias.data(),
                        out, p.out);
    }
  }
}

}  // namespace

std::unique_ptr<PreparedLinear> CpuBackend::prepare(const LinearProblem& problem, const LinearWeights& weights) {
  validate(problem);
  return std::make_unique<CpuLinear>(problem, weights, isa_);
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
  auto& w = dynamic_cast<CpuLinear&>(prepared);
  const LinearProblem& p = w.problem();
  const Shape& s = src.shape;
  quant::require(s.rank() == 3 && s[2] == p.in,
                 "linear: src is " + s.to_string() + ", expected [B, T, " + std::to_string(p.in) + "]");
  const std::shared_ptr<const host::Operand> operand = quantized(src, p.activations, w.ranges);
  if (counts != nullptr) *counts += operand->counts;
  const bool dequantize = w.emulated && !operand->codes.empty();
  const host::Operand numbers = dequantize ? host::as_numbers(*operand) : host::Operand{};
  const host::Operand& x = dequantize ? numbers : *operand;
  const std::byte* raw = x.codes.empty() ? static_cast<const std::byte*>(src.storage.get()) : x.codes.raw();
  Tensor result(DType::f32, Shape{s[0], s[1], p.out});
  float* dst = result.view<float>().data();
  const std::int64_t rows = s[0] * s[1], blocks = (rows + row_block - 1) / row_block;
  quant::FirstError error;
#pragma omp parallel
  {
    std::optional<Workspace> work;
    error.guard([&] { work.emplace(); });
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < blocks; ++i)
      error.guard([&] {
        one_block(w, *work, x, raw, s[1], i * row_block, std::min(row_block, rows - i * row_block),
                  dst + i * row_block * p.out);
      });
  }
  error.rethrow();
  return host::adopt(std::move(result));
}

}  // namespace qfid::kernels::cpu
