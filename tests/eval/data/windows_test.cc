// Windows written out by hand.
#include "eval/data/windows.h"

#include <catch2/catch_test_macros.hpp>

#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using qfid::tests::Failure;
using qfid::tests::failure_of;
using Ids = std::vector<std::int32_t>;

namespace {
const Ids tokens{10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
}

TEST_CASE("window: BOS and the block without its last token, every position scored") {
  const auto windows = make_windows(tokens, Protocol::window, 1, 2, 4, 2, 100, "t");
  REQUIRE(windows.size() == 2);
  CHECK(windows[0].input == Ids{2, 11, 12, 13});
  CHECK(windows[0].target == Ids{11, 12, 13, 14});
  CHECK(windows[1].input == Ids{2, 15, 16, 17});
  CHECK(windows[1].target == Ids{15, 16, 17, 18});
  for (const Window& w : windows) {
    CHECK(w.first_scored == 0);
    CHECK(w.end_scored == 4);
  }
  const auto shortest = make_windows(tokens, Protocol::window, 0, 1, 1, 2, 100, "t");
  CHECK(shortest[0].input == Ids{2});
  CHECK(shortest[0].target == Ids{10});
}

TEST_CASE("llamacpp-512: BOS in place of the first token, targets context/2 + 1 to context - 1 scored") {
  const auto windows = make_windows(tokens, Protocol::llamacpp_512, 0, 1, 8, 2, 100, "t");
  REQUIRE(windows.size() == 1);
  CHECK(windows[0].input == Ids{2, 11, 12, 13, 14, 15, 16, 17});
  // Position i predicts token i + 1; of 8 tokens the targets 5, 6, 7 count: 15, 16, 17.
  CHECK(windows[0].first_scored == 4);
  CHECK(windows[0].end_scored == 7);
  for (std::int64_t i = windows[0].first_scored; i < windows[0].end_scored; ++i)
    CHECK(windows[0].target[static_cast<std::size_t>(i)] == tokens[static_cast<std::size_t>(i + 1)]);
  Ids long_text(512);
  const auto full = make_windows(long_text, Protocol::llamacpp_512, 0, 1, 512, 2, 100, "t");
  CHECK(full[0].end_scored - full[0].first_scored == 255);
  const auto odd = make_windows(tokens, Protocol::llamacpp_512, 0, 1, 3, 2, 100, "t");
  CHECK(odd[0].first_scored == 1);
  CHECK(odd[0].end_scored == 2);
}

TEST_CASE("how many windows fit, and what doesn't") {
  CHECK(windows_available(11, 0, 4) == 2);
  CHECK(windows_available(11, 3, 4) == 2);
  CHECK(windows_available(11, 4, 4) == 1);
  CHECK(windows_available(11, 11, 4) == 0);
  CHECK(windows_available(11, 1000000000000, 4) == 0);
  CHECK(windows_available(0, 0, 4) == 0);
  const Failure many = failure_of([] { make_windows(tokens, Protocol::window, 4, 2, 4, 2, 100, "t.npy"); });
  CHECK(many.code == 3);
  CHECK(many.message == "t.npy: 2 windows of 4 tokens from token 4 asked for, 1 fit into its 11 tokens");
  const Failure outside = failure_of([] { make_windows(tokens, Protocol::window, 0, 2, 4, 2, 16, "t.npy"); });
  CHECK(outside.code == 3);
  CHECK(outside.message == "t.npy: token 6 is 16, outside the model's vocabulary of 16");
  CHECK(make_windows(tokens, Protocol::window, 0, 1, 4, 2, 16, "t.npy").size() == 1);  // 16 isn't reached
}
