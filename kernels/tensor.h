// DeviceTensor: an opaque tensor that lives in a backend's memory. Shared ownership; contents are immutable once an
// operation has returned it, so taps may keep it. Host-memory backends reach the data through kernels/host.
#pragma once

#include <memory>

#include "quant/core/tensor.h"

namespace qfid::kernels {

using quant::DType;
using quant::Shape;

struct DeviceTensor {
  DType dtype = DType::f32;
  Shape shape{0};
  std::shared_ptr<void> storage;

  bool defined() const { return storage != nullptr; }
  /// The same storage under another shape of as many elements.
  DeviceTensor reshaped(const Shape& other) const {
    quant::require(other.elements() == shape.elements(), "device tensor: reshape changes the number of elements");
    return {dtype, other, storage};
  }
};

}  // namespace qfid::kernels
