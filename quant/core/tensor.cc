#include "quant/core/tensor.h"

#include <cstring>
#include <new>
#include <string>

#include "quant/core/out_of_memory.h"

namespace qfid::quant {
namespace {
constexpr std::align_val_t alignment{64};
}

void Tensor::Free::operator()(std::byte* data) const { ::operator delete(data, alignment); }

Tensor::Tensor(DType dtype, const Shape& shape) : dtype_(dtype), shape_(shape) {
  // Padding to whole cache lines lets vector code read full lanes at the end.
  const std::size_t size = (bytes() + 63) / 64 * 64;
  if (size == 0) return;
  data_.reset(static_cast<std::byte*>(::operator new(size, alignment, std::nothrow)));
  if (!data_) throw OutOfMemory(size, "a " + std::string(info(dtype).name) + " tensor of " + shape.to_string());
}

Tensor Tensor::zeros(DType dtype, const Shape& shape) {
  Tensor tensor(dtype, shape);
  if (tensor.raw() != nullptr) std::memset(tensor.raw(), 0, tensor.bytes());
  return tensor;
}

Tensor Tensor::clone() const {
  Tensor copy(dtype_, shape_);
  if (raw() != nullptr) std::memcpy(copy.raw(), raw(), bytes());
  return copy;
}

}  // namespace qfid::quant
