// Codecs against an independent slow converter (tests/support/slow_codec.h).
#include "quant/codec.h"

#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "quant/core/dispatch.h"
#include "quant/core/error.h"
#include "quant/core/random.h"
#include "tests/support/slow_codec.h"

using namespace qfid::quant;
using namespace qfid::tests;

namespace {

/// Every code's value, every boundary between codes, +-2 ulp around each, both signs, and the extremes.
std::vector<float> probes(const Table& t) {
  std::vector<float> all{0.0F,
                         -0.0F,
                         std::numeric_limits<float>::infinity(),
                         -std::numeric_limits<float>::infinity(),
                         std::numeric_limits<float>::max(),
                         std::numeric_limits<float>::denorm_min(),
                         464.0F,
                         465.0F,
                         61440.0F};
  const auto around = [&](double centre) {
    const auto middle = static_cast<float>(centre);
    for (int ulp = -2; ulp <= 2; ++ulp) {
      if (middle == 0 && ulp < 0) continue;
      const float x = std::bit_cast<float>(std::bit_cast<std::uint32_t>(middle) + static_cast<std::uint32_t>(ulp));
      all.push_back(x);
      all.push_back(-x);
    }
  };
  for (std::size_t i = 0; i < t.value.size(); ++i) {
    around(t.value[i]);
    if (i + 1 < t.value.size()) around((t.value[i] + t.value[i + 1]) / 2);
  }
  around(t.value.back() + (t.value.back() - t.value[t.value.size() - 2]) / 2);
  return all;
}

template <class T, class Cast>
std::int64_t check_fp8(const Table& table, Cast&& cast, T (*scalar)(float, Overflow)) {
  const std::vector<float> inputs = probes(table);
  std::int64_t checked = 0;
  for (Overflow overflow : {Overflow::satfinite, Overflow::nosat}) {
    for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
      const Isa before = force_isa(isa);
      std::vector<T> codes(inputs.size());
      CodeCounts counts;
      cast(inputs, overflow, codes, counts);
      std::int64_t saturated = 0, flushed = 0;
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const std::uint32_t expected = slow_encode(inputs[i], table, overflow == Overflow::satfinite);
        // NaN from overflow carries no sign in E4M3's only NaN code other than its sign bit.
        CAPTURE(inputs[i], static_cast<int>(isa));
        REQUIRE(codes[i].bits == expected);
        REQUIRE(scalar(inputs[i], overflow).bits == expected);
        ++checked;
        const double limit = table.value.back() + (table.value.back() - table.value[table.value.size() - 2]) / 2;
        const double magnitude = std::fabs(static_cast<double>(inputs[i]));
        saturated += magnitude > limit || (magnitude == limit && (table.value.size() - 1) % 2 == 1);
        flushed += inputs[i] != 0 && (expected & 0x7F) == 0;
      }
      CHECK(counts.saturated == saturated);
      CHECK(counts.flushed == flushed);
      CHECK(counts.elements == static_cast<std::int64_t>(inputs.size()));
      force_isa(before);
    }
  }
  return checked;
}

}  // namespace

TEST_CASE("FP8 casts agree with the slow converter at every code and boundary") {
  const auto n = check_fp8<e4m3>(
      e4m3_table,
      [](const auto& x, Overflow o, auto& codes, CodeCounts& counts) { cast_to_e4m3(x, 1.0F, o, codes, counts); }, to_e4m3);
  CHECK(n > 6 * 2 * 126 * 9);
  const auto m = check_fp8<e5m2>(
      e5m2_table,
      [](const auto& x, Overflow o, auto& codes, CodeCounts& counts) { cast_to_e5m2(x, 1.0F, o, codes, counts); }, to_e5m2);
  CHECK(m > 6 * 2 * 123 * 9);
}

