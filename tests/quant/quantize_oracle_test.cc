// quantize, dequantize, ranges and scales against the slow quantizer: every scheme, awkward shapes, odd numbers, every path.
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <string>
#include <utility>

#include "quant/core/dispatch.h"
#include "quant/core/random.h"
#include "tests/quant/slow_quantizer.h"

using namespace qfid::quant;
using namespace qfid::tests;

namespace {

/// Normal numbers of every window and channel's own size; with `odd`, also NaN, infinities, zeros and subnormals.
Tensor numbers(const Shape& shape, std::uint64_t seed, bool odd) {
  Tensor tensor(DType::f32, shape);
  Random random(seed);
  const auto x = tensor.view<float>();
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(random.normal() * (1 + static_cast<double>(i % shape[3])) * (i % 7 == 0 ? 10 : 1));
    if (!odd) continue;
    const std::array<float, 8> specials{NAN, INFINITY, -INFINITY, 0.0F, -0.0F, 1e-40F, -1e38F, 1e-45F};
    if (random.below(6) == 0) x[i] = specials[random.below(random.below(4) == 0 ? 8 : 6)];
  }
  if (odd && shape[1] > 2)  // a token of nothing but zeros
    for (std::int64_t i = 0; i < shape[2] * shape[3]; ++i) x[shape[2] * shape[3] + i] = 0;
  return tensor;
}

bool same(float a, float b) {
  return std::isnan(a) ? std::isnan(b) : std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

int code_at(const Tensor& codes, std::int64_t i) {
  const auto bits = std::to_integer<std::uint8_t>(codes.raw()[i]);
  return codes.dtype() == DType::i8 ? std::bit_cast<std::int8_t>(bits) : bits;
}

void check_against(const SlowQuantized& slow, const QuantizedTensor& fast, Role role) {
  const std::array<std::int64_t, 4> shape{fast.scales.shape()[0], fast.scales.shape()[1], fast.scales.shape()[2],
                                          fast.scales.shape()[3]};
  REQUIRE(shape == slow.scale_shape);
  REQUIRE(fast.scales.shape().elements() == static_cast<std::int64_t>(slow.scales.size()));
  for (std::size_t i = 0; i < slow.scales.size(); ++i) {
    CAPTURE(i);
    REQUIRE(fast.scales.view<float>()[static_cast<std::int64_t>(i)] == slow.scales[i].scale);
    if (fast.scheme.affine)
      REQUIRE(fast.zero_points.view<std::int32_t>()[static_cast<std::int64_t>(i)] == slow.scales[i].zero_point);
  }
  Tensor back(DType::f32, fast.codes.shape());
  dequantize(fast, role, back.view<float>());
  for (std::size_t i = 0; i < slow.codes.size(); ++i) {
    CAPTURE(i);
    REQUIRE(code_at(fast.codes, static_cast<std::int64_t>(i)) == slow.codes[i]);
    const float value = back.view<float>()[static_cast<std::int64_t>(i)];
    REQUIRE((same(value, slow.back[i]) || (value == 0 && slow.back[i] == 0)));
  }
  CHECK(fast.counts == slow.counts);
}

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all{Shape{2, 5, 3, 7},  Shape{1, 3, 1, 40}, Shape{2, 17, 2, 33}, Shape{1, 1, 1, 1},
                                      Shape{3, 4, 2, 16}, Shape{1, 6, 1, 1},  Shape{2, 4, 1, 129}};
  return all;
}

}  // namespace

TEST_CASE("every dynamic scheme is the slow quantizer's, on every path") {
  std::int64_t checked = 0;
  for (const char* format : {"int8", "uint8", "uint8/affine", "e4m3", "e5m2", "e4m3/nosat", "e5m2/nosat", "int8/onnx",
                             "int8/compressed-tensors", "int8/smoothquant", "uint8/onnx"})
    for (const char* granularity : {"tensor", "head", "channel", "token", "group(4)", "group(5)", "block(2)", "block(3x4)"})
      for (const char* range : {"absmax", "percentile(37.5)", "percentile(100)", "fixed(2.5)"})
        for (std::size_t i = 0; i < shapes().size(); ++i) {
          const std::string text = std::string(format).substr(0, std::string(format).find('/')) + "/" + granularity + "/" +
                                   range +
                                   (std::string(format).find('/') == std::string::npos
                                        ? ""
                                        : std::string(format).substr(std::string(format).find('/')));
          CAPTURE(text, shapes()[i].to_string());
          const QuantScheme scheme = parse_scheme(text);
          const Tensor x = numbers(shapes()[i], i + 1, checked % 2 == 0);
          const SlowQuantized slow = slow_quantize(x.view<float>(), scheme, Role::activation);
          for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
            const Isa before = force_isa(isa);
            const QuantizedTensor fast = quantize(x.view<float>(), scheme, Role::activation);
            force_isa(before);
            check_against(slow, fast, Role::activation);
          }
          const std::vector<Range> found = ranges(x.view<float>(), scheme, Role::activation);
          REQUIRE(found == slow.ranges);
          ++checked;
        }
  CHECK(checked == 11 * 8 * 4 * 7);
}

