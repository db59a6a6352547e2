#include "kernels/cpu/block_product.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/pair_product.h"

namespace qfid::kernels::cpu {

namespace {

DataType a_type(BlockType type) {
  return type == BlockType::u8s8 ? DataType::u8 : type == BlockType::bf16 ? DataType::bf16 : DataType::f32;
}

dnnl::ukernel::brgemm made(const BlockShape& s) {
  const DataType a = a_type(s.type), b = s.type == BlockType::u8s8 ? DataType::s8 : a;
  const DataType c = s.type == BlockType::u8s8 ? DataType::s32 : DataType::f32;
  auto kernel = std::make_unique<dnnl::ukernel::brgemm>(s.M, s.N, s.K, 1, s.lda, s.N, s.ldc, a, b, c);
  kernel->set_add_C(s.add);
  kernel->finalize();
  try {
    kernel->generate();
  } catch (const dnnl::error&) {
    // oneDNN 3.6 can't destroy a kernel whose code it had no memory for: it stays.
    [[maybe_unused]] const auto* const kept = kernel.release();
    throw;
  }
  return *kernel;
}

}  // namespace

std::optional<BlockRoute> block_route(const ProductTypes& types, const Isa& isa) {
  if (types.integer_as_f32) {
    if (!has_pair_products()) return {};
    return BlockRoute{BlockType::s16, 2, 2, 2};
  }
  // AMX multiplies 64 bytes of K at once; a shorter rest costs it as much.
  if (types.b == DataType::s8) return BlockRoute{BlockType::u8s8, isa.amx ? 64 : 4, 4, 1};
  if (types.b == DataType::bf16) return BlockRoute{BlockType::bf16, isa.amx ? 32 : 2, 2, 2};
  return BlockRoute{BlockType::f32, 1, 1, 4};
}

BlockProduct::BlockProduct(const BlockShape& shape, bool amx) : shape_(shape), amx_(amx) {
  if (shape.type == BlockType::s16) return;
  try {
    kernel_ = made(shape);
    scratch_ = kernel_.get_scratchpad_size();
  } catch (const dnnl::error& error) {
    fail(error, "oneDNN has no block product for M=" + std::to_string(shape.M) + " N=" + std::to_string(shape.N) +
                    " K=" + std::to_string(shape.K));
  }
}

bool BlockProduct::same_tiles(const BlockProduct& other) const {
  const BlockShape &x = shape_, &y = other.shape_;
  return x.type == y.type && x.M == y.M && x.N == y.N && x.K == y.K;
}

void BlockProduct::run(const void* a, const void* b, void* c, void* scratch, const BlockProduct*& tiles) const {
  if (shape_.type == BlockType::s16) {
    PairProduct{shape_.K, shape_.N, shape_.lda, shape_.ldc, shape_.add}.run(
        shape_.M, static_cast<const std::int16_t*>(a), static_cast<const std::int16_t*>(b), static_cast<std::int32_t*>(c));
    return;
  }
  static const std::vector<std::pair<dnnl::memory::dim, dnnl::memory::dim>> whole{{0, 0}};
  if (amx_ && (tiles == nullptr || !same_tiles(*tiles))) kernel_.set_hw_context();
  tiles = this;
  kernel_.execute(a, b, whole, c, scratch);
}

void BlockProduct::release(bool amx) {
  if (amx) dnnl::ukernel::brgemm::release_hw_context();
}

const BlockProduct* BlockCache::get(const BlockShape& shape, bool amx) {
  const std::scoped_lock lock(mutex_);
  if (const auto known = made_.find(shape); known != made_.end()) return known->second.get();
  std::unique_ptr<BlockProduct> made;
  try {
    made = std::make_unique<BlockProduct>(shape, amx);
  } catch (const OutOfOneDnnMemory&) { throw; } catch (const quant::Error&) {
    // stays null: asked once
  }
  return made_.emplace(shape, std::move(made)).first->second.get();
}

std::string block_name(BlockType type) {
  switch (type) {
    case BlockType::u8s8:
      return "brgemm:ukernel:u8s8s32";
    case BlockType::s16:
      return "pairs:avx2:s16s16s32";
    case BlockType::bf16:
      return "brgemm:ukernel:bf16";
    case BlockType::f32:
      break;
  }
  return "brgemm:ukernel:f32";
}

}  // namespace qfid::kernels::cpu
