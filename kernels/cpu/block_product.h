// Products of small blocks that lie in cache, one thread each, for attention without scores in memory and for linears:
// oneDNN's ukernel (brgemm) for u8*s8 on VNNI and above, bf16 and f32; own s16 pairs for integers on CPUs without VNNI. One
// shape of operands for both: A row-major, B packed (attention's by pack_keys() and pack_values()). What neither can do (f32
// below AVX2) is left to oneDNN's matmul primitives (kernels/cpu/gemm.h).
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl_ukernel.hpp>
#include <optional>
#include <string>
#include <tuple>

#include "kernels/cpu/gemm.h"

namespace qfid::kernels::cpu {

struct ProductTypes;

/// Numbers of a block product's operands. u8s8: A holds code + a_offset, B s8, sums s32.
enum class BlockType : std::uint8_t { u8s8, s16, bf16, f32 };

/// How a product runs in blocks.
struct BlockRoute {
  BlockType type;
  std::int64_t k_step;  ///< K is padded with zeros to a multiple
  std::int64_t pack;    ///< consecutive k that lie side by side in B: [K/pack][N][pack]
  std::size_t bytes;    ///< of an element of A and B
  bool integer() const { return type == BlockType::u8s8 || type == BlockType::s16; }
  std::int64_t padded(std::int64_t k) const { return (k + k_step - 1) / k_step * k_step; }
};
/// The route of operands that product_types() would store as `types` (`integer`: they are INT8 codes); none on CPUs that
/// can't.
std::optional<BlockRoute> block_route(const ProductTypes& types, const Isa& isa);

/// c[M, N] (+)= a[M, K] b[K, N]; lda, ldc in elements; N <= 64, a multiple of 16, is also B's leading dimension.
struct BlockShape {
  BlockType type;
  std::int64_t M, N, K, lda, ldc;
  bool add;
  auto key() const { return std::tuple(type, M, N, K, lda, ldc, add); }
  bool operator<(const BlockShape& other) const { return key() < other.key(); }
};

class BlockProduct {
 public:
  /// Error{unavailable} where oneDNN has no kernel for it.
  BlockProduct(const BlockShape& shape, bool amx);
  /// scratch: scratch_bytes(), 64-byte aligned. `tiles`: this thread's last product, null at first; AMX tiles are set only
  /// where they change. The thread calls release() after its last product.
  void run(const void* a, const void* b, void* c, void* scratch, const BlockProduct*& tiles) const;
  std::size_t scratch_bytes() const { return scratch_; }
  static void release(bool amx);

 private:
  bool same_tiles(const BlockProduct& other) const;

  BlockShape shape_;
  bool amx_;
  std::size_t scratch_ = 0;
  dnnl::ukernel::brgemm kernel_;  ///< empty for s16
};

/// Thread-safe; lives as long as the backend. get() is null where the product can't be made.
class BlockCache {
 public:
  const BlockProduct* get(const BlockShape& shape, bool amx);

 private:
  std::mutex mutex_;
  std::map<BlockShape, std::unique_ptr<BlockProduct>> made_;
};

/// Name of what runs a route, for records.
std::string block_name(BlockType type);

}  // namespace qfid::kernels::cpu
