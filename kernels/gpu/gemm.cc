#include "kernels/gpu/gemm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/gpu/elementwise.h"

namespace qfid::kernels::gpu {

using quant::Error;
using quant::ErrorKind;

namespace {

constexpr int offers_wanted = 16;

cudaDataType_t cuda_type(Number number) {
  constexpr std::array types{CUDA_R_32F, CUDA_R_16BF, CUDA_R_8I, CUDA_R_8F_E4M3, CUDA_R_8F_E5M2, CUDA_R_32I};
  return types[static_cast<std::size_t>(number)];
}

int alignment_of(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  return address == 0 ? 256 : static_cast<int>(std::min<std::uintptr_t>(256, address & (~address + 1)));
}

/// Time on the stream.
class Timer {
 public:
  explicit Timer(Context& context) : context_(context) {
    check(cudaEventCreate(&start_), "cudaEventCreate");
    check(cudaEventCreate(&end_), "cudaEventCreate");
  }
  ~Timer() {
    cudaEventDestroy(start_);
    cudaEventDestroy(end_);
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  template <class F>
  float milliseconds(const F& f) const {
    check(cudaEventRecord(start_, context_.stream()), "cudaEventRecord");
    f();
    check(cudaEventRecord(end_, context_.stream()), "cudaEventRecord");
    check(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, start_, end_), "cudaEventElapsedTime");
    return ms;
  }

 private:
  Context& context_;
  cudaEvent_t start_ = nullptr, end_ = nullptr;
};

/// How far a product of ones may lie from K: results are stored in bf16, or FP8's accumulator keeps about 14 bits.
double probe_tolerance(const GemmShape& s) {
  if (s.dst == Number::bf16) return 0x1p-7;
  return s.a == Number::e4m3 || s.a == Number::e5m2 ? 0x1p-10 : 0;
}

}  // namespace

std::size_t size_of(Number number) {
  constexpr std::array<std::size_t, 6> sizes{4, 2, 1, 1, 1, 4};
  return sizes[static_cast<std::size_t>(number)];
}

const char* name_of(Number number) {
  constexpr std::array names{"f32", "bf16", "s8", "e4m3", "e5m2", "s32"};
  return names[static_cast<std::size_t>(number)];
}

std::string GemmShape::to_string() const {
  return std::string(gpu::name_of(a)) + "*" + gpu::name_of(b) + "->" + gpu::name_of(dst) + " m=" + std::to_string(m) +
         " n=" + std::to_string(n) + " k=" + std::to_string(k) + " batch=" + std::to_string(batch) +
         (block_scales ? " scales 1x128, 128x128" : "");
}

GemmPlan::GemmPlan(Context& context, const GemmShape& shape, int alignment) : context_(context), shape_(shape) {
  describe();
  ask(alignment);
  choose();
}

GemmPlan::~GemmPlan() {
  const CublasLt& lt = context_.lt();
  for (cublasLtMatrixLayout_t layout : {a_, b_, d_})
    if (layout != nullptr) lt.layout_destroy(layout);
  if (desc_ != nullptr) lt.desc_destroy(desc_);
}

// cuBLASLt counts in columns: row-major [m, n] is its n x m, so that its A is our b and its B our a.
void GemmPlan::describe() {
  const CublasLt& lt = context_.lt();
  const std::string subject = shape_.to_string();
  const bool integer = shape_.dst == Number::s32;
  check(lt.desc_create(&desc_, integer ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F, integer ? CUDA_R_32I : CUDA_R_32F),
        "cublasLtMatmulDescCreate", subject);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(lt.desc_set(desc_, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute", subject);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  if (shape_.bias) set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  if (shape_.bias) set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
  if (shape_.fast_accum) set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{1});
  if (shape_.block_scales) {
    set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, std::int32_t{CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F});
    set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, std::int32_t{CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F});
    const std::int64_t most =
        std::max(shape_.m * scale_blocks(shape_.k), scale_blocks(shape_.n) * padded_scale_blocks(shape_.k));
    ones_ = context_.uploaded(std::vector<float>(static_cast<std::size_t>(most), 1.0F));
    point_at_scales(ones_.get(), ones_.get());
  }
  const auto layout = [&](cublasLtMatrixLayout_t& out, Number type, std::int64_t rows, std::int64_t columns, std::int64_t ld,
                          std::int64_t stride) {
    check(lt.layout_create(&out, cuda_type(type), static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), ld),
          "cublasLtMatrixLayoutCreate", subject);
    const auto batch = static_cast<std::int32_t>(shape_.batch);
    if (batch == 1) return;
    check(lt.layout_set(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch), "cublasLtMatrixLayoutSetAttribute",
          subject);
    check(lt.layout_set(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
          "cublasLtMatrixLayoutSetAttribute", subject);
  };
  layout(a_, shape_.b, shape_.k, shape_.n, shape_.ldb, shape_.stride_b);
  layout(b_, shape_.a, shape_.k, shape_.m, shape_.lda, shape_.stride_a);
  layout(d_, shape_.dst, shape_.n, shape_.m, shape_.ldd, shape_.stride_d);
}

