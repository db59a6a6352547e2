#include "kernels/cpu/cpu_backend.h"

#include <cstring>

#include "kernels/support_checks.h"

namespace qfid::kernels::cpu {

using quant::Format;

std::unique_ptr<Backend> make_cpu_backend() { return std::make_unique<CpuBackend>(); }

BackendInfo CpuBackend::info() const {
  const dnnl_version_t* v = dnnl_version();
  return {"cpu",
          host::cpu_model(),
          isa_.name,
          {{"oneDNN", std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch)}},
          host::thread_count()};
}

Support CpuBackend::supports(const LinearProblem& p) const {
  if (Support s = valid(p); !s) return s;
  if (p.mode == ExecutionMode::emulated) return {};
  if (Support s = scales_constant_along_k(p); !s) return s;
  if (p.mode == ExecutionMode::library && !(quant::is_fp8(p.weights.format) && quant::is_fp8(p.activations.format)))
    return {false, "mode library is oneDNN's FP8 matmul here: weights and activations must be e4m3 or e5m2"};
  if (p.mode == ExecutionMode::library && !has_fp8_products())
    return {false, "oneDNN has no FP8 products on this CPU (effective ISA " + isa_.name + ")"};
  return {};
}

Support CpuBackend::supports(const AttentionProblem& p) const {
  if (Support s = valid(p); !s) return s;
  if (p.mode == ExecutionMode::emulated) return {};
  if (p.mode == ExecutionMode::library)
    return {false, "mode library has attention on backend gpu alone (products by cuBLASLt)"};
  const bool by_f32 = !isa_.vnni && (quant::is_integer(p.schemes.q.format) || quant::is_integer(p.schemes.p.format));
  if (by_f32 && p.head_dim > exact_block)
    return {false, "head_dim above 512 with INT8 needs VNNI: a block's sum would leave f32's exact range"};
  return {};
}

ProductTypes product_types(Format a, Format b, ExecutionMode mode, const Isa& isa) {
  if (mode == ExecutionMode::emulated) return {DataType::f32, DataType::f32, DataType::f32, false};
  if (quant::is_integer(a)) {
    if (!isa.vnni) return {DataType::f32, DataType::f32, DataType::f32, true};
    return {a == Format::uint8 ? DataType::u8 : DataType::s8, DataType::s8, DataType::s32, false};
  }
  const bool wide = a == Format::f32 || b == Format::f32 || !isa.amx;
  const DataType type = wide ? DataType::f32 : DataType::bf16;
  return {type, type, DataType::f32, false};
}

std::size_t size_of(DataType type) {
  return type == DataType::f32 || type == DataType::s32 ? 4 : type == DataType::bf16 ? 2 : 1;
}

void expand_codes(const quant::Tensor& codes, std::int64_t offset, std::int64_t n, DataType type, void* dst) {
  const auto count = static_cast<std::size_t>(n);
  const auto at = static_cast<std::size_t>(offset);
  const std::byte* raw = codes.raw() + at * quant::info(codes.dtype()).bytes;
  if (type == DataType::f32) {
    const std::span<float> out(static_cast<float*>(dst), count);
    switch (codes.dtype()) {
      case DType::e4m3:
        return quant::expand(std::span(reinterpret_cast<const quant::e4m3*>(raw), count), out);
      case DType::e5m2:
        return quant::expand(std::span(reinterpret_cast<const quant::e5m2*>(raw), count), out);
      case DType::bf16:
        return quant::expand(std::span(reinterpret_cast<const quant::bf16*>(raw), count), out);
      case DType::i8:
        for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(reinterpret_cast<const std::int8_t*>(raw)[i]);
        return;
      case DType::u8:
        for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(reinterpret_cast<const std::uint8_t*>(raw)[i]);
        return;
      default:
        std::memcpy(dst, raw, count * 4);
        return;
    }
  }
  if (type == DataType::bf16 && codes.dtype() == DType::e4m3)
    return quant::expand(std::span(reinterpret_cast<const quant::e4m3*>(raw), count),
                         std::span(static_cast<quant::bf16*>(dst), count));
  if (type == DataType::bf16 && codes.dtype() == DType::e5m2)
    return quant::expand(std::span(reinterpret_cast<const quant::e5m2*>(raw), count),
                         std::span(static_cast<quant::bf16*>(dst), count));
  std::memcpy(dst, raw, count * size_of(type));
}

}  // namespace qfid::kernels::cpu
