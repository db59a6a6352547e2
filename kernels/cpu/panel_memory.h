// Memory of attention in panels and of linears in strips, kept by the backend from call to call and only ever grown: pages
// that are given back and asked for again cost a tenth of a short call. One call uses it at a time.
#pragma once

#include <vector>

#include "quant/core/tensor.h"

namespace qfid::kernels::cpu {

/// Bytes, aligned as tensors are.
class Grown {
 public:
  std::byte* reserve(std::int64_t bytes) {
    if (memory_.bytes() < static_cast<std::size_t>(bytes)) memory_ = quant::Tensor(quant::DType::u8, quant::Shape{bytes});
    return memory_.raw();
  }
  std::byte* raw() { return memory_.raw(); }
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(memory_.raw());
  }

 private:
  quant::Tensor memory_;
};

/// One thread's: `rows` is the query block's.
struct PanelWorkspace {
  Grown q;                            ///< [rows][depth] numbers of the product
  Grown panel;                        ///< [key blocks][rows][64] sums, then scores
  Grown p;                            ///< [rows][keys of a chunk] codes
  Grown out;                          ///< [rows][columns] sums
  Grown scratch;                      ///< of the products
  Grown values;                       ///< [rows][64] codes' values, for a listener
  std::vector<float> top, sum;        ///< [rows][16]
  std::vector<float> tops, m, l, sq;  ///< [rows]
  std::vector<double> code_sum;       ///< [rows]
};

struct PanelMemory {
  Grown k, v, key_scales, value_scales, excess;
  std::vector<PanelWorkspace> threads;
};

/// One thread's, for linears.
struct StripMemory {
  Grown scratch;  ///< of the products
  Grown src;      ///< [rows][depth] numbers of the product
  Grown sums;     ///< [strips][rows][columns of a strip]
};

}  // namespace qfid::kernels::cpu
