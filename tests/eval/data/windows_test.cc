// Windows written out by hand.
#include "eval/data/windows.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>

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

TEST_CASE("llamacpp: BOS in place of the first token, targets context/2 + 1 to context - 1 scored") {
  const auto windows = make_windows(tokens, Protocol::llamacpp, 0, 1, 8, 2, 100, "t");
  REQUIRE(windows.size() == 1);
  CHECK(windows[0].input == Ids{2, 11, 12, 13, 14, 15, 16, 17});
  // Position i predicts token i + 1; of 8 tokens the targets 5, 6, 7 count: 15, 16, 17.
  CHECK(windows[0].first_scored == 4);
  CHECK(windows[0].end_scored == 7);
  for (std::int64_t i = windows[0].first_scored; i < windows[0].end_scored; ++i)
    CHECK(windows[0].target[static_cast<std::size_t>(i)] == tokens[static_cast<std::size_t>(i + 1)]);
  Ids long_text(512);
  const auto full = make_windows(long_text, Protocol::llamacpp, 0, 1, 512, 2, 100, "t");
  CHECK(full[0].end_scored - full[0].first_scored == 255);
  const auto odd = make_windows(tokens, Protocol::llamacpp, 0, 1, 3, 2, 100, "t");
  CHECK(odd[0].first_scored == 1);
  CHECK(odd[0].end_scored == 2);
}

TEST_CASE("gptq and outlier_free: the block itself, every token but the first scored") {
  for (const Protocol protocol : {Protocol::gptq, Protocol::outlier_free}) {
    const auto windows = make_windows(tokens, protocol, 2, 2, 4, 2, 100, "t");
    REQUIRE(windows.size() == 2);
    CHECK(windows[0].input == Ids{12, 13, 14, 15});
    CHECK(windows[1].input == Ids{16, 17, 18, 19});
    for (const Window& w : windows) {
      CHECK(w.first_scored == 0);
      CHECK(w.end_scored == 3);
      for (std::size_t i = 0; i < 3; ++i) CHECK(w.target[i] == w.input[i + 1]);
    }
  }
}

TEST_CASE("protocol hidden reads blocks and rows as they are; padding isn't compared, and at a row's end it is cut") {
  const Ids text{10, 11, 12, 13, 14, 15, 16};
  std::vector<Window> windows = make_windows(text, Protocol::hidden, 1, 2, 3, 2, 1000, "t");
  REQUIRE(windows.size() == 2);
  CHECK(windows[0].input == Ids{11, 12, 13});
  CHECK(windows[1].input == Ids{14, 15, 16});
  CHECK(windows[1].scored(0));
  CHECK(windows[1].scored(2));

  const Ids rows{5, 6, 0, 7, 0, 0, 8, 9, 9, 9, 9, 9};
  windows = padded_windows(rows, 6, 0, 2, 1000, 0, "t");
  REQUIRE(windows.size() == 2);
  CHECK(windows[0].input == Ids{5, 6, 0, 7});
  CHECK(windows[0].scored(0));
  CHECK(windows[0].end_scored == 4);
  CHECK(windows[1].input == Ids{8, 9, 9, 9, 9, 9});
  CHECK(windows[1].target == windows[1].input);
  CHECK(padded_windows(rows, 6, 1, 1, 1000, 0, "t").at(0).input == Ids{8, 9, 9, 9, 9, 9});
  CHECK(padded_windows(rows, 6, 0, 1, 9, 0, "t").size() == 1);  // the 9s aren't reached
  unscore_padding(windows, 0, "t");
  CHECK(windows[0].scored(1));
  CHECK_FALSE(windows[0].scored(2));
  CHECK(windows[0].scored(3));
  CHECK(windows[0].input == Ids{5, 6, 0, 7});
  CHECK_THROWS_WITH(padded_windows(rows, 6, 1, 2, 1000, 0, "t"), "t: rows 1 to 2 asked for, it holds 2");
  CHECK_THROWS_WITH(padded_windows(rows, 6, 0, 2, 9, 0, "t"), "t: token 7 is 9, outside the model's vocabulary of 9");
  CHECK_THROWS_WITH(padded_windows(Ids{1, 0, 0, 0}, 2, 0, 2, 1000, 0, "t"), "t: row 1 is nothing but padding (token 0)");
}

