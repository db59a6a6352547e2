// DistortionStats and Moments against plain loops in long double: every length round the lanes and blocks, strides, NaN.
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "quant/core/dispatch.h"
#include "quant/core/error.h"
#include "quant/core/random.h"
#include "quant/distortion.h"
#include "tests/support/said.h"

using namespace qfid::quant;
using qfid::tests::said;

namespace {

/// Each sum of at most n terms is off by at most n rounding errors of its terms' magnitudes.
bool near(double got, long double exact, long double magnitudes, std::size_t n) {
  return std::fabs(static_cast<long double>(got) - exact) <= static_cast<long double>(n + 2) * 0x1p-52L * magnitudes;
}

struct Slow {
  long double xx = 0, xy = 0, yy = 0, ee = 0, ax = 0, ae = 0, e = 0, axy = 0;
  double max = 0;
  std::int64_t n = 0, exact = 0, flips = 0, flushed = 0, nan = 0;
  void add(float a, float b) {
    if (std::isnan(a) || std::isnan(b)) {
      ++nan;
      return;
    }
    const long double x = a, y = b;
    ++n;
    xx += x * x;
    xy += x * y;
    axy += std::fabs(x * y);
    yy += y * y;
    ee += (y - x) * (y - x);
    ax += std::fabs(x);
    ae += std::fabs(y - x);
    e += y - x;
    max = std::max(max, static_cast<double>(std::fabs(b - a)));
    exact += a == b ? 1 : 0;
    flips += x * y < 0 ? 1 : 0;
    flushed += b == 0 && a != 0 ? 1 : 0;
  }
};

void check(const DistortionStats& fast, const Slow& slow) {
  const DistortionStats::Sums s = fast.sums();
  const auto n = static_cast<std::size_t>(slow.n);
  REQUIRE(s.n == slow.n);
  REQUIRE(s.nan == slow.nan);
  REQUIRE(s.exact == slow.exact);
  REQUIRE(s.flips == slow.flips);
  REQUIRE(s.flushed == slow.flushed);
  REQUIRE(s.max == slow.max);
  REQUIRE(near(s.xx, slow.xx, slow.xx, n));
  REQUIRE(near(s.xy, slow.xy, slow.axy, n));
  REQUIRE(near(s.yy, slow.yy, slow.yy, n));
  REQUIRE(near(s.ee, slow.ee, slow.ee, n));
  REQUIRE(near(s.ax, slow.ax, slow.ax, n));
  REQUIRE(near(s.ae, slow.ae, slow.ae, n));
  REQUIRE(near(s.e, slow.e, slow.ae, n));
}

struct Pairs {
  std::vector<float> x, y;
};
Pairs pairs(std::size_t n, std::uint64_t seed) {
  Pairs p{std::vector<float>(n), std::vector<float>(n)};
  Random random(seed);
  for (std::size_t i = 0; i < n; ++i) {
    p.x[i] = static_cast<float>(random.normal());
    switch (random.below(6)) {
      case 0:
        p.y[i] = p.x[i];
        break;
      case 1:
        p.y[i] = 0;
        break;
      case 2:
        p.y[i] = -p.x[i];
        break;
      default:
        p.y[i] = p.x[i] + static_cast<float>(0.1 * random.normal());
    }
    if (random.below(40) == 0) p.x[i] = 0;
    if (random.below(40) == 0) (random.below(2) == 0 ? p.x : p.y)[i] = std::numeric_limits<float>::quiet_NaN();
  }
  return p;
}

}  // namespace

TEST_CASE("sums of a span are a plain loop's at every length, on every path") {
  std::vector<std::size_t> lengths;
  for (std::size_t n = 0; n <= 70; ++n) lengths.push_back(n);
  for (std::size_t n : {1007, 1008, 1009, 1023, 1024, 1025, 1040, 2047, 2048, 2049, 5000}) lengths.push_back(n);
  for (const std::size_t n : lengths) {
    CAPTURE(n);
    const Pairs p = pairs(n, n);
    Slow slow;
    for (std::size_t i = 0; i < n; ++i) slow.add(p.x[i], p.y[i]);
    for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
      const Isa before = force_isa(isa);
      DistortionStats fast;
      fast.add(p.x, p.y);
      force_isa(before);
      check(fast, slow);
    }
  }
}

