// The full-precision operations of a transformer against double, with tolerances by the roundings of each.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <numbers>

#include "quant/core/dispatch.h"
#include "tests/kernels/support.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

/// Largest |got - expected(i)| over tolerance(i, expected).
template <class Expected, class Tolerance>
double worst(const Tensor& got, const Expected& expected, const Tolerance& tolerance) {
  double excess = 0;
  for (std::int64_t i = 0; i < got.shape().elements(); ++i) {
    const double e = expected(i), difference = std::fabs(static_cast<double>(got.view<float>()[i]) - e);
    raise(excess, difference == 0 ? 0.0 : difference / tolerance(i, e));
  }
  return excess;
}

const std::vector<Shape> rows{Shape{1, 1, 1}, Shape{2, 3, 7}, Shape{1, 5, 64}, Shape{2, 33, 129}, Shape{1, 2, 1000}};

struct RowMoments {
  double mean = 0, variance = 0, size = 0;  ///< size: largest |x|
};
RowMoments moments(const Tensor& x, std::int64_t row, bool centered) {
  const std::int64_t n = x.shape()[-1];
  RowMoments m;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto v = static_cast<double>(x.view<float>()[row * n + i]);
    m.mean += centered ? v / static_cast<double>(n) : 0;
    m.size = std::max(m.size, std::fabs(v));
  }
  for (std::int64_t i = 0; i < n; ++i)
    m.variance += std::pow(static_cast<double>(x.view<float>()[row * n + i]) - m.mean, 2) / static_cast<double>(n);
  return m;
}

void check_norm(const NamedBackend& backend, const Shape& shape, bool centered, float offset) {
  Tensor x = filled(shape, 1);
  for (float& v : x.view<float>().span()) v += offset;
  const std::int64_t n = shape[-1];
  const Tensor gamma = filled(Shape{n}, 2), beta = filled(Shape{n}, 3);
  constexpr float eps = 1e-5F;
  const DeviceTensor dx = backend->upload(x), dg = backend->upload(gamma), db = backend->upload(beta);
  const Tensor got = backend->download(centered ? backend->layer_norm(dx, dg, db, eps) : backend->rms_norm(dx, dg, eps));
  const auto scale = [&](std::int64_t i) {
    return 1 / std::sqrt(moments(x, i / n, centered).variance + static_cast<double>(eps));
  };
  const auto expected = [&](std::int64_t i) {
    const double centre = moments(x, i / n, centered).mean;
    return (static_cast<double>(x.view<float>()[i]) - centre) * scale(i) * static_cast<double>(gamma.view<float>()[i % n]) +
           (centered ? static_cast<double>(beta.view<float>()[i % n]) : 0.0);
  };
  const auto tolerance = [&](std::int64_t i, double e) {
    const double factor = scale(i) * std::fabs(static_cast<double>(gamma.view<float>()[i % n]));
    return norm(moments(x, i / n, centered).size, factor, static_cast<double>(n), e);
  };
  CAPTURE(backend.name, shape.to_string(), centered, offset);
  CHECK(worst(got, expected, tolerance) <= 1.0);
  if (n > 1) CHECK_FALSE(worst(got, [&](std::int64_t i) { return expected(i) * fault; }, tolerance) <= 1.0);
}

double exact_activation(double x, Activation kind) {
  switch (kind) {
    case Activation::relu:
      return x > 0 ? x : 0;
    case Activation::gelu_erf:
      return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case Activation::gelu_tanh: {
      const double t = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return x / (1 + std::exp(-2 * t));  // (1 + tanh t) / 2 without cancellation
    }
    case Activation::silu:
      return x / (1 + std::exp(-x));
  }
  return NAN;
}

}  // namespace

TEST_CASE("layer norm and RMS norm against double; a 1 % fault is seen") {
  for (const NamedBackend& backend : backends())
    for (const Shape& shape : rows)
      for (const bool centered : {true, false})
        for (const float offset : {0.0F, 30.0F}) check_norm(backend, shape, centered, offset);
}

TEST_CASE("norms give the same bits row by row, rows together, and by the loops of every instruction set", "[isa]") {
  for (const NamedBackend& backend : backends()) {
    if (backend.name != "cpu") continue;
    for (const std::int64_t n : {7, 8, 67}) {
      const Shape shape{1, 11, n};
      const DeviceTensor x = backend->upload(filled(shape, 41)), gamma = backend->upload(filled(Shape{n}, 42)),
                         beta = backend->upload(filled(Shape{n}, 43));
      for (const bool centered : {true, false}) {
        const auto normed = [&](const DeviceTensor& rows) {
          return backend->download(centered ? backend->layer_norm(rows, gamma, beta, 1e-5F)
                                            : backend->rms_norm(rows, gamma, 1e-5F));
        };
        const Tensor together = normed(x);
        for (const quant::Isa isa : {quant::Isa::portable, quant::Isa::avx2, quant::Isa::avx512}) {
          const quant::Isa before = quant::force_isa(isa);
          const Tensor again = normed(x);
          bool apart_same = true;
          for (std::int64_t r = 0; r < shape[1]; ++r) {
            const Tensor apart = normed(backend->slice(x.reshaped(Shape{shape[1], 1, n}), r, r + 1));
            for (std::int64_t i = 0; i < n; ++i)
              apart_same = apart_same && apart.view<float>()[i] == together.view<float>()[r * n + i];
          }
          quant::force_isa(before);
          CAPTURE(n, centered, static_cast<int>(isa));
          CHECK(same_bits(again, together));
          CHECK(apart_same);
        }
      }
    }
  }
}

