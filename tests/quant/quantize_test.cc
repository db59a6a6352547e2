#include "quant/quantize.h"

#include <catch2/catch_test_macros.hpp>
#include <cfloat>
#include <cmath>
#include <utility>

#include "quant/core/random.h"

using namespace qfid::quant;

namespace {

Tensor random_tensor(const Shape& shape, std::uint64_t seed) {
  Tensor tensor(DType::f32, shape);
  Random random(seed);
  for (float& x : tensor.view<float>().span()) x = static_cast<float>(random.normal());
  return tensor;
}

}  // namespace

TEST_CASE("scheme spelling is canonical: parse(to_string(s)) == s over every product of fields") {
  int checked = 0;
  for (const char* format : {"int8", "uint8", "e4m3", "e5m2"})
    for (const char* granularity : {"tensor", "head", "channel", "token", "group(32)", "block(64)", "block(16x128)"})
      for (const char* range : {"absmax", "percentile(99.9)", "mse", "fixed(6)"})
        for (const char* timing : {"dynamic", "static"})
          for (const char* option : {"", "/affine", "/onnx", "/nosat", "/compressed-tensors", "/smoothquant"}) {
            const std::string text = std::string(format) + "/" + granularity + "/" + range + "/" + timing + option;
            const std::string f = format, o = option;
            const bool fp8 = f[0] == 'e';
            const bool legal = o.empty() || (o == "/affine" && f == "uint8") || (o == "/nosat" && fp8) ||
                               (o == "/onnx" && !fp8) ||
                               ((o == "/compressed-tensors" || o == "/smoothquant") && f == "int8");
            CAPTURE(text);
            if (!legal) {
              REQUIRE_THROWS_AS(parse_scheme(text), Error);
              continue;
            }
            const QuantScheme scheme = parse_scheme(text);
            REQUIRE(to_string(scheme) == text);
            REQUIRE(parse_scheme(to_string(scheme)) == scheme);
            ++checked;
          }
  CHECK(checked == 7 * 4 * 2 * (1 + 1 + 1 + 1 + 4 - 1 + 2 + 2));
  CHECK(to_string(parse_scheme("int8")) == "int8/tensor/absmax/dynamic");
  CHECK(to_string(parse_scheme("f32")) == "f32");
}

TEST_CASE("scheme errors name the part and the nearest word") {
  const auto message = [](const char* text) -> std::string {
    try {
      parse_scheme(text);
    } catch (const Error& error) {
      CHECK(error.exit_code() == 2);
      return error.what();
    }
    return "";
  };
  CHECK(message("int9/token").find("unknown format \"int9\"") != std::string::npos);
  CHECK(message("int9/token").find("did you mean \"int8\"?") != std::string::npos);
  CHECK(message("int8/tokn").find("did you mean \"token\"?") != std::string::npos);
  CHECK(message("int8/group").find("needs a size") != std::string::npos);
  CHECK(message("f32/token").find("takes no scale") != std::string::npos);
  CHECK(message("int8/percentile(101)").find("at most 100") != std::string::npos);
}

TEST_CASE("scales follow numerics: absmax, all-zero, subnormal, producers' rules") {
  const Range range{-2.0F, 1.0F};
  CHECK(scale_for(range, parse_scheme("int8")).scale == 2.0F / 127.0F);
  CHECK(scale_for(range, parse_scheme("e4m3")).scale == 2.0F / 448.0F);
  CHECK(scale_for(range, parse_scheme("e5m2")).scale == 2.0F / 57344.0F);
  CHECK(scale_for(range, parse_scheme("int8/compressed-tensors")).scale == 2.0F * 2.0F / 255.0F);
  CHECK(scale_for({0, 1e-6F}, parse_scheme("int8/smoothquant")).scale == 1e-5F / 127.0F);
  CHECK(scale_for({0, 0}, parse_scheme("int8")).scale == 1.0F);
  CHECK(scale_for({0, FLT_MIN}, parse_scheme("int8")).scale == FLT_MIN);
  const ScaleZero affine = scale_for({-1.0F, 3.0F}, parse_scheme("uint8/affine"));
  CHECK(affine.scale == 4.0F / 255.0F);
  CHECK(affine.zero_point == 64);
  CHECK(scale_for({2.0F, 3.0F}, parse_scheme("uint8/affine")).zero_point == 0);  // the range always contains 0
}