TEST_CASE("rows apart: what lies between them is not looked at") {
  for (const auto& [rows, columns, stride] :
       {std::tuple{1, 5, 5}, std::tuple{7, 3, 10}, std::tuple{130, 8, 24}, std::tuple{3, 1500, 1600},
        std::tuple{5, 1024, 1024}, std::tuple{2, 1025, 2000}, std::tuple{64, 16, 17}, std::tuple{65, 16, 16},
        std::tuple{40, 100, 128}}) {
    CAPTURE(rows, columns, stride);
    Pairs p = pairs(static_cast<std::size_t>(rows * stride), 11);
    Slow slow;
    for (int r = 0; r < rows; ++r)
      for (int i = 0; i < stride; ++i) {
        const auto at = static_cast<std::size_t>(r * stride + i);
        if (i < columns) {
          slow.add(p.x[at], p.y[at]);
        } else {
          p.x[at] = p.y[at] = 1e30F;
        }
      }
    DistortionStats fast;
    fast.add(p.x.data(), p.y.data(), rows, columns, stride);
    check(fast, slow);
  }
}

TEST_CASE("one at a time, and merged: every field") {
  const Pairs p = pairs(300, 5);
  Slow slow;
  DistortionStats single, merged;
  for (std::size_t i = 0; i < 300; ++i) {
    slow.add(p.x[i], p.y[i]);
    single.add(p.x[i], p.y[i]);
    DistortionStats one;
    one.add(p.x[i], p.y[i]);
    merged.merge(DistortionStats::from(one.sums()));
  }
  check(single, slow);
  check(merged, slow);
  const auto n = static_cast<double>(slow.n);
  CHECK(single.count() == slow.n);
  CHECK(single.nan_count() == slow.nan);
  CHECK(single.max_abs() == slow.max);
  CHECK(single.share_exact() == static_cast<double>(slow.exact) / n);
  CHECK(single.share_sign_flips() == static_cast<double>(slow.flips) / n);
  CHECK(single.share_flushed() == static_cast<double>(slow.flushed) / n);
  CHECK(single.mean_signed_error() == single.sums().e / n);
  CHECK(*single.gain() == single.sums().xy / single.sums().xx);
  CHECK(*single.nmse() == single.sums().ee / single.sums().xx);
  CHECK(*single.relative_l1() == single.sums().ae / single.sums().ax);
  CHECK(*single.cosine() == single.sums().xy / std::sqrt(single.sums().xx * single.sums().yy));
  CHECK(*single.sqnr_db() == 10 * std::log10(single.sums().xx / single.sums().ee));
  DistortionStats longer;
  const std::vector<float> a(3), b(2);
  CHECK(said([&] {
          longer.add(a, b);
          return 0;
        }) == "5 distortion: unequal lengths");
}

TEST_CASE("what can't be said is nothing: zeros, no error, no element") {
  DistortionStats zero, same, gone;
  zero.add(0.0F, 1.0F);
  CHECK_FALSE(zero.gain());
  CHECK_FALSE(zero.nmse());
  CHECK_FALSE(zero.sqnr_db());
  CHECK_FALSE(zero.relative_l1());
  CHECK_FALSE(zero.cosine());
  CHECK_FALSE(zero.exact());
  same.add(2.0F, 2.0F);
  CHECK(*same.gain() == 1);
  CHECK_FALSE(same.sqnr_db());
  CHECK(*same.nmse() == 0);
  CHECK(same.exact());
  same.add(std::numeric_limits<float>::quiet_NaN(), 1.0F);
  CHECK_FALSE(same.exact());  // a NaN isn't equal to anything
  gone.add(1.0F, 0.0F);
  CHECK(*gone.gain() == 0);
  CHECK(*gone.sqnr_db() == 0);
  CHECK_FALSE(gone.cosine());
  const DistortionStats none;
  const std::string expected = "5 statistics of nothing: no element was added";
  CHECK(said([&] { return none.gain(); }) == expected);
  CHECK(said([&] { return none.sqnr_db(); }) == expected);
  CHECK(said([&] { return none.nmse(); }) == expected);
  CHECK(said([&] { return none.relative_l1(); }) == expected);
  CHECK(said([&] { return none.cosine(); }) == expected);
  CHECK(said([&] { return none.max_abs(); }) == expected);
  CHECK(said([&] { return none.mean_signed_error(); }) == expected);
  CHECK(said([&] { return none.share_exact(); }) == expected);
  CHECK(said([&] { return none.share_sign_flips(); }) == expected);
  CHECK(said([&] { return none.share_flushed(); }) == expected);
}

