// The regular expressions under tokenizers and documents: places, groups, what is too much work, and UTF-8.
#include "eval/data/unicode_regex.h"

#include <catch2/catch_test_macros.hpp>

#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;

TEST_CASE("a match has its bytes, and those of its first group", "[regex]") {
  const UnicodeRegex regex("x(\\p{L}+)?|(-)");
  const auto found = regex.find("a xäb x", 2);
  REQUIRE(found);
  CHECK(found->begin == 2);
  CHECK(found->end == 6);
  CHECK(found->group_begin == 3);
  CHECK(found->group_end == 6);
  const auto alone = regex.find("a xäb x", 6);
  REQUIRE(alone);
  CHECK(alone->begin == 7);
  CHECK(alone->end == 8);
  CHECK(alone->group_begin == 0);
  CHECK(alone->group_end == 0);
  const auto second = regex.find("--", 1);  // the first group took no part, the second did
  REQUIRE(second);
  CHECK(second->begin == 1);
  CHECK(second->group_begin == 0);
  CHECK(second->group_end == 0);
  CHECK_FALSE(regex.find("a xäb x", 8));
  CHECK_FALSE(regex.find("", 0));
  const auto empty = UnicodeRegex("b*").find("ab", 0);
  REQUIRE(empty);
  CHECK(empty->begin == 0);
  CHECK(empty->end == 0);
  CHECK(UnicodeRegex("ab").find("zab", 0)->begin == 1);  // a pattern without groups
  const UnicodeRegex start("^a");
  REQUIRE(start.find("aa", 0));
  CHECK(start.find("aa", 0)->end == 1);
  CHECK_FALSE(start.find("aa", 1));  // what is before `from` counts
}

TEST_CASE("a pattern that is none is refused with its byte", "[regex]") {
  const Failure failure = failure_of([] { UnicodeRegex("ab(c"); });
  CHECK(failure.code == 3);
  CHECK(failure.message == "\"ab(c\" isn't a regular expression: missing closing parenthesis at byte 4");
  const std::string longer = "(" + std::string(300, 'a');
  CHECK(failure_of([&] {
          UnicodeRegex{longer};
        }).message.starts_with("\"(" + std::string(199, 'a') + "\" isn't a regular expression: "));
}

TEST_CASE("a search that would take hours is given up, one that needs much memory is made", "[regex]") {
  const UnicodeRegex hours("(a+)+b");
  const std::string text = "x" + std::string(60, 'a') + "cb";
  const Failure failure = failure_of([&] { (void)hours.find(text, 1); });
  CHECK(failure.code == 3);
  CHECK(failure.message == "the text from byte 1 on can't be searched: match limit exceeded");
  // Thousands of steps for every byte are made.
  CHECK_FALSE(hours.find(std::string(14, 'a') + "cb", 0));
  const std::string letters(400'000, 'a');
  const auto found = UnicodeRegex("(?:a|(b))*").find(letters, 0);  // a step back is kept for every letter
  REQUIRE(found);
  CHECK(found->end == letters.size());
  const std::string many(1'320'000, 'a');  // for these it would be about 384 MiB
  const Failure memory = failure_of([&] { (void)UnicodeRegex("(?:a|(b))*").find(many, 0); });
  CHECK(memory.code == 3);
  CHECK(memory.message == "the text from byte 0 on can't be searched: heap limit exceeded");
}

TEST_CASE("the first byte that isn't UTF-8", "[regex]") {
  CHECK_FALSE(invalid_utf8(""));
  CHECK_FALSE(invalid_utf8(std::string("a\0ä\xf4\x8f\xbf\xbf", 8)));
  CHECK(invalid_utf8("\xff") == 0U);
  CHECK(invalid_utf8("ab\xc3") == 2U);
  CHECK(invalid_utf8("ä\xed\xa0\x80") == 2U);
  const Failure failure = failure_of([] { require_utf8("abc\x80", "a.txt"); });
  CHECK(failure.code == 3);
  CHECK(failure.message == "a.txt: byte 3 isn't UTF-8");
  CHECK(failure_of([] { require_utf8("abc", "a.txt"); }).code == 0);
}
