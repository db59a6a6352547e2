// A long window is quantized in parts, in parallel: the same codes, scales and counts as in one piece, whatever spans the
// parts.
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "kernels/host/operands.h"
#include "quant/core/random.h"
#include "tests/kernels/support.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

Tensor long_windows(std::int64_t tokens) {
  Tensor x(DType::f32, Shape{2, tokens, 3, 8});
  quant::Random random(71);
  for (float& value : x.view<float>().span()) value = static_cast<float>(random.normal());
  x.view<float>()[x.view<float>().size() - 5] = 9.0F;  // the last part of the last window has the largest
  x.view<float>()[40] = -7.5F;
  return x;
}

quant::View<const float> window(const Tensor& x, std::int64_t b) {
  const Shape& s = x.shape();
  return {x.view<float>().data() + b * s[1] * s[2] * s[3], Shape{1, s[1], s[2], s[3]}};
}

}  // namespace

TEST_CASE("windows quantized in parts are those quantized whole") {
  for (const std::int64_t tokens : {255, 256, 257, 600})
    for (const char* spelled :
         {"int8/channel", "int8/tensor", "int8/head", "int8/token", "uint8/tensor/affine", "e4m3/channel", "e5m2/head",
          "int8/tensor/percentile(99.9)", "int8/tensor/fixed(2)", "int8/block(100)", "bf16", "f32"}) {
      const quant::QuantScheme scheme = quant::parse_scheme(spelled);
      const Tensor x = long_windows(tokens);
      const kernels::host::Operand parts = kernels::host::quantize_operand(x.view<float>(), scheme, {});
      CAPTURE(spelled, tokens);
      quant::CodeCounts counts;
      std::vector<float> scales;
      for (std::int64_t b = 0; b < 2; ++b) {
        const quant::QuantizedTensor whole = quant::quantize(window(x, b), scheme, quant::Role::activation, {});
        const std::size_t bytes = whole.codes.bytes();
        CHECK(std::memcmp(parts.codes.raw() + static_cast<std::size_t>(b) * bytes, whole.codes.raw(), bytes) == 0);
        counts += whole.counts;
        if (quant::is_scaled(scheme.format))
          for (float scale : whole.scales.view<float>().span()) scales.push_back(scale);
      }
      CHECK(parts.counts == counts);
      CHECK(parts.scale == scales);
    }
}