TEST_CASE("all 256 FP8 codes decode to their definition and back") {
  int finite4 = 0, finite5 = 0, nan4 = 0, nan5 = 0, infinite = 0;
  std::vector<float> wide(256);
  std::vector<e4m3> codes4(256);
  std::vector<e5m2> codes5(256);
  for (unsigned code = 0; code < 256; ++code) {
    codes4[code].bits = codes5[code].bits = static_cast<std::uint8_t>(code);
    const float sign = code >= 128 ? -1.0F : 1.0F;
    const float a = to_f32(codes4[code]), b = to_f32(codes5[code]);
    if ((code & 0x7F) <= 0x7E) {
      ++finite4;
      REQUIRE(a == sign * static_cast<float>(e4m3_table.value[code & 0x7F]));
      REQUIRE(std::signbit(a) == (code >= 128));
      REQUIRE(to_e4m3(a).bits == code);
    } else {
      ++nan4;
      REQUIRE(std::isnan(a));
      REQUIRE(to_e4m3(a).bits == 0x7F);
    }
    if ((code & 0x7F) <= 0x7B) {
      ++finite5;
      REQUIRE(b == sign * static_cast<float>(e5m2_table.value[code & 0x7F]));
      REQUIRE(to_e5m2(b).bits == code);
    } else if ((code & 0x7F) == 0x7C) {
      ++infinite;
      REQUIRE(b == sign * std::numeric_limits<float>::infinity());
      REQUIRE(to_e5m2(b, Overflow::nosat).bits == code);
      REQUIRE((to_e5m2(b).bits & 0x7F) == 0x7B);
    } else {
      ++nan5;
      REQUIRE(std::isnan(b));
      REQUIRE(to_e5m2(b).bits == 0x7F);
    }
  }
  CHECK(finite4 == 254);
  CHECK(nan4 == 2);
  CHECK(finite5 == 248);
  CHECK(infinite == 2);
  CHECK(nan5 == 6);
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    const Isa before = force_isa(isa);
    std::vector<bf16> narrow(256);
    expand(std::span<const e4m3>(codes4), std::span<float>(wide));
    expand(std::span<const e4m3>(codes4), std::span<bf16>(narrow));
    for (unsigned i = 0; i < 256; ++i) {
      if (std::isnan(to_f32(codes4[i]))) {
        REQUIRE(std::isnan(wide[i]));
        REQUIRE(std::isnan(to_f32(narrow[i])));
        continue;
      }
      REQUIRE(std::bit_cast<std::uint32_t>(wide[i]) == std::bit_cast<std::uint32_t>(to_f32(codes4[i])));
      REQUIRE(to_f32(narrow[i]) == to_f32(codes4[i]));
    }
    expand(std::span<const e5m2>(codes5), std::span<float>(wide));
    for (unsigned i = 0; i < 256; ++i)
      if (!std::isnan(wide[i]))
        REQUIRE(std::bit_cast<std::uint32_t>(wide[i]) == std::bit_cast<std::uint32_t>(to_f32(codes5[i])));
    force_isa(before);
  }
}

TEST_CASE("all 2^16 bf16 and f16 codes, and +-2 ulp round every boundary") {
  const Table half = make_table(5, 10, 0x7BFF, 0x7C00);
  std::vector<f16> codes(65536);
  for (unsigned i = 0; i < 65536; ++i) codes[i].bits = static_cast<std::uint16_t>(i);
  std::vector<float> wide(65536);
  expand(std::span<const f16>(codes), std::span<float>(wide));
  int numbers = 0;
  for (unsigned i = 0; i < 65536; ++i) {
    const unsigned magnitude = i & 0x7FFF;
    if (magnitude > 0x7C00) {
      REQUIRE(std::isnan(wide[i]));
      continue;
    }
    ++numbers;
    REQUIRE(std::bit_cast<std::uint32_t>(wide[i]) == std::bit_cast<std::uint32_t>(to_f32(codes[i])));
    REQUIRE(to_f16(wide[i]).bits == i);
    if (magnitude <= 0x7BFF) REQUIRE(std::fabs(wide[i]) == static_cast<float>(half.value[magnitude]));
  }
  CHECK(numbers == 2 * 0x7C01);
  std::int64_t boundaries = 0;
  for (unsigned code = 0; code < 0x7F80; ++code) {  // bf16: the boundary above each finite code is its middle to the next
    const std::uint32_t middle = (code << 16) + 0x8000U;
    for (int ulp = -2; ulp <= 2; ++ulp) {
      const float x = std::bit_cast<float>(middle + static_cast<std::uint32_t>(ulp));
      const unsigned expected = ulp < 0 ? code : ulp > 0 ? code + 1 : code + code % 2;
      REQUIRE(to_bf16(x).bits == expected);
      bf16 fast{};
      cast_to_bf16(std::span(&x, 1), std::span(&fast, 1));
      REQUIRE(fast.bits == expected);
      ++boundaries;
    }
  }
  CHECK(boundaries == 5 * 0x7F80);
  for (float x : probes(half)) REQUIRE(to_f16(x).bits == slow_encode(x, half, false));
}

