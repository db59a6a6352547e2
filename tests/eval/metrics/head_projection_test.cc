#include "eval/metrics/head_projection.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <utility>

#include "quant/core/error.h"
#include "quant/core/random.h"

using namespace qfid;
using namespace qfid::eval;

TEST_CASE("a head's factor gives the norm of its slice of the projection, whatever the slice's rank; not its direction") {
  quant::Random random(4);
  for (const auto& [rows, heads, d] : {std::tuple{12, 3, 4}, std::tuple{8, 1, 8}, std::tuple{3, 2, 5}}) {
    quant::Tensor weight(quant::DType::f32, quant::Shape{rows, heads * d});
    for (float& w : weight.view<float>().span()) w = static_cast<float>(random.normal());
    for (int r = 0; r < rows; ++r) weight.view<float>()[r * heads * d + d - 1] = 0;  // and a column of zeros
    const quant::Tensor factors = head_factors(std::as_const(weight).view<float>(), heads);
    REQUIRE(factors.shape() == quant::Shape{heads, d, d});
    for (int h = 0; h < heads; ++h) {
      std::vector<double> x;
      for (int j = 0; j < d; ++j) x.push_back(random.normal());
      double direct = 0, factored = 0;
      for (int r = 0; r < rows; ++r) {
        double sum = 0;
        for (int j = 0; j < d; ++j)
          sum += static_cast<double>(weight.view<float>()[r * heads * d + h * d + j]) * x[static_cast<std::size_t>(j)];
        direct += sum * sum;
      }
      for (int i = 0; i < d; ++i) {
        double sum = 0;
        for (int j = 0; j < d; ++j) {
          const float factor = std::as_const(factors).view<float>()[(h * d + i) * d + j];
          CHECK((j >= i || factor == 0));
          sum += static_cast<double>(factor) * x[static_cast<std::size_t>(j)];
        }
        factored += sum * sum;
      }
      CAPTURE(rows, heads, d, h);
      CHECK(std::fabs(factored - direct) <= 1e-6 * direct);  // R is rounded to f32
      CHECK_FALSE(std::fabs(1.01 * factored - direct) <= 1e-6 * direct);
    }
  }
  const quant::Tensor odd = quant::Tensor::zeros(quant::DType::f32, quant::Shape{4, 7});
  CHECK_THROWS_AS(head_factors(std::as_const(odd).view<float>(), 2), quant::Error);
}
