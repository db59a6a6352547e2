// Tensor owns 64-byte aligned host memory; View borrows it and must not outlive it. Both are dense and row-major.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>

#include "quant/core/dtype.h"
#include "quant/core/error.h"
#include "quant/core/shape.h"

namespace qfid::quant {

template <class T>
class View {
 public:
  View() = default;
  View(T* data, const Shape& shape) : data_(data), shape_(shape) {}
  template <class U>
    requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>)
  View(const View<U>& other) : data_(other.data()), shape_(other.shape()) {}

  T* data() const { return data_; }
  const Shape& shape() const { return shape_; }
  std::int64_t size() const { return shape_.elements(); }
  std::int64_t columns() const { return shape_.rank() == 0 ? 1 : shape_[-1]; }
  std::int64_t rows() const { return columns() == 0 ? 0 : size() / columns(); }
  T& operator[](std::int64_t i) const { return data_[i]; }
  std::span<T> span() const { return {data_, static_cast<std::size_t>(size())}; }
  std::span<T> row(std::int64_t i) const { return {data_ + i * columns(), static_cast<std::size_t>(columns())}; }
  /// The same elements under another shape; Error{internal} when the counts differ.
  View reshaped(const Shape& shape) const {
    require(shape.elements() == size(), "view: reshape changes the number of elements");
    return View(data_, shape);
  }

 private:
  T* data_ = nullptr;
  Shape shape_{0};
};

class Tensor {
 public:
  Tensor() = default;
  /// Uninitialized memory. Error{unavailable} naming the size when it can't be had.
  Tensor(DType dtype, const Shape& shape);
  static Tensor zeros(DType dtype, const Shape& shape);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::size_t bytes() const { return static_cast<std::size_t>(shape_.elements()) * info(dtype_).bytes; }
  bool empty() const { return shape_.elements() == 0; }
  std::byte* raw() { return data_.get(); }
  const std::byte* raw() const { return data_.get(); }
  Tensor clone() const;

  /// Typed views; Error{internal} when T is not what the tensor stores.
  template <class T>
  View<T> view() {
    require(dtype_of<T> == dtype_, "tensor: viewed as another dtype than it stores");
    return View<T>(reinterpret_cast<T*>(data_.get()), shape_);
  }
  template <class T>
  View<const T> view() const {
    require(dtype_of<T> == dtype_, "tensor: viewed as another dtype than it stores");
    return View<const T>(reinterpret_cast<const T*>(data_.get()), shape_);
  }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  DType dtype_ = DType::f32;
  Shape shape_{0};
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace qfid::quant
