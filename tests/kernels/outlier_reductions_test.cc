// Magnitudes, errors beside outliers, norms under a projection: by hand, and what each can't see.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>

#include "tests/kernels/support.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

Tensor of(const Shape& shape, const std::vector<float>& values) {
  Tensor tensor(DType::f32, shape);
  REQUIRE(static_cast<std::int64_t>(values.size()) == shape.elements());
  std::copy(values.begin(), values.end(), tensor.view<float>().data());
  return tensor;
}

bool near(double a, double b) { return std::fabs(a - b) <= 1e-12 * std::fabs(b); }

}  // namespace

TEST_CASE("magnitudes by hand: three largest, both middles of an even number, what is massive; blind to the place") {
  const float inf = std::numeric_limits<float>::infinity();
  for (const NamedBackend& backend : backends()) {
    CAPTURE(backend.name);
    const auto magnitudes = [&](const Shape& shape, const std::vector<float>& values) {
      return backend->reductions().magnitudes(backend->upload(of(shape, values)));
    };
    const auto got = magnitudes(Shape{2, 1, 6}, {1, -2, 3, -400, 5, 6, 0.125F, -0.125F, 125, 126, 0.125F, 0.125F});
    REQUIRE(got.size() == 2);
    CHECK((got[0].elements == 6 && got[0].top[0] == 400 && got[0].top[1] == 6 && got[0].top[2] == 5));
    CHECK((got[0].median == 4 && got[0].massive == 0));                              // 400 is only a hundred medians
    CHECK((got[1].median == 0.125 && got[1].massive == 1 && got[1].top[1] == 125));  // 125 is 1000 medians, not more
    const auto same = magnitudes(Shape{1, 2, 3}, {6, 5, 400, 3, 2, 1});
    CHECK((same[0].top[0] == 400 && same[0].median == 4));
    const auto odd = magnitudes(Shape{1, 1, 5}, {NAN, 7, -inf, 9, 8});
    CHECK((odd[0].elements == 3 && odd[0].median == 8 && odd[0].top[0] == 9 && odd[0].top[2] == 7));
    CHECK(magnitudes(Shape{1, 1, 2}, {100, 0})[0].massive == 0);  // not above 100
    CHECK(magnitudes(Shape{1, 1, 1}, {101})[0].massive == 0);     // it is its own median
    CHECK(magnitudes(Shape{1, 1, 3}, {101, 0, 0})[0].massive == 1);
    const auto few = magnitudes(Shape{1, 1, 2}, {NAN, 2});
    CHECK((few[0].elements == 1 && few[0].median == 2 && few[0].top[0] == 2 && few[0].top[1] == 0));
    const auto ties = magnitudes(Shape{1, 1, 4}, {2, -2, 2, 2});
    CHECK((ties[0].median == 2 && ties[0].top[2] == 2));
  }
}

TEST_CASE("magnitudes of many numbers against a sort") {
  for (const NamedBackend& backend : backends())
    for (const std::int64_t n : {1000, 4097}) {
      const Tensor x = filled(Shape{2, n, 3}, 70, 1.0F);
      const auto got = backend->reductions().magnitudes(backend->upload(x));
      for (std::int64_t b = 0; b < 2; ++b) {
        std::vector<double> sizes;
        for (std::int64_t i = 0; i < 3 * n; ++i)
          sizes.push_back(std::fabs(static_cast<double>(x.view<float>()[b * 3 * n + i])));
        std::sort(sizes.begin(), sizes.end());
        const auto last = sizes.size() - 1;
        CAPTURE(backend.name, n, b);
        CHECK(got[static_cast<std::size_t>(b)].median == (sizes[last / 2] + sizes[(last + 1) / 2]) / 2);
        for (std::size_t i = 0; i < 3; ++i) CHECK(got[static_cast<std::size_t>(b)].top[i] == sizes[last - i]);
      }
    }
}

TEST_CASE("the error in outlier tokens and channels by hand; no outlier where there are too few numbers for one") {
  for (const NamedBackend& backend : backends()) {
    CAPTURE(backend.name);
    // 10 tokens of 2 heads of 5: all 1 but one 101, at token 3 and channel 7: 9.9 deviations from the mean.
    std::vector<float> x(100, 1), y(100, 1);
    x[37] = y[37] = 101;
    y[37] += 2;     // the outlier's own error
    y[30] += 1;     // its token's
    y[87] += 3;     // its channel's
    y[4] -= 1;      // the first token's
    y[99] += 0.5F;  // elsewhere
    const auto split = [&](const Shape& shape, const std::vector<float>& a, const std::vector<float>& b) {
      return backend->reductions().outlier_split(backend->upload(of(shape, a)), backend->upload(of(shape, b)))[0];
    };
    const OutlierSplit s = split(Shape{1, 10, 2, 5}, x, y);
    CHECK((s.tokens == 10 && s.channels == 10 && s.outlier_tokens == 1 && s.outlier_channels == 1));
    CHECK((near(s.error, 4 + 1 + 9 + 1 + 0.25) && near(s.token_error, 5) && near(s.channel_error, 13)));
    CHECK(
        (near(s.energy, 99 + 101 * 101) && near(s.first_energy, 10) && near(s.first_error, 1) && near(s.first_product, 9)));
    CHECK(near(s.product, 99 + 101 * 103 + 1 + 3 - 1 + 0.5));
    const OutlierSplit flat = split(Shape{1, 10, 10}, std::vector<float>(100, 1), y);
    CHECK((flat.outlier_tokens == 0 && flat.outlier_channels == 0 && flat.token_error == 0));
    // Of 36 numbers none is further than sqrt(35) < 6 deviations from their mean, whatever its size.
    std::vector<float> few(36, 0);
    few[7] = 1e6F;
    CHECK(split(Shape{1, 6, 6}, few, few).outlier_tokens == 0);
    few.resize(42, 0);
    CHECK(split(Shape{1, 7, 6}, few, few).outlier_tokens == 1);
    x[50] = NAN;  // its token has no moments and no outliers; its other pairs count
    x[51] = 1e6F;
    const OutlierSplit bad = split(Shape{1, 10, 10}, x, y);
    CHECK((bad.outlier_tokens == 1 && near(bad.token_error, 5) && std::isfinite(bad.error)));
  }
}

TEST_CASE("norms under an upper triangular factor by hand; blind to direction") {
  for (const NamedBackend& backend : backends()) {
    CAPTURE(backend.name);
    const Tensor x = of(Shape{1, 2, 2, 2}, {1, 1, 3, 4, 1, -1, -3, -4});
    const Tensor r = of(Shape{2, 2, 2}, {1, 2, 99, 3, 1, 0, 0, 1});  // what lies below the diagonal isn't read
    const auto got = backend->reductions().projected_norms(backend->upload(x), backend->upload(r));
    REQUIRE(got.size() == 4);
    CHECK((near(got[0], std::sqrt(18.0)) && near(got[1], 5) && near(got[2], std::sqrt(10.0)) && near(got[3], 5)));
  }
}
