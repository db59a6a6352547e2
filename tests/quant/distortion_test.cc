#include "quant/distortion.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "quant/core/dispatch.h"
#include "quant/core/error.h"
#include "quant/core/random.h"

using namespace qfid::quant;

TEST_CASE("distortion by hand") {
  DistortionStats s;
  const float x[4] = {1, 2, -2, 0}, y[4] = {1, 3, 2, 1};
  s.add(x, y);
  CHECK(*s.gain() == (1.0 + 6 - 4) / 9);
  CHECK(*s.nmse() == 18.0 / 9);
  CHECK(std::fabs(*s.sqnr_db() - 10 * std::log10(9.0 / 18)) < 1e-12);
  CHECK(*s.relative_l1() == 6.0 / 5);
  CHECK(s.max_abs() == 4);
  CHECK(s.mean_signed_error() == 1.5);
  CHECK(s.share_exact() == 0.25);
  CHECK(s.share_sign_flips() == 0.25);
  CHECK(s.share_flushed() == 0);
  CHECK_FALSE(s.exact());
}

TEST_CASE("each number is blind to what its comment says") {
  std::vector<float> x(1000), scaled(1000), noisy(1000);
  Random random(5);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(random.normal());
    scaled[i] = 1.01F * x[i];
    noisy[i] = x[i] + (i % 2 == 0 ? 0.01F : -0.01F);
  }
  DistortionStats a, b;
  a.add(x, scaled);
  b.add(x, noisy);
  CHECK(std::fabs(*a.cosine() - 1) < 1e-6);        // cosine doesn't see a wrong scale ...
  CHECK(std::fabs(*a.gain() - 1.01) < 1e-6);       // ... gain does
  CHECK(std::fabs(b.mean_signed_error()) < 1e-6);  // the mean error doesn't see symmetric noise ...
  CHECK(*b.sqnr_db() < 45);                        // ... SQNR does
}

TEST_CASE("no element is an error, NaN is counted, parts merge to the whole, every ISA gives the same bits") {
  DistortionStats empty;
  CHECK_THROWS_AS(empty.gain(), Error);
  CHECK_THROWS_AS(Moments().mean(), Error);
  std::vector<float> x(1003), y(1003);
  Random random(6);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(random.normal());
    y[i] = x[i] + 0.1F * static_cast<float>(random.normal());
  }
  y[500] = std::numeric_limits<float>::quiet_NaN();
  DistortionStats whole, parts;
  whole.add(x, y);
  CHECK(whole.nan_count() == 1);
  CHECK(whole.count() == 1002);
  for (std::size_t begin = 0; begin < x.size(); begin += 100) {
    DistortionStats part;
    const std::size_t n = std::min<std::size_t>(100, x.size() - begin);
    part.add(std::span(x).subspan(begin, n), std::span(y).subspan(begin, n));
    parts.merge(part);
  }
  CHECK(std::fabs(*whole.gain() - *parts.gain()) < 1e-13);
  CHECK(whole.max_abs() == parts.max_abs());
  CHECK(whole.share_exact() == parts.share_exact());
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    const Isa before = force_isa(isa);
    DistortionStats again;
    again.add(x, y);
    CHECK(again.sums().xy == whole.sums().xy);
    CHECK(again.sums().ee == whole.sums().ee);
    force_isa(before);
  }
  DistortionStats rows;  // one head of [tokens, heads, d]
  rows.add(x.data(), y.data(), 20, 10, 50);
  DistortionStats slow;
  for (int r = 0; r < 20; ++r)
    slow.add(std::span(x).subspan(static_cast<std::size_t>(r) * 50, 10),
             std::span(y).subspan(static_cast<std::size_t>(r) * 50, 10));
  CHECK(rows.count() == slow.count());
  CHECK(std::fabs(rows.sums().xy - slow.sums().xy) < 1e-12);
}

TEST_CASE("moments by hand and against the direct formula") {
  Moments m;
  const float x[5] = {1, 2, 3, 4, 10};
  m.add(x);
  CHECK(m.mean() == 4);
  CHECK(m.variance() == 10);
  CHECK(m.inf_norm() == 10);
  const double s2 = 50.0 / 4, fourth = (81 + 16 + 1 + 0 + 1296) / 5.0;
  CHECK(std::fabs(m.kurtosis() - fourth / (s2 * s2 + 1e-6)) < 1e-12);
  Moments merged;
  for (float v : x) merged.add(static_cast<double>(v));
  CHECK(std::fabs(merged.kurtosis() - m.kurtosis()) < 1e-12);
}