TEST_CASE("protocol mlm reads rows as they are and scores what has a target") {
  const Ids inputs{5, 6, 1, 0, 7, 1, 9, 8, 4, 4, 0, 0},
      targets{-100, -100, 3, -100, -100, 2, -100, 11, -100, -100, -100, -100};
  const std::string ids = "ids.npy", wanted = "wanted.npy";
  const MaskedRows rows{inputs, targets, 4, ids, wanted};
  const std::vector<Window> windows = masked_windows(rows, 0, 3, 12, 0);
  REQUIRE(windows.size() == 3);
  CHECK(windows[0].input == Ids{5, 6, 1});  // its padding is cut
  CHECK(windows[0].target == Ids{-100, -100, 3});
  CHECK(windows[0].first_scored == 0);
  CHECK(windows[0].end_scored == 3);
  CHECK_FALSE(windows[0].scored(1));
  CHECK(windows[0].scored(2));
  CHECK(windows[1].input == Ids{7, 1, 9, 8});
  CHECK(windows[1].target == Ids{-100, 2, -100, 11});
  CHECK(windows[2].input == Ids{4, 4});
  CHECK(masked_windows(rows, 1, 1, 12, 0).at(0).input == Ids{7, 1, 9, 8});
  CHECK(masked_windows(rows, 3, 0, 12, 0).empty());

  CHECK_THROWS_WITH(masked_windows(rows, 1, 3, 12, 0), "ids.npy: rows 1 to 3 asked for, it holds 3");
  CHECK_THROWS_WITH(masked_windows(rows, 0, 3, 9, 0), "ids.npy: token 6 is 9, outside the model's vocabulary of 9");
  CHECK_THROWS_WITH(masked_windows(rows, 0, 3, 11, 0), "wanted.npy: token 7 is 11, outside the model's vocabulary of 11");
  CHECK(masked_windows(rows, 0, 1, 7, 0).size() == 1);  // neither 9 nor 11 is reached
}

TEST_CASE("protocol mlm: rows in which nothing can be scored are refused") {
  const std::string ids = "ids.npy", wanted = "wanted.npy";
  const Ids inputs{5, 0, 6, 6, 0, 0}, none(6, -100);
  CHECK_THROWS_WITH(masked_windows({inputs, none, 2, ids, wanted}, 0, 2, 12, 0),
                    "wanted.npy: every target of rows 0 to 1 is -100, nothing is scored");
  CHECK_THROWS_WITH(masked_windows({inputs, none, 2, ids, wanted}, 1, 1, 12, 0),
                    "wanted.npy: every target of rows 1 to 1 is -100, nothing is scored");
  const Ids at_padding{-100, 4, -100, -100, -100, -100}, last{-100, -100, -100, 4, -100, -100};
  CHECK_THROWS_WITH(masked_windows({inputs, at_padding, 2, ids, wanted}, 0, 1, 12, 0),
                    "wanted.npy: row 0: column 1 is scored, where the inputs are padding (token 0)");
  CHECK_THROWS_WITH(masked_windows({inputs, last, 2, ids, wanted}, 1, 2, 12, 0),
                    "ids.npy: row 2 is nothing but padding (token 0)");
  CHECK(masked_windows({inputs, last, 2, ids, wanted}, 0, 2, 12, 0).size() == 2);
}

TEST_CASE("every protocol, any context: targets follow what was read, and each is scored at most once") {
  Ids text(200);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::int32_t>(i + 10);
  for (const ProtocolTraits& row : protocols())
    for (std::int64_t context = std::max<std::int64_t>(row.least_context, 2);
         context < 70 && row.protocol != Protocol::lmeval && row.protocol != Protocol::mlm &&
         row.protocol != Protocol::hidden;
         ++context)
      for (const std::int64_t first : {0, 7}) {
        CAPTURE(row.name, context, first);
        const std::int64_t count = windows_available(200, first, context);
        std::int32_t last = 9;
        for (const Window& w : make_windows(text, row.protocol, first, count, context, 2, 1000, "t")) {
          REQUIRE(w.input.size() == static_cast<std::size_t>(context));
          REQUIRE(w.target.size() == w.input.size());
          REQUIRE(w.end_scored <= context);
          REQUIRE(w.first_scored < w.end_scored);
          for (std::int64_t i = w.first_scored; i < w.end_scored; ++i) {
            const std::int32_t target = w.target[static_cast<std::size_t>(i)], read = w.input[static_cast<std::size_t>(i)];
            CHECK((read == 2 ? i == 0 : target == read + 1));
            CHECK(target > last);
            last = target;
          }
        }
        const std::int64_t a_window = row.protocol == Protocol::window     ? context
                                      : row.protocol == Protocol::llamacpp ? context - 1 - context / 2
                                                                           : context - 1;
        const Window one = make_windows(text, row.protocol, first, 1, context, 2, 1000, "t")[0];
        CHECK(one.end_scored - one.first_scored == a_window);
      }
}

