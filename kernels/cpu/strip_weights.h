// Weights of a linear in strips of a few outputs, packed once: a strip of a block of K lies in cache while a block of rows
// goes past it, and what follows the product finds its sums there. Products are kernels/cpu/block_product.h's. oneDNN's
// matmul primitive packs weights anew at every call where its f32 product is its older one (below AVX-512).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cpu/block_product.h"
#include "kernels/cpu/panel_memory.h"
#include "quant/core/tensor.h"

namespace qfid::kernels::cpu {

class StripWeights {
 public:
  static constexpr std::int64_t row_block = 128;  ///< most rows of one run()

  /// `plain`: [out, in] numbers of the route. Null where the product of any number of rows can't be made: who has strips can
  /// run them. `cache` outlives it.
  static std::unique_ptr<StripWeights> make(const std::byte* plain, std::int64_t out, std::int64_t in,
                                            const BlockRoute& route, const Isa& isa, BlockCache& cache);

  const BlockRoute& route() const { return route_; }
  std::int64_t depth() const { return depth_; }  ///< in, padded: the length of a row of src
  std::int64_t width() const { return strip_; }  ///< outputs of a strip
  std::int64_t strips() const { return (out_ + strip_ - 1) / strip_; }
  bool tiled() const { return amx_; }  ///< AMX tiles are set

  /// AMX tiles of one thread while it multiplies: given back at its end.
  class Tiles {
   public:
    explicit Tiles(bool amx) : amx_(amx) {}
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;
    ~Tiles() { BlockProduct::release(amx_); }

   private:
    friend class StripWeights;
    bool amx_;
    const BlockProduct* last_ = nullptr;
  };
  /// sums[r, c] = sum over k of src[r, k] * weight[strip * width() + c, k], s32 or f32 [row_block][width()]. src:
  /// [rows][depth()], its padding 0; u8s8: codes as u8.
  void run(const void* src, std::int64_t rows, std::int64_t strip, std::byte* sums, StripMemory& memory, Tiles& tiles) const;

 private:
  StripWeights(std::int64_t out, std::int64_t in, const BlockRoute& route, const Isa& isa, BlockCache& cache);
  void pack(const std::byte* plain, std::int64_t in);
  /// Products of one number of rows, one for each block of K (the last may be shorter).
  using Products = std::vector<const BlockProduct*>;
  bool make_products_of(std::int64_t rows);
  static std::size_t index(std::int64_t rows) {
    return static_cast<std::size_t>(std::countr_zero(static_cast<std::uint64_t>(rows)));
  }

  std::int64_t out_;
  BlockRoute route_;
  bool amx_;
  BlockCache& cache_;
  std::int64_t depth_, strip_, k_block_;
  quant::Tensor packed_;              ///< [strips][depth / pack][strip][pack]
  std::array<Products, 8> products_;  ///< of 1, 2, 4, ... 128 rows
  std::size_t scratch_ = 0;
};

}  // namespace qfid::kernels::cpu
