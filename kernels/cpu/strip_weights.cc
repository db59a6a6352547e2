#include "kernels/cpu/strip_weights.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace qfid::kernels::cpu {

namespace {

/// Outputs of a strip: as many as a row of sums in registers, or two of them.
std::int64_t strip_of(BlockType type, const Isa& isa) {
  if (type == BlockType::s16) return 16;
  return isa.name.starts_with("avx2") ? 32 : 64;
}

/// A block of a strip's K: of numbers that oneDNN's f32 kernels go through; whole where products are faster than memory.
std::int64_t k_block_of(BlockType type, std::int64_t depth) {
  return type == BlockType::f32 ? std::min<std::int64_t>(512, depth) : depth;
}

}  // namespace

StripWeights::StripWeights(std::int64_t out, std::int64_t in, const BlockRoute& route, const Isa& isa, BlockCache& cache)
    : out_(out),
      route_(route),
      amx_(isa.amx && route.type != BlockType::f32),
      cache_(cache),
      depth_(route.padded(in)),
      strip_(strip_of(route.type, isa)),
      k_block_(k_block_of(route.type, depth_)) {}

std::unique_ptr<StripWeights> StripWeights::make(const std::byte* plain, std::int64_t out, std::int64_t in,
                                                 const BlockRoute& route, const Isa& isa, BlockCache& cache) {
  std::unique_ptr<StripWeights> made(new StripWeights(out, in, route, isa, cache));
  for (std::int64_t rows = 1; rows <= row_block; rows *= 2)
    if (!made->make_products_of(rows)) return nullptr;
  made->pack(plain, in);
  return made;
}

void StripWeights::pack(const std::byte* plain, std::int64_t in) {
  const auto bytes = static_cast<std::int64_t>(route_.bytes), pack = route_.pack * bytes;
  packed_ = quant::Tensor::zeros(quant::DType::u8, quant::Shape{strips() * strip_ * depth_ * bytes});
  const std::int64_t packs = in / route_.pack, rest = in % route_.pack * bytes;
#pragma omp parallel for schedule(static)
  for (std::int64_t o = 0; o < out_; ++o) {
    const std::byte* src = plain + o * in * bytes;
    std::byte* dst = packed_.raw() + o / strip_ * strip_ * depth_ * bytes + o % strip_ * pack;
    for (std::int64_t k = 0; k < packs; ++k)
      std::memcpy(dst + k * strip_ * pack, src + k * pack, static_cast<std::size_t>(pack));
    std::memcpy(dst + packs * strip_ * pack, src + packs * pack, static_cast<std::size_t>(rest));
  }
}

bool StripWeights::make_products_of(std::int64_t rows) {
  for (std::int64_t k = 0; k < depth_; k += k_block_) {
    const BlockProduct* product =
        cache_.get({route_.type, rows, strip_, std::min(k_block_, depth_ - k), depth_, strip_, k != 0}, amx_);
    if (product == nullptr) return false;
    scratch_ = std::max(scratch_, product->scratch_bytes());
    products_[index(rows)].push_back(product);
  }
  return true;
}

void StripWeights::run(const void* src, std::int64_t rows, std::int64_t strip, std::byte* sums, StripMemory& memory,
                       Tiles& tiles) const {
  std::byte* scratch = memory.scratch.reserve(static_cast<std::int64_t>(scratch_));
  const auto bytes = static_cast<std::int64_t>(route_.bytes);
  for (std::int64_t k = 0; k < depth_; k += k_block_) {
    const std::byte* weights = packed_.raw() + (strip * depth_ + k) * strip_ * bytes;
    for (std::int64_t first = 0; first < rows;) {
      const auto left = static_cast<std::uint64_t>(rows - first);
      const std::int64_t n = left >= row_block ? row_block : static_cast<std::int64_t>(left & -left);
      products_[index(n)][static_cast<std::size_t>(k / k_block_)]->run(
          static_cast<const std::byte*>(src) + (first * depth_ + k) * bytes, weights, sums + first * strip_ * 4, scratch,
          tiles.last_);
      first += n;
    }
  }
}

}  // namespace qfid::kernels::cpu
