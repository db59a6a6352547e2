#include "kernels/host/host_memory.h"

#include <cstring>
#include <utility>
#include <vector>

namespace qfid::kernels::host {

DeviceTensor adopt(quant::Tensor&& tensor) {
  auto owner = std::make_shared<quant::Tensor>(std::move(tensor));
  DeviceTensor result{owner->dtype(), owner->shape(), nullptr};
  result.storage = std::shared_ptr<void>(owner, owner->raw());
  return result;
}

quant::Tensor download(const DeviceTensor& tensor) {
  quant::Tensor copy(tensor.dtype, tensor.shape);
  if (copy.bytes() > 0) std::memcpy(copy.raw(), tensor.storage.get(), copy.bytes());
  return copy;
}

DeviceTensor slice(const DeviceTensor& tensor, std::int64_t begin, std::int64_t end) {
  quant::require(tensor.shape.rank() >= 1 && 0 <= begin && begin <= end && end <= tensor.shape[0],
                 "host tensor: slice out of range");
  std::vector<std::int64_t> dims(tensor.shape.dims().begin(), tensor.shape.dims().end());
  dims[0] = end - begin;
  const std::int64_t row = tensor.shape[0] == 0 ? 0 : tensor.shape.elements() / tensor.shape[0];
  auto* data = static_cast<std::byte*>(tensor.storage.get()) +
               static_cast<std::size_t>(begin * row) * quant::info(tensor.dtype).bytes;
  return {tensor.dtype, Shape(std::span<const std::int64_t>(dims)), std::shared_ptr<void>(tensor.storage, data)};
}

}  // namespace qfid::kernels::host
