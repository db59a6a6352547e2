#include "kernels/gpu/gemm.h"

#include <algorithm>
#include <array>
#include <utility>

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

}  // namespace

std::size_t size_of(Number number) {
  constexpr std::array<std::size_t, 6> sizes{4, 2, 1, 1, 1, 4};
  return sizes[static_cast<std::size_t>(number)];
}

const char* name_of(Number number) {
  constexpr std::array names{"f32", "bf16", "s8", "e4m3", "e5m2", "s32"};
  return names[static_cast<std::size_t>(number)];
}

std::int64_t GemmShape::scales() const {
  const std::int64_t of_b =
      inner_scales == InnerScales::groups ? n * scale_blocks(k) : scale_blocks(n) * padded_scale_blocks(k);
  return std::max(m * scale_blocks(k), of_b);
}

namespace {
const char* text_of(InnerScales scales) {
  switch (scales) {
    case InnerScales::none:
      return "";
    case InnerScales::blocks:
      return " scales 1x128, 128x128";
    case InnerScales::groups:
      return " scales 1x128, 1x128";
  }
  return "";
}
}  // namespace

std::string GemmShape::to_string() const {
  return std::string(gpu::name_of(a)) + "*" + gpu::name_of(b) + "->" + gpu::name_of(dst) + " m=" + std::to_string(m) +
         " n=" + std::to_string(n) + " k=" + std::to_string(k) + " batch=" + std::to_string(batch) + text_of(inner_scales);
}

GemmPlan::GemmPlan(Context& context, const GemmShape& shape, int alignment) : context_(context), shape_(shape) {
  describe();
  ask(alignment);
  choose();
}

GemmPlan::~GemmPlan() {
  forget(layouts_);
  if (desc_ != nullptr) context_.lt().desc_destroy(desc_);
}

void GemmPlan::forget(const Layouts& layouts) const {
  for (cublasLtMatrixLayout_t layout : {layouts.a, layouts.b, layouts.d})
    if (layout != nullptr) context_.lt().layout_destroy(layout);
}

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
  if (shape_.inner_scales != InnerScales::none) {
    const bool blocks = shape_.inner_scales == InnerScales::blocks;
    set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
        std::int32_t{blocks ? CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F : CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F});
    set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, std::int32_t{CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F});
    ones_ = context_.uploaded(std::vector<float>(static_cast<std::size_t>(shape_.scales()), 1.0F));
    point_at_scales(ones_.get(), ones_.get());
  }
  describe(layouts_, shape_.m, shape_.batch);
}

// cuBLASLt counts in columns: row-major [m, n] is its n x m, so that its A is our b and its B our a.
void GemmPlan::describe(Layouts& layouts, std::int64_t rows, std::int64_t batches) const {
  const CublasLt& lt = context_.lt();
  const std::string subject = shape_.to_string();
  const auto layout = [&](cublasLtMatrixLayout_t& out, Number type, std::int64_t n, std::int64_t columns, std::int64_t ld,
                          std::int64_t stride) {
    check(lt.layout_create(&out, cuda_type(type), static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(columns), ld),
          "cublasLtMatrixLayoutCreate", subject);
    const auto batch = static_cast<std::int32_t>(batches);
    if (batch == 1) return;
    check(lt.layout_set(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch), "cublasLtMatrixLayoutSetAttribute",
          subject);
    check(lt.layout_set(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
          "cublasLtMatrixLayoutSetAttribute", subject);
  };
  layout(layouts.a, shape_.b, shape_.k, shape_.n, shape_.ldb, shape_.stride_b);
  layout(layouts.b, shape_.a, shape_.k, rows, shape_.lda, shape_.stride_a);
  layout(layouts.d, shape_.dst, shape_.n, rows, shape_.ldd, shape_.stride_d);
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
  const cublasStatus_t status = lt.heuristic(context_.handle(), desc_, layouts_.a, layouts_.b, layouts_.d, layouts_.d,
                                             preference, offers_wanted, offers_.data(), &found);
  lt.preference_destroy(preference);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic", subject);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) found = 0;
  offers_.resize(static_cast<std::size_t>(found));
}

cublasStatus_t GemmPlan::multiply(const GemmPointers& p, std::size_t candidate, const Layouts& l) const {
  const float one = 1, zero = 0;
  const std::int32_t one_i = 1, zero_i = 0;
  const bool integer = shape_.dst == Number::s32;
  const CublasLt& lt = context_.lt();
  if (shape_.bias)
    if (const cublasStatus_t status = lt.desc_set(desc_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias, sizeof p.bias);
        status != CUBLAS_STATUS_SUCCESS)
      return status;
  if (shape_.inner_scales != InnerScales::none)
    point_at_scales(p.a_scales != nullptr ? p.a_scales : ones_.get(), p.b_scales != nullptr ? p.b_scales : ones_.get());
  const auto* alpha = integer ? static_cast<const void*>(&one_i) : &one;
  const auto* beta = integer ? static_cast<const void*>(&zero_i) : &zero;
  return lt.matmul(context_.handle(), desc_, alpha, p.b, l.a, p.a, l.b, beta, p.dst, l.d, p.dst, l.d,
                   &offers_[candidate].algo, context_.workspace(), Context::workspace_bytes, context_.stream());
}

void GemmPlan::run(const GemmPointers& p, std::size_t candidate) const {
  if (const cublasStatus_t status = multiply(p, candidate, layouts_); status != CUBLAS_STATUS_SUCCESS)
    check(status, "cublasLtMatmul", shape_.to_string());
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
         (shape_.fast_accum ? " fast_accum" : "") + text_of(shape_.inner_scales) + " algo " + get(CUBLASLT_ALGO_CONFIG_ID) +
         " tile " + get(CUBLASLT_ALGO_CONFIG_TILE_ID) + " stages " + get(CUBLASLT_ALGO_CONFIG_STAGES_ID) +
         (get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM) == "1" || get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM) == "0"
              ? ""
              : " split k " + get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM));
}

void GemmCache::load(Number a, Number b, Number dst, bool bias) {
  constexpr std::int64_t n = 256;
  GemmShape shape{a, b, dst, n, n, n, n, n, n};
  shape.bias = bias;
  std::unique_ptr<GemmPlan>& plan = plans_[{shape.key(), 256}];
  if (!plan) plan = std::make_unique<GemmPlan>(context_, shape, 256);
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
