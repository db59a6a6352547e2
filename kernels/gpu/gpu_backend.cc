#include "kernels/gpu/gpu_backend.h"

#include <omp.h>

#include "kernels/gpu/elementwise.h"
#include "kernels/support_checks.h"

namespace qfid::kernels::gpu {

using quant::Error;
using quant::ErrorKind;
using quant::Format;

namespace {

template <class Problem>
Support checked(const Problem& problem) {
  return valid_and_not_emulated(problem);
}

Number own_number(Format format) {
  switch (format) {
    case Format::int8:
    case Format::uint8:
      return Number::s8;
    case Format::e4m3:
      return Number::e4m3;
    case Format::e5m2:
      return Number::e5m2;
    case Format::bf16:
      return Number::bf16;
    case Format::f32:
      break;
  }
  return Number::f32;
}

}  // namespace

std::unique_ptr<Backend> make_gpu_backend(int device) { return std::make_unique<GpuBackend>(device); }

ProductTypes product_types(Format a, Format b, int capability) {
  if (quant::is_integer(a)) return {Number::s8, Number::s8, Number::s32, ""};
  if (a == Format::f32 || b == Format::f32) return {Number::f32, Number::f32, Number::f32, ""};
  if (!quant::is_fp8(a) || !quant::is_fp8(b)) return {Number::bf16, Number::bf16, Number::f32, ""};
  if (a == Format::e5m2 && b == Format::e5m2)
    return {Number::bf16, Number::bf16, Number::f32, " (exact bf16 products of E5M2 codes: cuBLASLt has no E5M2 x E5M2)"};
  if (capability < 89)
    return {Number::bf16, Number::bf16, Number::f32, " (exact bf16 products of FP8 codes: no FP8 before compute 8.9)"};
  return {own_number(a), own_number(b), Number::f32, ""};
}

InnerScales inner_scales(const LinearProblem& p) {
  const quant::Granularity group{quant::GranularityKind::group, scale_block, 0},
      block{quant::GranularityKind::block, scale_block, scale_block};
  if (p.activations.format != Format::e4m3 || p.weights.format != Format::e4m3 || p.activations.granularity != group)
    return InnerScales::none;
  if (p.weights.granularity == block) return InnerScales::blocks;
  return p.weights.granularity == group ? InnerScales::groups : InnerScales::none;
}

BackendInfo GpuBackend::info() const {
  if (!available()) return {"gpu", "", "", {}, 0};
  const std::size_t version = context().lt().get_version();
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  const auto dotted = [](int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); };
  const int c = context().capability();
  return {"gpu",
          context().device_name(),
          "compute capability " + std::to_string(c / 10) + "." + std::to_string(c % 10),
          {{"cuBLASLt", std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
                            std::to_string(version % 100)},
           {"CUDA", dotted(CUDART_VERSION)},
           {"CUDA of the driver", dotted(driver)}},
          omp_get_max_threads()};
}

Support GpuBackend::available() const {
  if (context_) return {};
  if (const Support here = probe(device_); !here) return here;
  try {
    context();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unavailable) throw;
    return {false, error.what()};
  }
  return {};
}

Context& GpuBackend::context() const {
  if (!context_) context_ = Context::make(device_);
  return *context_;
}

GemmCache& GpuBackend::gemms() {
  if (!gemms_) gemms_ = std::make_unique<GemmCache>(context());
  return *gemms_;
}

Reductions& GpuBackend::reductions() {
  if (!reductions_) reductions_ = std::make_unique<GpuReductions>(context());
  return *reductions_;
}

Support GpuBackend::supports(const LinearProblem& p) const {
  if (Support s = checked(p); !s) return s;
  if (inner_scales(p) == InnerScales::none) return scales_constant_along_k(p);
  const std::string what = to_string(p.activations) + " by " + to_string(p.weights);
  if (p.in % scale_block != 0) return {false, what + " needs inputs in multiples of 128, not " + std::to_string(p.in)};
  if (p.fast_accum) return {false, "fast_accum isn't offered with scales along K: " + what};
  if (context().capability() != 90) return {false, "cuBLASLt multiplies " + what + " on compute capability 9.0 alone"};
  return {};
}

