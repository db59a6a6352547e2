// Sketches of attention: blocks by hand, the first key alone, rows that sum to the whole.
#include "eval/metrics/attention_sketch.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <numeric>

using namespace qfid::eval;

TEST_CASE("a short window is kept as it is, in thousandths, without what is masked", "[sketch]") {
  const std::vector<float> probs{1, 0, 0, 0.25F, 0.75F, 0, 0.5F, 0.125F, 0.375F};
  const AttentionSketch sketch = attention_sketch(probs, 3);
  CHECK(sketch.block == 1);
  CHECK(sketch.rows == std::vector<std::vector<int>>{{1000}, {250, 750}, {500, 125, 375}});
}

TEST_CASE("blocks: the mean over queries of the mass on keys; the first key stands alone", "[sketch]") {
  // 64 tokens, two a block: query q pays 0.5 to key 0 and 0.5 to itself.
  constexpr std::int64_t n = 64;
  std::vector<float> probs(n * n);
  for (std::int64_t q = 0; q < n; ++q) {
    probs[static_cast<std::size_t>(q * n)] += 0.5F;
    probs[static_cast<std::size_t>(q * n + q)] += 0.5F;
  }
  const AttentionSketch sketch = attention_sketch(probs, n);
  CHECK(sketch.block == 2);
  REQUIRE(sketch.rows.size() == 32);
  CHECK(sketch.rows[0] == std::vector<int>{750, 250});  // queries 0 (all to key 0) and 1
  CHECK(sketch.rows[1] == std::vector<int>{500, 0, 500});
  CHECK(sketch.rows[31].size() == 33);
  CHECK(sketch.rows[31].back() == 500);
  for (const std::vector<int>& row : sketch.rows) CHECK(std::accumulate(row.begin(), row.end(), 0) == 1000);
}

TEST_CASE("any length fits, the last block may be short; what isn't a number is nothing", "[sketch]") {
  for (const std::int64_t n : {1, 2, 31, 32, 33, 65, 100, 1000}) {
    std::vector<float> probs(static_cast<std::size_t>(n * n));
    for (std::int64_t q = 0; q < n; ++q)
      for (std::int64_t k = 0; k <= q; ++k) probs[static_cast<std::size_t>(q * n + k)] = 1.0F / static_cast<float>(q + 1);
    const AttentionSketch sketch = attention_sketch(probs, n);
    CAPTURE(n);
    CHECK(sketch.rows.size() <= static_cast<std::size_t>(most_sketch_rows));
    for (const std::vector<int>& row : sketch.rows) {
      CHECK(row.size() <= sketch.rows.size() + 1);
      CHECK(std::abs(std::accumulate(row.begin(), row.end(), 0) - 1000) <= 17);  // half a thousandth a column
    }
  }
  CHECK(attention_sketch(std::vector<float>{NAN}, 1).rows == std::vector<std::vector<int>>{{0}});
}
