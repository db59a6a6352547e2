// Strict JSON: what either reader refuses, and at which byte of the file.
#include "eval/json/json_file.h"

#include <catch2/catch_test_macros.hpp>

#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;

namespace {

/// The message of both readers, which must be the same; "" when they read it.
std::string refused(const std::string& text) {
  const Failure sorted = failure_of([&] { parse_strict_json(text, "t"); });
  const Failure ordered = failure_of([&] { parse_strict_ordered_json(text, "t"); });
  CHECK(sorted.code == (sorted.message.empty() ? 0 : 3));
  CHECK(ordered.code == sorted.code);
  CHECK(ordered.message == sorted.message);
  return sorted.message;
}

std::string nested(std::size_t levels, const std::string& open, const std::string& close) {
  std::string text = "1";
  for (std::size_t i = 0; i < levels; ++i) text.insert(0, open).append(close);
  return text;
}

}  // namespace

TEST_CASE("a mistake has its byte in the file", "[json]") {
  CHECK(refused("[1, x]") == "t: byte 4: not valid JSON");
  CHECK(refused("[1") == "t: byte 2: not valid JSON");
  CHECK(refused("[1] x") == "t: byte 4: not valid JSON");
  CHECK(refused("x") == "t: byte 0: not valid JSON");
  CHECK(refused("") == "t: byte 0: not valid JSON");
  CHECK(refused("[x") == "t: byte 1: not valid JSON");
  CHECK(refused("[\"a\xff\"]") == "t: byte 3: invalid UTF-8");
  const auto at = [](const std::string& text, std::size_t offset) {
    return failure_of([&] { parse_strict_json(text, "t", offset); }).message;
  };
  CHECK(at("", 8) == "t: byte 8: not valid JSON");
  CHECK(at("[1, x]", 8) == "t: byte 12: not valid JSON");
}

TEST_CASE("a key twice in one object is refused at any level, in two objects it isn't", "[json]") {
  CHECK(refused(R"({"a": 1, "b": 2, "a": 3})") == "t: duplicate key \"a\"");
  CHECK(refused(R"([{"a": {"b": 1, "b": 1}}])") == "t: duplicate key \"b\"");
  CHECK(refused(R"({"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]})").empty());
}

TEST_CASE("sixteen levels are read, a seventeenth is refused before anything is built", "[json]") {
  for (const auto& [open, close] : {std::pair{"[", "]"}, std::pair{R"({"a": )", "}"}}) {
    CAPTURE(open);
    CHECK(refused(nested(16, open, close)).empty());
    CHECK(refused(nested(17, open, close)) == "t: nested deeper than 16 levels");
  }
  CHECK(refused(std::string(1'000'000, '[')) == "t: nested deeper than 16 levels");
}

TEST_CASE("the ordered reader keeps the file's order of keys", "[json]") {
  CHECK(parse_strict_ordered_json(R"({"b": 1, "a": [1.5, "x", null, true]})", "t").dump() ==
        R"({"b":1,"a":[1.5,"x",null,true]})");
  CHECK(parse_strict_json(R"({"b": 1, "a": -1})", "t").dump() == R"({"a":-1,"b":1})");
}
