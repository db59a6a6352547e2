#include "kernels/cpu/gemm.h"

#include <omp.h>

#include "quant/core/error.h"

namespace qfid::kernels::cpu {

using dnnl::memory;

namespace {

/// oneDNN decides on parallelism when a primitive is made; inside, only this thread exists.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

std::string sizes(const GemmShape& s) {
  return "M=" + std::to_string(s.M) + " N=" + std::to_string(s.N) + " K=" + std::to_string(s.K);
}

dnnl::matmul::primitive_desc describe(const GemmShape& s) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const memory::desc src({s.M, s.K}, s.src, memory::dims{s.src_row == 0 ? s.K : s.src_row, 1}),
      dst({s.M, s.N}, s.dst, memory::format_tag::ab);
  const auto plain = s.wei_transposed ? memory::format_tag::ba : memory::format_tag::ab;
  const memory::desc wei({s.K, s.N}, s.wei, s.packed ? memory::format_tag::any : plain);
  try {
    if (s.bias) return {cpu_engine(), src, wei, memory::desc({1, s.N}, DataType::f32, memory::format_tag::ab), dst, attr};
    return {cpu_engine(), src, wei, dst, attr};
  } catch (const dnnl::error& error) { fail(error, "oneDNN has no matmul for " + sizes(s)); }
}

}  // namespace

void fail(const dnnl::error& error, const std::string& what) {
  if (error.status == dnnl_out_of_memory) throw OutOfOneDnnMemory(what);
  throw quant::Error(quant::ErrorKind::unavailable, what + ": " + error.what());
}

dnnl::engine& cpu_engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

Isa effective_isa() {
  using dnnl::cpu_isa;
  switch (dnnl::get_effective_cpu_isa()) {
    case cpu_isa::sse41:
      return {"sse41", false, false};
    case cpu_isa::avx:
      return {"avx", false, false};
    case cpu_isa::avx2:
      return {"avx2", false, false};
    case cpu_isa::avx2_vnni:
      return {"avx2_vnni", true, false};
    case cpu_isa::avx2_vnni_2:
      return {"avx2_vnni_2", true, false};
    case cpu_isa::avx512_core:
      return {"avx512_core", false, false};
    case cpu_isa::avx512_core_vnni:
      return {"avx512_core_vnni", true, false};
    case cpu_isa::avx512_core_bf16:
      return {"avx512_core_bf16", true, false};
    case cpu_isa::avx10_1_512:
      return {"avx10_1_512", true, false};
    case cpu_isa::avx512_core_amx:
      return {"avx512_core_amx", true, true};
    case cpu_isa::avx10_1_512_amx_fp16:
      return {"avx10_1_512_amx_fp16", true, true};
    default:
      return {"unknown", false, false};
  }
}

bool has_fp8_products() {
  static const bool has = [] {
    try {
      GemmCache().get({DataType::f8_e4m3, DataType::f8_e4m3, DataType::f32, 1, 16, 32});
      return true;
    } catch (const OutOfOneDnnMemory&) { throw; } catch (const quant::Error&) {
      return false;
    }
  }();
  return has;
}

GemmContext::GemmContext() try : stream_(cpu_engine()) {
} catch (const dnnl::error& error) { fail(error, "oneDNN can't make a stream"); }

void* GemmContext::scratch(std::size_t bytes) {
  if (scratch_.bytes() < bytes) scratch_ = quant::Tensor(quant::DType::u8, quant::Shape{static_cast<std::int64_t>(bytes)});
  return scratch_.raw();
}

Gemm::Gemm(const GemmShape& shape) : shape_(shape) {
  const OneThread one;
  pd_ = describe(shape);
  try {
    primitive_ = dnnl::matmul(pd_);
    name_ = pd_.impl_info_str();
  } catch (const dnnl::error& error) { fail(error, "oneDNN can't make a matmul for " + sizes(shape)); }
}

void Gemm::run(GemmContext& context, const void* src, const void* wei, const void* bias, void* dst) const try {
  const auto at = [](const memory::desc& desc, const void* data) {
    return memory(desc, cpu_engine(), const_cast<void*>(data));
  };
  std::unordered_map<int, memory> args{
      {DNNL_ARG_SRC, at(pd_.src_desc(), src)},
      {DNNL_ARG_WEIGHTS, at(pd_.weights_desc(), wei)},
      {DNNL_ARG_DST, at(pd_.dst_desc(), dst)},
      {DNNL_ARG_SCRATCHPAD, at(pd_.scratchpad_desc(), context.scratch(pd_.scratchpad_desc().get_size()))}};
  if (bias != nullptr) args.emplace(DNNL_ARG_BIAS, at(pd_.bias_desc(), bias));
  primitive_.execute(context.stream(), args);
} catch (const dnnl::error& error) { fail(error, "oneDNN can't run a matmul for " + sizes(shape_)); }

const Gemm& GemmCache::get(const GemmShape& shape) {
  const std::scoped_lock lock(mutex_);
  std::unique_ptr<Gemm>& entry = made_[shape];
  if (!entry) entry = std::make_unique<Gemm>(shape);
  return *entry;
}

PackedWeights::PackedWeights(const void* plain, DataType type, DataType src, DataType dst, std::int64_t N, std::int64_t K,
                             std::int64_t rows, bool bias) try
    : product_(GemmShape{src, type, dst, rows, N, K, false, true, bias}), memory_(product_.weights_layout(), cpu_engine()) {
  memory from(memory::desc({K, N}, type, memory::format_tag::ba), cpu_engine(), const_cast<void*>(plain));
  dnnl::stream stream(cpu_engine());
  dnnl::reorder(from, memory_).execute(stream, from, memory_);
  stream.wait();
} catch (const dnnl::error& error) {
  fail(error, "oneDNN can't pack weights of " + std::to_string(N) + " x " + std::to_string(K));
}

}  // namespace qfid::kernels::cpu