void GemmPlan::point_at_scales(const float* of_a, const float* of_b) const {
  const CublasLt& lt = context_.lt();
  for (const auto& [attribute, pointer] :
       {std::pair{CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, of_b}, std::pair{CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, of_a}})
    check(lt.desc_set(desc_, attribute, &pointer, sizeof pointer), "cublasLtMatmulDescSetAttribute", shape_.to_string());
}

void GemmPlan::ask(int alignment) {
  ask_for(alignment, CUBLASLT_REDUCTION_SCHEME_NONE);
  if (offers_.empty()) ask_for(alignment, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  if (offers_.empty())
    throw Error(ErrorKind::unavailable,
                "gpu: cuBLASLt has no algorithm for " + shape_.to_string() + " on " + context_.device_name());
}

void GemmPlan::ask_for(int alignment, std::uint32_t reductions) {
  const CublasLt& lt = context_.lt();
  const std::string subject = shape_.to_string();
  cublasLtMatmulPreference_t preference = nullptr;
  check(lt.preference_create(&preference), "cublasLtMatmulPreferenceCreate", subject);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(lt.preference_set(preference, attribute, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute", subject);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, Context::workspace_bytes);
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
  for (auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                         CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(attribute, static_cast<std::uint32_t>(alignment));
  offers_.resize(offers_wanted);
  int found = 0;
  const cublasStatus_t status =
      lt.heuristic(context_.handle(), desc_, a_, b_, d_, d_, preference, offers_wanted, offers_.data(), &found);
  lt.preference_destroy(preference);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic", subject);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) found = 0;
  offers_.resize(static_cast<std::size_t>(found));
}

void GemmPlan::run(const GemmPointers& p, std::size_t candidate) const {
  const float one = 1, zero = 0;
  const std::int32_t one_i = 1, zero_i = 0;
  const bool integer = shape_.dst == Number::s32;
  const CublasLt& lt = context_.lt();
  if (shape_.bias)
    check(lt.desc_set(desc_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias, sizeof p.bias), "cublasLtMatmulDescSetAttribute",
          shape_.to_string());
  if (shape_.block_scales)
    point_at_scales(p.a_scales != nullptr ? p.a_scales : ones_.get(), p.b_scales != nullptr ? p.b_scales : ones_.get());
  const auto* alpha = integer ? static_cast<const void*>(&one_i) : &one;
  const auto* beta = integer ? static_cast<const void*>(&zero_i) : &zero;
  if (const cublasStatus_t status =
          lt.matmul(context_.handle(), desc_, alpha, p.b, a_, p.a, b_, beta, p.dst, d_, p.dst, d_, &offers_[candidate].algo,
                    context_.workspace(), Context::workspace_bytes, context_.stream());
      status != CUBLAS_STATUS_SUCCESS)
    check(status, "cublasLtMatmul", shape_.to_string());
}

/// Memory for probing: operands, a result and another.
struct GemmPlan::Buffers {
  Buffers(Context& c, const GemmShape& s) : context(c), shape(s) {
    const auto span = [](std::int64_t rows, std::int64_t ld, std::int64_t batch, std::int64_t stride) {
      return (batch - 1) * stride + rows * ld;
    };
    n_a = span(s.m, s.lda, s.batch, s.stride_a);
    n_b = span(s.n, s.ldb, s.batch, s.stride_b);
    result_bytes = static_cast<std::size_t>(span(s.m, s.ldd, s.batch, s.stride_d)) * size_of(s.dst);
    a = c.allocate(static_cast<std::size_t>(n_a) * size_of(s.a));
    b = c.allocate(static_cast<std::size_t>(n_b) * size_of(s.b));
    result = c.allocate(result_bytes);
    other = c.allocate(result_bytes);
    bias = c.zeros<float>(s.n);
  }
  GemmPointers into(const std::shared_ptr<void>& dst) const { return {a.get(), b.get(), bias.get(), dst.get()}; }

  Context& context;
  const GemmShape& shape;
  std::int64_t n_a, n_b;
  std::size_t result_bytes;
  std::shared_ptr<void> a, b, result, other;
  std::shared_ptr<float> bias;
};

void GemmPlan::choose() {
  const Buffers buffers(context_, shape_);
  while (chosen_ < offers_.size() && !passes(buffers, chosen_)) ++chosen_;
  if (chosen_ == offers_.size())
    throw Error(ErrorKind::internal, "gpu: no algorithm of cuBLASLt multiplies ones right: " + shape_.to_string());
  name_ = name_of(chosen_);
  // Small products are bound by their launch: nothing to choose.
  constexpr double worth_timing = 1e8;
  if (static_cast<double>(shape_.m * shape_.n) * static_cast<double>(shape_.k * shape_.batch) < worth_timing) return;
  fill_random(buffers.a.get(), shape_.a, buffers.n_a, 1, context_.stream());
  fill_random(buffers.b.get(), shape_.b, buffers.n_b, 2, context_.stream());
  context_.clear(buffers.result.get(), buffers.result_bytes);
  run(buffers.into(buffers.result), chosen_);
  const Timer timer(context_);
  const auto seconds = [&](std::size_t candidate) {
    // Least of two averages; a short one over several launches: one alone is mostly its launch.
    const float once = timer.milliseconds([&] { run(buffers.into(buffers.other), candidate); });
    const int launches = once < 0.1F ? 8 : 1;
    float best = std::numeric_limits<float>::infinity();
    for (int i = 0; i < 2; ++i)
      best = std::min(best, timer.milliseconds([&] {
        for (int n = 0; n < launches; ++n) run(buffers.into(buffers.other), candidate);
      }));
    return best / static_cast<float>(launches);
  };
  float least = seconds(chosen_);
  const std::size_t first = chosen_;
  for (std::size_t i = first + 1; i < offers_.size(); ++i) {
    if (!passes(buffers, i)) continue;
    fill_random(buffers.a.get(), shape_.a, buffers.n_a, 1, context_.stream());
    fill_random(buffers.b.get(), shape_.b, buffers.n_b, 2, context_.stream());
    context_.clear(buffers.other.get(), buffers.result_bytes);
    run(buffers.into(buffers.other), i);
    const auto different = context_.zeros<std::uint32_t>(1);
    count_different(buffers.result.get(), buffers.other.get(), static_cast<std::int64_t>(buffers.result_bytes / 2),
                    different.get(), context_.stream());
    if (context_.fetched(different.get(), 1)[0] != 0) continue;
    if (const float time = seconds(i); time < least) {
      least = time;
      chosen_ = i;
    }
  }
}

bool GemmPlan::passes(const Buffers& buffers, std::size_t candidate) const {
  const GemmShape& s = shape_;
  const auto wrong = context_.zeros<std::uint32_t>(1);
  fill_ones(buffers.a.get(), s.a, buffers.n_a, context_.stream());
  fill_ones(buffers.b.get(), s.b, buffers.n_b, context_.stream());
  context_.clear(buffers.other.get(), buffers.result_bytes);
  run(buffers.into(buffers.other), candidate);
  count_unlike(buffers.other.get(), s.dst, static_cast<double>(s.k), probe_tolerance(s), s.batch, s.stride_d, s.m, s.n,
               s.ldd, wrong.get(), context_.stream());
  return context_.fetched(wrong.get(), 1)[0] == 0;
}

std::string GemmPlan::name_of(std::size_t candidate) const {
  const CublasLt& lt = context_.lt();
  const auto& algo = offers_[candidate].algo;
  const auto get = [&](cublasLtMatmulAlgoConfigAttributes_t attribute) {
    std::uint32_t value = 0;
    std::size_t written = 0;
    lt.config_get(&algo, attribute, &value, sizeof value, &written);
    return std::to_string(written == 2 ? value & 0xFFFFU : value);
  };
  return std::string("cublasLt ") + gpu::name_of(shape_.a) + "*" + gpu::name_of(shape_.b) + "->" + gpu::name_of(shape_.dst) +
         (shape_.fast_accum ? " fast_accum" : "") + (shape_.block_scales ? " scales 1x128, 128x128" : "") + " algo " +
         get(CUBLASLT_ALGO_CONFIG_ID) + " tile " + get(CUBLASLT_ALGO_CONFIG_TILE_ID) + " stages " +
         get(CUBLASLT_ALGO_CONFIG_STAGES_ID) +
         (get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM) == "1" || get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM) == "0"
              ? ""
              : " split k " + get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM));
}

const GemmPlan& GemmCache::run(const GemmShape& shape, const GemmPointers& p) {
  int alignment = std::min({alignment_of(p.a), alignment_of(p.b), alignment_of(p.dst), alignment_of(p.bias)});
  // Batches step by their stride: the alignment of the second is the stride's.
  for (auto [stride, number] :
       {std::pair{shape.stride_a, shape.a}, std::pair{shape.stride_b, shape.b}, std::pair{shape.stride_d, shape.dst}})
    if (shape.batch > 1 && stride > 0)
      alignment = std::min(
          alignment, alignment_of(reinterpret_cast<const void*>(static_cast<std::uintptr_t>(stride) * size_of(number))));
  std::unique_ptr<GemmPlan>& plan = plans_[{shape.key(), alignment}];
  if (!plan) plan = std::make_unique<GemmPlan>(context_, shape, alignment);
  plan->run(p);
  return *plan;
}

}  // namespace qfid::kernels::gpu
