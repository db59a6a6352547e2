// Matrix products through oneDNN's matmul primitive, one thread each: callers run many of them side by side, so that the
// result of any one never depends on the thread count. Primitives are made once per shape and kept.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "quant/core/tensor.h"

namespace qfid::kernels::cpu {

using DataType = dnnl::memory::data_type;

/// What this CPU's oneDNN can do well and exactly.
struct Isa {
  std::string name;   ///< as oneDNN calls its effective ISA
  bool vnni = false;  ///< u8/s8 products are exact (below, they saturate)
  bool amx = false;   ///< bf16 products are fast
};
Isa effective_isa();
/// Whether oneDNN has FP8 products on this CPU at all (its reference ones; they need more than AVX-512 core).
bool has_fp8_products();

/// dst[M,N] = src[M,K] * wei[K,N] (+ bias[N], f32). wei_transposed: stored [N,K]. packed: wei is in the layout of
/// packed_layout().
struct GemmShape {
  DataType src, wei, dst;
  std::int64_t M, N, K;
  bool wei_transposed = false, packed = false, bias = false;
  std::int64_t src_row = 0;  ///< elements from one row of src to the next; 0: K
  auto key() const { return std::tuple(src, wei, dst, M, N, K, wei_transposed, packed, bias, src_row); }
  bool operator<(const GemmShape& other) const { return key() < other.key(); }
};

/// oneDNN's own want of memory: its primitives, packed weights.
class OutOfOneDnnMemory : public quant::Error {
 public:
  explicit OutOfOneDnnMemory(const std::string& what) : Error(quant::ErrorKind::unavailable, "out of memory: " + what) {}
};
/// An error of oneDNN as one of ours: OutOfOneDnnMemory, or Error{unavailable}.
[[noreturn]] void fail(const dnnl::error& error, const std::string& what);

/// Per-thread needs of a product: a stream and scratch memory.
class GemmContext {
 public:
  GemmContext();
  dnnl::stream& stream() { return stream_; }
  void* scratch(std::size_t bytes);

 private:
  dnnl::stream stream_;
  quant::Tensor scratch_;
};

class Gemm {
 public:
  explicit Gemm(const GemmShape& shape);
  void run(GemmContext& context, const void* src, const void* wei, const void* bias, void* dst) const;
  const std::string& implementation() const { return name_; }
  dnnl::memory::desc weights_layout() const { return pd_.weights_desc(); }

 private:
  GemmShape shape_;
  dnnl::matmul::primitive_desc pd_;
  dnnl::matmul primitive_;
  std::string name_;
};

/// Thread-safe; lives as long as the backend.
class GemmCache {
 public:
  const Gemm& get(const GemmShape& shape);

 private:
  std::mutex mutex_;
  std::map<GemmShape, std::unique_ptr<Gemm>> made_;
};

/// Weights [K, N] packed once in the layout oneDNN prefers for a product of `rows` rows. One shape only: a packed layout
/// that is best for one number of rows can send another to oneDNN's reference implementation.
class PackedWeights {
 public:
  /// `plain`: row-major [N, K] (as checkpoints store linears) of `type`.
  PackedWeights(const void* plain, DataType type, DataType src, DataType dst, std::int64_t N, std::int64_t K,
                std::int64_t rows, bool bias);
  const Gemm& product() const { return product_; }
  const void* data() const { return memory_.get_data_handle(); }

 private:
  Gemm product_;
  dnnl::memory memory_;
};

dnnl::engine& cpu_engine();

}  // namespace qfid::kernels::cpu