Support GpuBackend::supports(const AttentionProblem& p) const { return checked(p); }

DeviceTensor GpuBackend::upload(const quant::Tensor& host) {
  DeviceTensor tensor = context().tensor(host.dtype(), host.shape());
  context().upload(tensor.storage.get(), host.raw(), host.bytes());
  return tensor;
}

quant::Tensor GpuBackend::download(const DeviceTensor& tensor) {
  quant::Tensor host(tensor.dtype, tensor.shape);
  context().download(host.raw(), tensor.storage.get(), host.bytes());
  return host;
}

void GpuBackend::synchronize() {
  if (context_) context_->synchronize();
}

DeviceTensor GpuBackend::slice(const DeviceTensor& x, std::int64_t begin, std::int64_t end) {
  quant::require(x.shape.rank() >= 1 && 0 <= begin && begin <= end && end <= x.shape[0], "gpu tensor: slice out of range");
  std::vector<std::int64_t> dims(x.shape.dims().begin(), x.shape.dims().end());
  dims[0] = end - begin;
  const std::int64_t row = x.shape[0] == 0 ? 0 : x.shape.elements() / x.shape[0];
  auto* first =
      static_cast<std::byte*>(x.storage.get()) + static_cast<std::size_t>(begin * row) * quant::info(x.dtype).bytes;
  return {x.dtype, Shape(std::span<const std::int64_t>(dims)), std::shared_ptr<void>(x.storage, first)};
}

DeviceTensor GpuBackend::embedding(const DeviceTensor& ids, const DeviceTensor& table) {
  const std::int64_t width = table.shape[-1];
  DeviceTensor out = context().tensor(DType::f32, Shape{ids.shape[0], ids.shape[1], width});
  gpu::embedding(data<const std::int32_t>(ids), data<const float>(table), data<float>(out), ids.shape.elements(), width,
                 context().stream());
  return out;
}

DeviceTensor GpuBackend::add(const DeviceTensor& a, const DeviceTensor& b) {
  quant::require(a.shape == b.shape, "add: shapes differ");
  DeviceTensor out = context().tensor(DType::f32, a.shape);
  gpu::add(data<const float>(a), data<const float>(b), data<float>(out), a.shape.elements(), context().stream());
  return out;
}

DeviceTensor GpuBackend::layer_norm(const DeviceTensor& x, const DeviceTensor& gamma, const DeviceTensor& beta, float eps) {
  const std::int64_t width = x.shape[-1];
  quant::require(gamma.shape.elements() == width, "norm: gamma has another length than the rows");
  quant::require(beta.shape.elements() == width, "norm: beta has another length than the rows");
  DeviceTensor out = context().tensor(DType::f32, x.shape);
  normalize(data<const float>(x), data<const float>(gamma), data<const float>(beta), eps, true, data<float>(out),
            x.shape.elements() / width, width, context().stream());
  return out;
}

DeviceTensor GpuBackend::rms_norm(const DeviceTensor& x, const DeviceTensor& gamma, float eps) {
  const std::int64_t width = x.shape[-1];
  quant::require(gamma.shape.elements() == width, "norm: gamma has another length than the rows");
  DeviceTensor out = context().tensor(DType::f32, x.shape);
  normalize(data<const float>(x), data<const float>(gamma), nullptr, eps, false, data<float>(out),
            x.shape.elements() / width, width, context().stream());
  return out;
}

DeviceTensor GpuBackend::activation(const DeviceTensor& x, Activation kind) {
  DeviceTensor out = context().tensor(DType::f32, x.shape);
  activate(data<const float>(x), kind, data<float>(out), x.shape.elements(), context().stream());
  return out;
}

DeviceTensor GpuBackend::rotary(const DeviceTensor& x, std::int64_t first, double theta) {
  const Shape& s = x.shape;
  quant::require(s.rank() == 4 && s[3] % 2 == 0, "rotary: expected [B, T, heads, d] with an even d");
  DeviceTensor out = context().tensor(DType::f32, s);
  rotate(data<const float>(x), data<float>(out), s[0] * s[1] * s[2], s[2], s[1], s[3], first, theta, context().stream());
  return out;
}

}  // namespace qfid::kernels::gpu