TEST_CASE("moments of a span are a plain loop's at every length; merged in any grouping") {
  for (std::size_t n = 1; n <= 40; ++n)
    for (std::size_t extreme = 0; extreme < n; ++extreme) {
      CAPTURE(n, extreme);
      std::vector<float> x(n);
      Random random(100 * n + extreme);
      for (float& v : x) v = static_cast<float>(3 + random.normal());
      x[extreme] = extreme % 2 == 0 ? 20.0F : -30.0F;  // every place can hold the extreme
      long double sum = 0, second = 0, fourth = 0, least = x[0], most = x[0];
      for (float v : x)
        sum += static_cast<long double>(v), least = std::min<long double>(least, v), most = std::max<long double>(most, v);
      const long double mean = sum / static_cast<long double>(n);
      for (float v : x) second += std::pow(v - mean, 2), fourth += std::pow(v - mean, 4);
      const long double s2 = n > 1 ? second / static_cast<long double>(n - 1) : 0,
                        kurtosis = fourth / static_cast<long double>(n) / (s2 * s2 + 1e-6L);
      const auto is_right = [&](const Moments& m) {
        REQUIRE(m.count() == static_cast<std::int64_t>(n));
        REQUIRE(std::fabs(m.mean() - static_cast<double>(mean)) <= 1e-13 * (1 + std::fabs(static_cast<double>(mean))));
        REQUIRE(std::fabs(m.variance() - static_cast<double>(second) / static_cast<double>(n)) <=
                1e-12 * static_cast<double>(second + 1));
        REQUIRE(std::fabs(m.kurtosis() - static_cast<double>(kurtosis)) <= 1e-10 * static_cast<double>(kurtosis + 1));
        REQUIRE(m.min() == static_cast<double>(least));
        REQUIRE(m.max() == static_cast<double>(most));
        REQUIRE(m.inf_norm() == static_cast<double>(std::max(std::fabs(least), std::fabs(most))));
      };
      for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
        const Isa before = force_isa(isa);
        Moments whole;
        whole.add(x);
        force_isa(before);
        is_right(whole);
      }
      Moments singly, parts, empty;
      for (float v : x) singly.add(static_cast<double>(v));
      is_right(singly);
      const std::size_t cut = (extreme + n / 3) % n;
      Moments left, right;
      left.add(std::span(x).first(cut));
      right.add(std::span(x).subspan(cut));
      parts.merge(empty);
      parts.merge(left);
      parts.merge(right);
      parts.merge(empty);
      is_right(parts);
    }
  const Moments none;
  const std::string expected = "5 moments of nothing: no element was added";
  CHECK(said([&] { return none.mean(); }) == expected);
  CHECK(said([&] { return none.variance(); }) == expected);
  CHECK(said([&] { return none.kurtosis(); }) == expected);
  CHECK(said([&] { return none.min(); }) == expected);
  CHECK(said([&] { return none.max(); }) == expected);
  CHECK(said([&] { return none.inf_norm(); }) == expected);
}

TEST_CASE("moments of rows side by side are those of each row alone, on every path, to the bit") {
  const auto bits = [](const Moments& m) {
    return std::array{m.mean(), m.variance(), m.kurtosis(), m.min(), m.max(), static_cast<double>(m.count())};
  };
  Random random(31);
  for (const std::int64_t n : {1, 7, 8, 9, 24, 67})
    for (std::int64_t rows = 1; rows <= 9; ++rows) {
      std::vector<float> x(static_cast<std::size_t>(rows * n));
      for (float& v : x) v = static_cast<float>(random.normal());
      for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
        const Isa before = force_isa(isa);
        std::vector<Moments> together(static_cast<std::size_t>(rows));
        Moments::of_rows(x.data(), rows, n, together.data());
        force_isa(Isa::portable);
        for (std::int64_t r = 0; r < rows; ++r) {
          Moments alone;
          alone.add(std::span(x).subspan(static_cast<std::size_t>(r * n), static_cast<std::size_t>(n)));
          CAPTURE(n, rows, r, static_cast<int>(isa));
          CHECK(bits(together[static_cast<std::size_t>(r)]) == bits(alone));
        }
        force_isa(before);
      }
    }
}