TEST_CASE("INT8 rounds half to even at every .5 boundary and saturates, on every path") {
  std::vector<float> x;
  std::vector<int> expected;
  for (int code = -140; code <= 140; ++code)
    for (int ulp = -1; ulp <= 1; ++ulp) {
      const float middle = static_cast<float>(code) + 0.5F;
      const float value = ulp < 0 ? std::nextafter(middle, -1e9F) : ulp > 0 ? std::nextafter(middle, 1e9F) : middle;
      x.push_back(value);
      const int rounded = ulp < 0 ? code : ulp > 0 ? code + 1 : (code % 2 == 0 ? code : code + 1);
      expected.push_back(std::clamp(rounded, -127, 127));
    }
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    const Isa before = force_isa(isa);
    std::vector<std::int8_t> codes(x.size());
    CodeCounts counts;
    cast_to_int8(x, 1.0F, -127, codes, counts);
    for (std::size_t i = 0; i < x.size(); ++i) {
      CAPTURE(x[i]);
      REQUIRE(static_cast<int>(codes[i]) == expected[i]);
    }
    std::vector<std::uint8_t> bytes(x.size());
    cast_to_uint8(x, 1.0F, 128, bytes, counts);
    for (std::size_t i = 0; i < x.size(); ++i)
      REQUIRE(static_cast<int>(bytes[i]) ==
              std::clamp(static_cast<int>(std::nearbyint(static_cast<double>(x[i]))) + 128, 0, 255));
    const float special[3] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1e30F};
    std::int8_t three[3];
    CodeCounts odd;
    cast_to_int8(special, 1.0F, -128, three, odd);
    CHECK(three[0] == 0);
    CHECK(three[1] == 127);
    CHECK(three[2] == -128);
    CHECK(odd == CodeCounts{3, 2, 0, 1});
    force_isa(before);
  }
}

TEST_CASE("codes divide by the scale and never multiply by its reciprocal") {
  // 0.3 / 0.1 and 0.3 * (1 / 0.1) differ in f32 for some multiples; the cast must follow the division.
  int differ = 0;
  for (int i = 1; i < 2000; ++i) {
    const float scale = 0.1F + 0.001F * static_cast<float>(i), x = scale * (static_cast<float>(i % 120) + 0.5F);
    std::int8_t code = 0;
    CodeCounts counts;
    cast_to_int8(std::span(&x, 1), scale, -127, std::span(&code, 1), counts);
    REQUIRE(static_cast<float>(code) == std::nearbyint(x / scale));
    differ += std::nearbyint(x / scale) != std::nearbyint(x * (1.0F / scale));
  }
  CHECK(differ > 0);
}

