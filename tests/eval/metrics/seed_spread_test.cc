#include "eval/metrics/seed_spread.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <vector>

#include "quant/core/error.h"

using namespace qfid;
using namespace qfid::eval;
using Catch::Approx;

TEST_CASE("mean, deviation and t interval over seeds, by hand", "[seeds]") {
  // 1 2 3 4 10: mean 4, squares 9 + 4 + 1 + 0 + 36 = 50, variance 50/4; t(.975, 4) = 2.776445 (tables).
  const SeedSpread spread = seed_spread(std::vector<double>{1, 2, 3, 4, 10}, 0.95);
  CHECK(spread.seeds == 5);
  CHECK(spread.mean == 4);
  REQUIRE(spread.deviation);
  CHECK(*spread.deviation == Approx(std::sqrt(12.5)).epsilon(1e-12));
  REQUIRE(spread.interval);
  const double half = 2.776445 * std::sqrt(12.5 / 5);
  CHECK(spread.interval->low == Approx(4 - half).epsilon(1e-6));
  CHECK(spread.interval->high == Approx(4 + half).epsilon(1e-6));
  CHECK(seed_spread(std::vector<double>{1, 2, 3, 4, 10}, 0.99).interval->high > spread.interval->high);
}

TEST_CASE("below five seeds there is no interval, of one seed no deviation", "[seeds]") {
  const SeedSpread four = seed_spread(std::vector<double>{1, 2, 3, 4}, 0.95);
  CHECK(*four.deviation == Approx(std::sqrt(5.0 / 3)));
  CHECK_FALSE(four.interval);
  CHECK_FALSE(seed_spread(std::vector<double>{1}, 0.95).deviation);
  CHECK_THROWS_AS(seed_spread({}, 0.95), quant::Error);
}