TEST_CASE("activations against double: ReLU, both forms of GELU, SiLU; a 1 % fault is seen; NaN stays NaN") {
  Tensor x(DType::f32, Shape{1, 1, 4001});
  for (std::int64_t i = 0; i < 4001; ++i) x.view<float>()[i] = 0.005F * static_cast<float>(i - 2000);
  for (const NamedBackend& backend : backends())
    for (const Activation kind : {Activation::relu, Activation::gelu_erf, Activation::gelu_tanh, Activation::silu}) {
      const Tensor got = backend->download(backend->activation(backend->upload(x), kind));
      const auto at = [&](std::int64_t i) { return static_cast<double>(x.view<float>()[i]); };
      const auto tolerance = [&](std::int64_t i, double e) { return activation(at(i), e); };
      CAPTURE(backend.name, static_cast<int>(kind));
      CHECK(worst(got, [&](std::int64_t i) { return exact_activation(at(i), kind); }, tolerance) <= 1.0);
      CHECK_FALSE(worst(got, [&](std::int64_t i) { return fault * exact_activation(at(i), kind); }, tolerance) <= 1.0);
      Tensor nan(DType::f32, Shape{1, 1, 1});
      nan.view<float>()[0] = NAN;
      CHECK(std::isnan(backend->download(backend->activation(backend->upload(nan), kind)).view<float>()[0]));
    }
}

TEST_CASE("the two forms of GELU are told apart") {
  Tensor x(DType::f32, Shape{1, 1, 1});
  x.view<float>()[0] = 2.0F;
  for (const NamedBackend& backend : backends()) {
    const float erf = backend->download(backend->activation(backend->upload(x), Activation::gelu_erf)).view<float>()[0],
                tanh = backend->download(backend->activation(backend->upload(x), Activation::gelu_tanh)).view<float>()[0];
    CHECK(std::fabs(static_cast<double>(erf) - 1.9544997361036416) <= activation(2, 2));  // 2 Phi(2)
    CHECK(std::fabs(static_cast<double>(tanh) - 1.954597694087775) <= activation(2, 2));
  }
}

TEST_CASE("rotary embedding against double: half-split pairs, positions from `first`; norms kept; faults seen") {
  for (const NamedBackend& backend : backends())
    for (const Shape& shape : {Shape{2, 9, 3, 16}, Shape{1, 65, 1, 2}, Shape{1, 3, 2, 64}})
      for (const std::int64_t first : {std::int64_t{0}, std::int64_t{5}, std::int64_t{1000}})
        for (const double theta : {10000.0, 500000.0}) {
          const Tensor x = filled(shape, 4);
          const Tensor got = backend->download(backend->rotary(backend->upload(x), first, theta));
          const std::int64_t d = shape[3], half = d / 2;
          const auto rotated = [&](std::int64_t i, std::int64_t shift) {
            const std::int64_t c = i % d, row = i / d * d, t = i / (d * shape[2]) % shape[1] + first + shift;
            const double angle =
                static_cast<double>(t) * std::pow(theta, -2.0 * static_cast<double>(c % half) / static_cast<double>(d));
            const auto a = static_cast<double>(x.view<float>()[row + c % half]),
                       b = static_cast<double>(x.view<float>()[row + c % half + half]);
            return c < half ? a * std::cos(angle) - b * std::sin(angle) : b * std::cos(angle) + a * std::sin(angle);
          };
          const auto tolerance = [&](std::int64_t i, double) {
            const std::int64_t c = i % d % half, row = i / d * d;
            return rotation(std::fabs(static_cast<double>(x.view<float>()[row + c])) +
                            std::fabs(static_cast<double>(x.view<float>()[row + c + half])));
          };
          CAPTURE(backend.name, shape.to_string(), first, theta);
          CHECK(worst(got, [&](std::int64_t i) { return rotated(i, 0); }, tolerance) <= 1.0);
          CHECK_FALSE(worst(got, [&](std::int64_t i) { return rotated(i, 1); }, tolerance) <= 1.0);
        }
}

TEST_CASE("embedding copies rows, add is one rounding, slice takes windows: to the bit") {
  for (const NamedBackend& backend : backends()) {
    const Tensor table = filled(Shape{11, 5}, 5), a = filled(Shape{3, 4, 5}, 6), b = filled(Shape{3, 4, 5}, 7);
    Tensor ids(DType::i32, Shape{3, 4});
    for (int i = 0; i < 12; ++i) ids.view<std::int32_t>()[i] = i * 7 % 11;
    const Tensor rows_of = backend->download(backend->embedding(backend->upload(ids), backend->upload(table)));
    const Tensor sum = backend->download(backend->add(backend->upload(a), backend->upload(b)));
    const Tensor part = backend->download(backend->slice(backend->upload(a), 1, 3));
    CAPTURE(backend.name);
    REQUIRE(rows_of.shape() == Shape{3, 4, 5});
    REQUIRE(part.shape() == Shape{2, 4, 5});
    for (std::int64_t i = 0; i < 60; ++i) {
      CHECK(rows_of.view<float>()[i] == table.view<float>()[ids.view<std::int32_t>()[i / 5] * 5 + i % 5]);
      CHECK(sum.view<float>()[i] == a.view<float>()[i] + b.view<float>()[i]);
      if (i < 40) CHECK(part.view<float>()[i] == a.view<float>()[20 + i]);
    }
  }
}
