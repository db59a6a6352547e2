// Casts divide by the scale: where a path has another way to the quotient, it is the same number.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cfloat>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "quant/codec.h"
#include "quant/core/dispatch.h"
#include "quant/core/random.h"
#include "tests/support/slow_codec.h"

using namespace qfid::quant;
using namespace qfid::tests;

namespace {

/// Values where codes change: of INT8, E4M3 and E5M2.
std::vector<double> code_boundaries() {
  std::vector<double> all;
  for (int code = -128; code <= 127; ++code) all.push_back(code + 0.5);
  for (const Table* table : {&e4m3_table, &e5m2_table})
    for (std::size_t i = 0; i + 1 < table->value.size(); ++i)
      all.push_back((table->value[i] + table->value[i + 1]) / (i % 2 == 0 ? 2 : -2));
  return all;
}

/// A pair whose quotient lies as near as can be, 2^-25 ulp, to the middle m of a boundary and the number next to it, on
/// either side: m, 25 bits long, times the scale is a multiple of 2^25 but for 1.
struct Hard {
  float x, scale;
};
std::vector<Hard> hard_quotients(double boundary) {
  int exponent = 0;
  const auto n = static_cast<std::int64_t>(std::ldexp(std::frexp(std::fabs(boundary), &exponent), 24));
  std::vector<Hard> all;
  for (const std::int64_t m : {2 * n - 1, 2 * n + 1}) {
    std::uint64_t inverse = 1;  // of m modulo 2^25, by Newton's steps
    for (int i = 0; i < 6; ++i) inverse *= 2 - static_cast<std::uint64_t>(m) * inverse;
    inverse &= (1U << 25) - 1U;
    for (const auto& [s, rest] : {std::pair<std::int64_t, int>(inverse, 1), {(1 << 25) - inverse, -1}}) {
      if (s < 1 << 23 || s >= 1 << 24) continue;
      const double x = std::ldexp(static_cast<double>(m * s - rest), exponent - 25);
      all.push_back({static_cast<float>(boundary < 0 ? -x : x), static_cast<float>(s)});
    }
  }
  return all;
}

/// How many codes of x aren't those of the IEEE quotient x / scale, and the first such x.
std::pair<std::int64_t, float> wrong_codes(const std::vector<float>& x, float scale) {
  std::vector<e4m3> a(x.size());
  std::vector<e5m2> b(x.size());
  std::vector<std::int8_t> d(x.size());
  CodeCounts counts;
  cast_to_e4m3(x, scale, Overflow::satfinite, a, counts);
  cast_to_e5m2(x, scale, Overflow::nosat, b, counts);
  cast_to_int8(x, scale, -127, d, counts);
  std::pair<std::int64_t, float> wrong{0, 0.0F};
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float q = x[i] / scale;
    const bool right = a[i].bits == to_e4m3(q).bits && b[i].bits == to_e5m2(q, Overflow::nosat).bits &&
                       static_cast<float>(d[i]) == std::clamp(std::nearbyint(q), -127.0F, 127.0F);
    if (!right && wrong.first++ == 0) wrong.second = x[i];
  }
  return wrong;
}

}  // namespace

TEST_CASE("codes are those of the IEEE quotient next to every boundary, whatever the scale, on every path") {
  const std::vector<double> boundaries = code_boundaries();
  Random random(22);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> scales{1.0F,    0x1.fffffep0F, 0x1.000002p0F, 0x1p-60F, 0x1.fffffep60F, 0x1.fffffep-61F,
                            FLT_MIN, 1e30F,         1e38F};
  while (scales.size() < 300)
    scales.push_back(
        std::ldexp(static_cast<float>((1U << 23) + random.below(1U << 23)), static_cast<int>(random.below(150)) - 98));
  std::vector<Hard> hard;
  for (const double boundary : boundaries)
    for (const Hard& one : hard_quotients(boundary)) hard.push_back(one);
  CHECK(hard.size() > 200);
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    const Isa before = force_isa(isa);
    for (const float scale : scales) {
      std::vector<float> x{0.0F, -0.0F, FLT_MAX, -FLT_MAX, FLT_MIN, -1e-45F, infinity, -infinity};
      for (const double boundary : boundaries) {
        auto v = static_cast<float>(boundary * static_cast<double>(scale));
        for (int i = 0; i < 3; ++i) v = std::nextafter(v, -FLT_MAX);
        for (int i = 0; i < 7; ++i, v = std::nextafter(v, FLT_MAX)) x.push_back(v);
      }
      const auto [wrong, first] = wrong_codes(x, scale);
      CAPTURE(first, scale, static_cast<int>(isa));
      CHECK(wrong == 0);
    }
    for (const Hard& one : hard) {
      CAPTURE(one.x, one.scale, static_cast<int>(isa));
      CHECK(wrong_codes(std::vector<float>(16, one.x), one.scale).first == 0);
    }
    force_isa(before);
  }
}