TEST_CASE("long spans: every element where it belongs, every count, on every path") {
  constexpr std::size_t n = 10007;  // two whole blocks of the counters, and a rest
  std::vector<float> x(n);
  Random random(21);
  for (float& v : x) v = static_cast<float>(random.normal() * std::exp2(static_cast<double>(random.below(60)) - 30));
  for (const std::size_t at : {0, 1, 4095, 4096, 4097, 8191, 8192, 10006}) x[at] = std::numeric_limits<float>::quiet_NaN();
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    const Isa before = force_isa(isa);
    for (const float scale : {1.0F, 0.37F}) {
      std::vector<e4m3> a(n);
      std::vector<e5m2> b(n);
      std::vector<bf16> c(n);
      std::vector<std::int8_t> d(n);
      std::vector<std::uint8_t> e(n);
      CodeCounts of_a, of_b, of_d, of_e, a_slow, b_slow, d_slow, e_slow;
      cast_to_e4m3(x, scale, Overflow::satfinite, a, of_a);
      cast_to_e5m2(x, scale, Overflow::nosat, b, of_b);
      cast_to_bf16(x, c);
      cast_to_int8(x, scale, -128, d, of_d);
      cast_to_uint8(x, scale, 100, e, of_e);
      for (std::size_t i = 0; i < n; ++i) {
        const float q = x[i] / scale;
        REQUIRE(a[i].bits == to_e4m3(q).bits);
        REQUIRE(b[i].bits == to_e5m2(q, Overflow::nosat).bits);
        REQUIRE(c[i].bits == to_bf16(x[i]).bits);
        const bool nan = std::isnan(q);
        const double rounded = nan ? 0 : std::nearbyint(static_cast<double>(q));
        const double low = std::clamp(rounded, -128.0, 127.0), unsigned_low = std::clamp(rounded, -100.0, 155.0);
        REQUIRE(d[i] == static_cast<int>(low));
        REQUIRE(e[i] == static_cast<int>(unsigned_low) + 100);
        const double magnitude = std::fabs(static_cast<double>(q));
        const auto count = [&](CodeCounts& counts, bool saturated, bool flushed) {
          counts += {1, saturated && !nan ? 1 : 0, flushed && !nan && x[i] != 0 ? 1 : 0, nan ? 1 : 0};
        };
        count(a_slow, magnitude > 464, (a[i].bits & 0x7F) == 0);
        count(b_slow, magnitude >= 61440, (b[i].bits & 0x7F) == 0);
        count(d_slow, low != rounded, low == 0);
        count(e_slow, unsigned_low != rounded, unsigned_low == 0);
      }
      CHECK(of_a == a_slow);
      CHECK(of_b == b_slow);
      CHECK(of_d == d_slow);
      CHECK(of_e == e_slow);
      std::vector<float> wide(n);
      std::vector<bf16> narrow(n);
      const auto value = [](float f) { return std::bit_cast<std::uint32_t>(f); };
      expand(std::span<const bf16>(c), wide);
      for (std::size_t i = 0; i < n; ++i) REQUIRE(value(wide[i]) == value(to_f32(c[i])));
      expand(std::span<const e4m3>(a), narrow);
      for (std::size_t i = 0; i < n; ++i) REQUIRE((std::isnan(x[i]) || to_f32(narrow[i]) == to_f32(a[i])));
      expand(std::span<const e5m2>(b), narrow);
      for (std::size_t i = 0; i < n; ++i) REQUIRE((std::isnan(x[i]) || to_f32(narrow[i]) == to_f32(b[i])));
    }
    force_isa(before);
  }
  CodeCounts sum{1, 2, 3, 4};
  sum += {10, 20, 30, 40};
  CHECK(sum == CodeCounts{11, 22, 33, 44});
}

TEST_CASE("spans of unequal length are refused, by every codec") {
  const std::vector<float> x(3);
  std::vector<float> f(2);
  std::vector<bf16> b(2);
  std::vector<f16> h(3);
  std::vector<e4m3> p(2);
  std::vector<e5m2> q(2);
  std::vector<std::int8_t> s(2);
  std::vector<std::uint8_t> u(2);
  CodeCounts counts;
  std::vector<float> longer(3);
  std::vector<bf16> longer_b(3);
  CHECK_THROWS_AS(cast_to_e4m3(x, 1, Overflow::satfinite, p, counts), qfid::quant::Error);
  CHECK_THROWS_AS(cast_to_e5m2(x, 1, Overflow::satfinite, q, counts), qfid::quant::Error);
  CHECK_THROWS_AS(cast_to_bf16(x, b), qfid::quant::Error);
  CHECK_THROWS_AS(cast_to_int8(x, 1, -127, s, counts), qfid::quant::Error);
  CHECK_THROWS_AS(cast_to_uint8(x, 1, 0, u, counts), qfid::quant::Error);
  CHECK_THROWS_AS(expand(std::span<const bf16>(b), longer), qfid::quant::Error);
  CHECK_THROWS_AS(expand(std::span<const f16>(h), f), qfid::quant::Error);
  CHECK_THROWS_AS(expand(std::span<const e4m3>(p), longer), qfid::quant::Error);
  CHECK_THROWS_AS(expand(std::span<const e5m2>(q), longer), qfid::quant::Error);
  CHECK_THROWS_AS(expand(std::span<const e4m3>(p), longer_b), qfid::quant::Error);
  CHECK_THROWS_AS(expand(std::span<const e5m2>(q), longer_b), qfid::quant::Error);
}
