#include "kernels/cpu/pair_weights.h"

#include <algorithm>

#include "kernels/cpu/pair_product.h"
#include "quant/core/dispatch.h"

namespace qfid::kernels::cpu {

namespace {

constexpr std::int64_t strip = 16;  ///< outputs of a product: all of K of a strip lies in L1 and L2

struct Widen {
  template <class T>
  __attribute__((always_inline)) void operator()(const T* __restrict src, std::int64_t n,
                                                 std::int16_t* __restrict dst) const {
    std::copy_n(src, n, dst);
  }
};

}  // namespace

bool takes_pair_weights() { return has_pair_products() && quant::current_isa() >= quant::Isa::avx2; }

PairWeights::PairWeights(const quant::Tensor& codes, std::int64_t out, std::int64_t in)
    : out_(out), in_(in), depth_((in + 1) / 2 * 2) {
  const auto* weight = reinterpret_cast<const std::int8_t*>(codes.raw());
  packed_.resize(static_cast<std::size_t>((out + strip - 1) / strip * strip * depth_));
  for (std::int64_t o = 0; o < out; ++o) {
    std::int16_t* column = packed_.data() + o / strip * strip * depth_ + o % strip * 2;
    for (std::int64_t k = 0; k < in; ++k) std::copy_n(weight + o * in + k, 1, column + k / 2 * 2 * strip + k % 2);
  }
}

void PairWeights::run(const quant::Tensor& codes, std::int64_t first, std::int64_t rows, Workspace& work,
                      std::int32_t* acc) const {
  work.src.resize(static_cast<std::size_t>(rows * depth_));
  for (std::int64_t r = 0; r < rows; ++r) {
    std::int16_t* dst = work.src.data() + r * depth_;
    const std::byte* src = codes.raw() + (first + r) * in_;
    if (depth_ != in_) dst[in_] = 0;
    if (codes.dtype() == quant::DType::u8) {
      quant::dispatched(Widen{}, reinterpret_cast<const std::uint8_t*>(src), in_, dst);
    } else {
      quant::dispatched(Widen{}, reinterpret_cast<const std::int8_t*>(src), in_, dst);
    }
  }
  for (std::int64_t o = 0; o < out_; o += strip) {
    const std::int16_t* weights = packed_.data() + o * depth_;
    if (out_ - o >= strip) {
      PairProduct{depth_, strip, depth_, out_, false}.run(rows, work.src.data(), weights, acc + o);
      continue;
    }
    work.part.resize(static_cast<std::size_t>(rows * strip));
    PairProduct{depth_, strip, depth_, strip, false}.run(rows, work.src.data(), weights, work.part.data());
    for (std::int64_t r = 0; r < rows; ++r) std::copy_n(work.part.data() + r * strip, out_ - o, acc + r * out_ + o);
  }
}

}  // namespace qfid::kernels::cpu