TEST_CASE("ranges of least squared error are the slow quantizer's") {
  for (const char* text : {"int8/tensor/mse", "int8/channel/mse", "uint8/token/mse/affine", "e4m3/group(4)/mse",
                           "e5m2/tensor/mse", "uint8/head/mse", "int8/token/mse/onnx"})
    for (std::size_t i = 0; i < 4; ++i) {
      CAPTURE(text, i);
      const QuantScheme scheme = parse_scheme(text);
      const Tensor x = numbers(shapes()[i], 50 + i, i % 2 == 1);
      const SlowQuantized slow = slow_quantize(x.view<float>(), scheme, Role::activation);
      REQUIRE(ranges(x.view<float>(), scheme, Role::activation) == slow.ranges);
      check_against(slow, quantize(x.view<float>(), scheme, Role::activation), Role::activation);
    }
}

TEST_CASE("static ranges: one for all windows; weights have none and use their own") {
  Random random(9);
  for (const char* text :
       {"int8/tensor/static", "int8/head/percentile(99)/static", "e4m3/channel/static", "uint8/head/static/affine"})
    for (const Shape& shape : shapes()) {
      CAPTURE(text, shape.to_string());
      const QuantScheme scheme = parse_scheme(text);
      const Tensor x = numbers(shape, 77, false);
      const Granules g = granules(shape, scheme, Role::activation);
      std::vector<Range> given;
      for (std::int64_t i = 0; i < g.scale_shape.elements(); ++i)
        given.push_back({static_cast<float>(-random.uniform()), static_cast<float>(3 * random.uniform())});
      check_against(slow_quantize(x.view<float>(), scheme, Role::activation, given),
                    quantize(x.view<float>(), scheme, Role::activation, given), Role::activation);
      given.push_back({});
      const auto said = [&] {
        try {
          (void)quantize(x.view<float>(), scheme, Role::activation, given);
        } catch (const Error& error) { return std::string(error.what()); }
        return std::string();
      };
      CHECK(said() == "scales: " + std::to_string(given.size()) + " ranges for " + std::to_string(given.size() - 1) +
                          " granules of " + to_string(scheme));
    }
  for (const char* text : {"int8/tensor/static", "int8/channel", "e4m3/channel/static", "int8/group(3)", "int8/block(2x5)",
                           "e5m2/block(2)", "int8/tensor/fixed(2)/static"})
    for (const Shape& shape : {Shape{1, 5, 1, 7}, Shape{1, 8, 1, 32}, Shape{1, 1, 1, 1}}) {
      CAPTURE(text, shape.to_string());
      const QuantScheme scheme = parse_scheme(text);
      const Tensor w = numbers(shape, 78, false);
      check_against(slow_quantize(w.view<float>(), scheme, Role::weight), quantize(w.view<float>(), scheme, Role::weight),
                    Role::weight);
    }
}

TEST_CASE("formats without scales: f32 is copied, bf16 rounded, nothing else is made") {
  const Tensor x = numbers(Shape{2, 3, 1, 50}, 3, false);
  const QuantizedTensor same_numbers = quantize(x.view<float>(), parse_scheme("f32"), Role::activation);
  const QuantizedTensor rounded = quantize(x.view<float>(), parse_scheme("bf16"), Role::activation);
  CHECK(same_numbers.scales.empty());
  CHECK(rounded.zero_points.empty());
  CHECK(same_numbers.counts == CodeCounts{300, 0, 0, 0});
  CHECK(rounded.counts == CodeCounts{300, 0, 0, 0});
  Tensor back(DType::f32, x.shape()), narrow(DType::f32, x.shape());
  dequantize(same_numbers, Role::activation, back.view<float>());
  dequantize(rounded, Role::activation, narrow.view<float>());
  for (std::int64_t i = 0; i < 300; ++i) {
    REQUIRE(back.view<float>()[i] == x.view<float>()[i]);
    REQUIRE(narrow.view<float>()[i] == to_f32(to_bf16(x.view<float>()[i])));
  }
}

TEST_CASE("scales alone are quantize's; zero points only where they are wanted") {
  const Tensor x = numbers(Shape{2, 3, 2, 5}, 4, false);
  const QuantScheme scheme = parse_scheme("uint8/head/affine");
  const QuantizedTensor whole = quantize(x.view<float>(), scheme, Role::activation);
  Tensor scale(DType::f32, Shape{4}), zero(DType::i32, Shape{4});
  scales(x.view<float>(), scheme, Role::activation, {}, scale.view<float>(), zero.view<std::int32_t>());
  Tensor only(DType::f32, Shape{4});
  scales(x.view<float>(), scheme, Role::activation, {}, only.view<float>(), {});
  for (std::int64_t i = 0; i < 4; ++i) {
    CHECK(scale.view<float>()[i] == whole.scales.view<float>()[i]);
    CHECK(only.view<float>()[i] == scale.view<float>()[i]);
    CHECK(zero.view<std::int32_t>()[i] == whole.zero_points.view<std::int32_t>()[i]);
  }
}
