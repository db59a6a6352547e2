// DeviceTensors whose memory is the host's: shared by the reference and cpu backends.
#pragma once

#include "kernels/tensor.h"

namespace qfid::kernels::host {

/// Takes the tensor's memory; the DeviceTensor is its only owner.
DeviceTensor adopt(quant::Tensor&& tensor);
/// Views valid while any copy of `tensor` lives. Error{internal} on the wrong dtype or an undefined tensor.
template <class T>
quant::View<const T> view(const DeviceTensor& tensor) {
  quant::require(tensor.defined() || tensor.shape.elements() == 0, "host tensor: undefined");
  quant::require(tensor.dtype == quant::dtype_of<T>, "host tensor: viewed as another dtype than it stores");
  return quant::View<const T>(static_cast<const T*>(tensor.storage.get()), tensor.shape);
}
quant::Tensor download(const DeviceTensor& tensor);
/// Rows [begin, end) of the first axis; shares the storage.
DeviceTensor slice(const DeviceTensor& tensor, std::int64_t begin, std::int64_t end);

}  // namespace qfid::kernels::host
