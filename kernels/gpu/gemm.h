// Matrix products through cuBLASLt. One plan a shape: descriptors and an algorithm. Of those the library's heuristic offers,
// the first that passes a probe with operands of all ones (a K tail lost or counted twice shows there) sets the bits: every
// other one that gives the same bits on random operands may take its place, and the fastest does (gemm_choice.cc). So the
// choice is timed and yet two runs never differ in their results. TF32 off, one workspace; K is split (into parts kept in
// the workspace, added in order) only where the library has nothing else.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/gpu/context.h"

namespace qfid::kernels::gpu {

/// What the operands and results of a product are stored in.
enum class Number : std::uint8_t { f32, bf16, s8, e4m3, e5m2, s32 };
std::size_t size_of(Number number);
const char* name_of(Number number);

/// Scales along K, which E4M3 products multiply in between: of each 1 x 128 numbers of a, and of each 128 x 128 (blocks) or
/// 1 x 128 (groups) of b. m is a multiple of 4, and n where b has groups; k of 128.
enum class InnerScales : std::uint8_t { none, blocks, groups };

/// Row-major dst[m, n] = a[m, k] * b[n, k]^T (+ bias[n], f32, when a, b, dst are f32 or a, b bf16 and dst f32), `batch`
/// times, strides in elements. Both operands lie along K: the one layout (TN) that INT8 and FP8 have.
struct GemmShape {
  Number a, b, dst;
  std::int64_t m, n, k, lda, ldb, ldd;
  std::int64_t batch = 1, stride_a = 0, stride_b = 0, stride_d = 0;
  bool bias = false, fast_accum = false;
  InnerScales inner_scales = InnerScales::none;
  auto key() const {
    return std::tuple(a, b, dst, m, n, k, lda, ldb, ldd, batch, stride_a, stride_b, stride_d, bias, fast_accum,
                      inner_scales);
  }
  std::string to_string() const;
  /// As many scales as either operand has (inner_scales).
  std::int64_t scales() const;
};

/// Numbers along K that share a scale, and rows of weights that do (InnerScales::blocks).
inline constexpr std::int64_t scale_block = 128;
/// Granules of k numbers, and those rounded to the four that cuBLASLt pads a row of weights' scales to.
constexpr std::int64_t scale_blocks(std::int64_t k) { return (k + scale_block - 1) / scale_block; }
constexpr std::int64_t padded_scale_blocks(std::int64_t k) { return (scale_blocks(k) + 3) / 4 * 4; }

struct GemmPointers {
  const void* a;
  const void* b;
  const void* bias;
  void* dst;
  const float* a_scales = nullptr;  ///< [k / 128, m] (inner_scales)
  const float* b_scales = nullptr;  ///< [ceil(n / 128), padded_scale_blocks(k)] of blocks, [k / 128, n] of groups
};

class GemmPlan {
 public:
  /// Error{unavailable} when the library has no algorithm for the shape. alignment: bytes, a power of two up to 256, of
  /// all pointers.
  GemmPlan(Context& context, const GemmShape& shape, int alignment);
  ~GemmPlan();
  GemmPlan(const GemmPlan&) = delete;
  GemmPlan& operator=(const GemmPlan&) = delete;

  void run(const GemmPointers& pointers) const { run(pointers, chosen_); }
  /// Of the algorithm that sets the bits, the same in every run: "e4m3*e4m3->f32 algo 66 tile 20 stages 36". The chosen one
  /// may be another, faster one with the same bits.
  const std::string& implementation() const { return name_; }

  /// Every algorithm the heuristic offers, in its order; for benchmarks.
  std::size_t candidates() const { return offers_.size(); }
  void run(const GemmPointers& pointers, std::size_t candidate) const;
  std::size_t chosen() const { return chosen_; }

 private:
  struct Layouts {
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;  ///< as the library names them
  };
  void describe();
  void point_at_scales(const float* of_a, const float* of_b) const;
  void describe(Layouts& layouts, std::int64_t rows, std::int64_t batches) const;
  void forget(const Layouts& layouts) const;
  void ask(int alignment);
  void ask_for(int alignment, std::uint32_t reductions);
  cublasStatus_t multiply(const GemmPointers& pointers, std::size_t candidate, const Layouts& layouts) const;
  std::string name_of(std::size_t candidate) const;
  // gemm_choice.cc
  struct Buffers;
  class Timer;
  void choose();
  bool passes(const Buffers& buffers, std::size_t candidate) const;
  void load(const Buffers& buffers, std::size_t candidate) const;
  bool same_bits(const Buffers& buffers, std::size_t candidate) const;
  std::size_t fastest(const Buffers& buffers) const;

  Context& context_;
  GemmShape shape_;
  cublasLtMatmulDesc_t desc_ = nullptr;
  Layouts layouts_;
  std::shared_ptr<float> ones_;  ///< scales to probe with
  std::vector<cublasLtMatmulHeuristicResult_t> offers_;
  std::size_t chosen_ = 0;
  std::string name_;
};

/// Plans by shape and alignment, kept as long as the backend.
class GemmCache {
 public:
  explicit GemmCache(Context& context) : context_(context) {}
  /// A small product of these types, once: the library loads what it needs for them, up to 0.1 s, when they are prepared and
  /// not when they first run (fast_accum and scales along K excepted).
  void load(Number a, Number b, Number dst, bool bias);
  /// Runs the product; returns its plan.
  const GemmPlan& run(const GemmShape& shape, const GemmPointers& pointers);

 private:
  Context& context_;
  std::map<std::pair<decltype(GemmShape{}.key()), int>, std::unique_ptr<GemmPlan>> plans_;
};

}  // namespace qfid::kernels::gpu