TEST_CASE("quantize: granules, idempotence, equivariance to powers of two, error below half a step") {
  const Tensor x = random_tensor(Shape{2, 6, 3, 8}, 1);
  for (const char* text : {"int8/tensor", "int8/head", "int8/channel", "int8/token", "int8/group(4)", "int8/block(4)",
                           "e4m3/token", "e5m2/channel", "uint8/tensor/affine"}) {
    CAPTURE(text);
    const QuantScheme scheme = parse_scheme(text);
    const QuantizedTensor q = quantize(x.view<float>(), scheme, Role::activation);
    REQUIRE(q.scales.shape() == granules(x.shape(), scheme, Role::activation).scale_shape);
    Tensor back(DType::f32, x.shape());
    dequantize(q, Role::activation, back.view<float>());
    const Tensor& const_back = back;
    const QuantizedTensor again = quantize(const_back.view<float>(), scheme, Role::activation);
    Tensor twice(DType::f32, x.shape());
    dequantize(again, Role::activation, twice.view<float>());
    double worst = 0, change = 0;
    for (std::int64_t i = 0; i < x.shape().elements(); ++i) {
      worst = std::max(worst, std::fabs(static_cast<double>(back.view<float>()[i] - x.view<float>()[i])));
      change = std::max(change, std::fabs(static_cast<double>(back.view<float>()[i] - twice.view<float>()[i])));
    }
    CHECK(worst > 0);
    CHECK(worst < (is_fp8(scheme.format) ? 0.5 : 0.03));
    CHECK(change <= 1e-6);
    Tensor doubled = x.clone();
    for (float& v : doubled.view<float>().span()) v *= 4.0F;
    const Tensor& const_doubled = doubled;
    const QuantizedTensor q4 = quantize(const_doubled.view<float>(), scheme, Role::activation);
    CHECK(std::equal(q.codes.raw(), q.codes.raw() + q.codes.bytes(), q4.codes.raw()));
  }
}

TEST_CASE("a dynamic tensor range is one window's, a static one is for all") {
  Tensor x = random_tensor(Shape{2, 4, 1, 4}, 2);
  x.view<float>()[0] = 100.0F;  // an outlier in window 0 must not touch window 1
  const QuantizedTensor both = quantize(std::as_const(x).view<float>(), parse_scheme("int8"), Role::activation);
  CHECK(both.scales.view<float>()[0] == 100.0F / 127.0F);
  CHECK(both.scales.view<float>()[1] < 0.1F);
  const Range range{-4.0F, 4.0F};
  const QuantizedTensor fixed =
      quantize(std::as_const(x).view<float>(), parse_scheme("int8/static"), Role::activation, std::span(&range, 1));
  REQUIRE(fixed.scales.shape().elements() == 1);
  CHECK(fixed.counts.saturated == 1);
  CHECK_THROWS_AS(quantize(std::as_const(x).view<float>(), parse_scheme("int8/static"), Role::activation), Error);
}

TEST_CASE("percentile and mse ranges") {
  Tensor x(DType::f32, Shape{1, 1, 1, 101});
  for (int i = 0; i <= 100; ++i) x.view<float>()[i] = static_cast<float>(i);
  CHECK(ranges(std::as_const(x).view<float>(), parse_scheme("int8/percentile(50)"), Role::activation)[0].max == 50.0F);
  CHECK(ranges(std::as_const(x).view<float>(), parse_scheme("int8/percentile(12.5)"), Role::activation)[0].max == 12.5F);
  Tensor y = random_tensor(Shape{1, 1, 1, 4096}, 3);
  y.view<float>()[7] = 40.0F;
  const auto error = [&](const char* text) {
    const QuantizedTensor q = quantize(std::as_const(y).view<float>(), parse_scheme(text), Role::activation);
    Tensor back(DType::f32, y.shape());
    dequantize(q, Role::activation, back.view<float>());
    double sum = 0;
    for (std::int64_t i = 0; i < 4096; ++i)
      sum += std::pow(static_cast<double>(back.view<float>()[i] - y.view<float>()[i]), 2);
    return sum;
  };
  CHECK(error("int8/mse") <= error("int8"));
}
