#include "quant/core/shape.h"

#include <limits>

#include "quant/core/error.h"

namespace qfid::quant {

Shape::Shape(std::span<const std::int64_t> dims) {
  require(dims.size() <= max_rank, "shape: more than 5 dimensions");
  bool empty = false;
  for (std::int64_t dim : dims) {
    require(dim >= 0, "shape: negative dimension");
    empty = empty || dim == 0;
  }
  for (std::int64_t dim : dims) {
    dims_[static_cast<std::size_t>(rank_++)] = dim;
    if (empty) continue;
    require(elements_ <= std::numeric_limits<std::int64_t>::max() / dim, "shape: element count overflows int64");
    elements_ *= dim;
  }
  if (empty) elements_ = 0;
}

std::string Shape::to_string() const {
  if (rank_ == 0) return "scalar";
  std::string text;
  for (std::int64_t dim : dims()) text += (text.empty() ? "" : "x") + std::to_string(dim);
  return text;
}

}  // namespace qfid::quant
