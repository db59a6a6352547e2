#include "eval/metrics/head_projection.h"

#include <cmath>
#include <vector>

namespace qfid::eval {

quant::Tensor head_factors(quant::View<const float> weight, std::int64_t heads) {
  const std::int64_t rows = weight.shape()[0], width = weight.shape()[1], d = width / heads;
  quant::require(heads > 0 && d * heads == width, "head_factors: the weight's columns aren't whole heads");
  quant::Tensor result = quant::Tensor::zeros(quant::DType::f32, quant::Shape{heads, d, d});
  std::vector<double> columns(static_cast<std::size_t>(d * rows));  // [d, rows]
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t j = 0; j < d; ++j)
        columns[static_cast<std::size_t>(j * rows + r)] = static_cast<double>(weight[r * width + h * d + j]);
    for (std::int64_t j = 0; j < d; ++j) {
      double* unit = columns.data() + j * rows;
      double square = 0;
      for (std::int64_t r = 0; r < rows; ++r) square += unit[r] * unit[r];
      if (square == 0) continue;
      const double norm = std::sqrt(square);
      for (std::int64_t r = 0; r < rows; ++r) unit[r] /= norm;
      float* factor = result.view<float>().data() + (h * d + j) * d;
      factor[j] = static_cast<float>(norm);
      for (std::int64_t k = j + 1; k < d; ++k) {
        double* other = columns.data() + k * rows;
        double along = 0;
        for (std::int64_t r = 0; r < rows; ++r) along += unit[r] * other[r];
        for (std::int64_t r = 0; r < rows; ++r) other[r] -= along * unit[r];
        factor[k] = static_cast<float>(along);
      }
    }
  }
  return result;
}

}  // namespace qfid::eval