TEST_CASE("lmeval: disjoint windows with one token of context, the last one full again", "[lmeval]") {
  const auto windows = document_windows(tokens, 4, 2);  // 11 tokens, 10 ... 20
  REQUIRE(windows.size() == 3);
  CHECK(windows[0].input == Ids{2, 10, 11, 12});
  CHECK(windows[0].target == Ids{10, 11, 12, 13});
  CHECK(windows[1].input == Ids{13, 14, 15, 16});
  CHECK(windows[1].target == Ids{14, 15, 16, 17});
  CHECK(windows[2].input == Ids{16, 17, 18, 19});
  CHECK(windows[2].target == Ids{17, 18, 19, 20});
  CHECK(windows[2].first_scored == 1);
  CHECK(windows[2].end_scored == 4);
  const auto brief = document_windows(std::span(tokens).first(3), 4, 2);
  REQUIRE(brief.size() == 1);
  CHECK(brief[0].input == Ids{2, 10, 11});
  CHECK(brief[0].target == Ids{10, 11, 12});
  CHECK(document_windows({}, 4, 2).empty());
  for (std::int64_t n = 0; n < 60; ++n)
    for (std::int64_t context = 1; context < 40; ++context) {
      Ids text, scored;
      for (std::int64_t i = 0; i < n; ++i) text.push_back(static_cast<std::int32_t>(100 + i));
      const auto all = document_windows(text, context, 2);
      CAPTURE(n, context);
      CHECK(static_cast<std::int64_t>(all.size()) == document_window_count(n, context));
      for (const Window& w : all) {
        REQUIRE(w.input.size() == static_cast<std::size_t>(std::min(n, context)));
        for (std::int64_t i = w.first_scored; i < w.end_scored; ++i) {
          const std::int32_t target = w.target[static_cast<std::size_t>(i)], read = w.input[static_cast<std::size_t>(i)];
          CHECK(read == (target == 100 ? 2 : target - 1));
          scored.push_back(target);
        }
      }
      CHECK(scored == text);
    }
}

TEST_CASE("protocols: names, contexts, spellings") {
  for (const ProtocolTraits& row : protocols()) CHECK(parse_protocol(to_string(row.protocol)) == row.protocol);
  for (const Protocol protocol : {Protocol::window, Protocol::lmeval, Protocol::mlm, Protocol::hidden}) {
    CHECK(standard_context(protocol, 4096) == 4096);
    CHECK(standard_context(protocol, 1) == 1);
  }
  CHECK(standard_context(Protocol::outlier_free, 256) == 256);
  CHECK(standard_context(Protocol::gptq, 4096) == 2048);
  CHECK(standard_context(Protocol::gptq, 256) == 256);
  CHECK(standard_context(Protocol::llamacpp, 256) == 512);  // the caller refuses it: llama.cpp's numbers are those of 512
  CHECK(standard_context(Protocol::outlier_free, 2048) == 512);
  CHECK(spelling(Protocol::gptq, {8, false}) == "gptq");
  CHECK(spelling(Protocol::outlier_free, {4, false}) == "outlier_free/batch=4");
  CHECK(spelling(Protocol::gptq, {8, true}) == "gptq/detokenize=wikitext");
  CHECK(current_spelling("llamacpp-512") == "llamacpp");
  CHECK(current_spelling("window") == "window");
}

TEST_CASE("protocols: what is read as one text, with special tokens, in windows of one length, and how short they may be") {
  struct Expected {
    Protocol protocol;
    bool joined, special_tokens, one_length;
    std::int64_t least_context;
  };
  for (const Expected& e : std::vector<Expected>{{Protocol::window, false, false, true, 1},
                                                 {Protocol::gptq, true, true, true, 2},
                                                 {Protocol::llamacpp, true, true, true, 3},
                                                 {Protocol::outlier_free, false, true, true, 2},
                                                 {Protocol::lmeval, false, false, false, 1},
                                                 {Protocol::mlm, false, false, false, 1},
                                                 {Protocol::hidden, false, false, true, 1}}) {
    const ProtocolTraits& row = traits(e.protocol);
    CAPTURE(row.name);
    CHECK(row.joined == e.joined);
    CHECK(row.special_tokens == e.special_tokens);
    CHECK(row.one_length == e.one_length);
    CHECK(row.least_context == e.least_context);
  }
  CHECK(failure_of([] { parse_protocol("windows"); }).code == 5);
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
