// YAML as a tree: what text is, where a mistake is, and how a tree is written again.
#include "eval/experiment/yaml_tree.h"

#include <catch2/catch_test_macros.hpp>
#include <string>

using namespace qfid::eval;

namespace {

/// "LINE:COLUMN: message", or "".
std::string problem_of(const std::string& text) {
  try {
    parse_yaml(text);
  } catch (const YamlProblem& problem) {
    return std::to_string(problem.at.line) + ":" + std::to_string(problem.at.column) + ": " + problem.message;
  }
  return "";
}

}  // namespace

TEST_CASE("every length of UTF-8 is text, and every way not to be is refused at its place", "[yaml]") {
  for (const char* word : {"\x7e", "\xc2\xa1", "\xc3\xa4", "\xdf\xbf", "\xe0\xa4\x85", "\xe2\x82\xac", "\xef\xbc\xa1",
                           "\xf0\x9f\x98\x80", "\xf3\xa0\x84\x80"}) {
    const std::string text = std::string("a: \"x") + word + "y\"\n";
    CAPTURE(text);
    CHECK(problem_of(text).empty());
    CHECK(parse_yaml(text).find("a")->text == std::string("x") + word + "y");
  }
  for (const char* bad : {"\x80", "\x80\x80\x80\x80", "\xbf\x80", "\xc0\x80", "\xc1\x81\x81\x81", "\xc3", "\xc3(",
                          "\xe2\x82", "\xe2\x82(", "\xf0\x9f\x98", "\xf0\x9f\x98(", "\xf5\x80\x80\x80", "\xff"}) {
    CAPTURE(std::string(bad));
    CHECK(problem_of(std::string("a: ") + bad + "\nb: 1\n") == "1:4: invalid UTF-8");
  }
  CHECK(problem_of("\xff") == "1:1: invalid UTF-8");
  CHECK(problem_of("\n\xff\n") == "2:1: invalid UTF-8");
  CHECK(problem_of("a: 1\n\xff\nb: 2\n") == "2:1: invalid UTF-8");
  CHECK(problem_of("a: 1\nbc: \xff\nb: 2\n") == "2:5: invalid UTF-8");
}

TEST_CASE("an escape that yaml-cpp makes no text of is refused", "[yaml]") {
  const std::string wanted = "1:4: an escape (\\N or \\_) that isn't text here, write the character itself";
  for (const char* escape : {"\\N", "\\_", "a\\_b", "\\0\\_"}) {
    CAPTURE(std::string(escape));
    CHECK(problem_of(std::string("a: \"") + escape + "\"\n") == wanted);
  }
  CHECK(problem_of("a: \"\\u00a0\\x41\\L\\P\\e\\t\\0\"\n").empty());
}

TEST_CASE("anchors and tags are refused on whatever they stand", "[yaml]") {
  for (const char* value : {"", " x", " [1]", " {b: 1}"}) {
    CHECK(problem_of(std::string("a: &n") + value) == "1:4: anchors are not supported, write the value out");
    const std::string tagged = problem_of(std::string("a: !t") + value);
    CHECK(tagged.ends_with("tags are not supported, found !t"));
  }
  CHECK(problem_of("a: !!seq [1]") == "1:4: tags are not supported, found tag:yaml.org,2002:seq");
  CHECK(problem_of("a: !!map {b: 1}") == "1:4: tags are not supported, found tag:yaml.org,2002:map");
}

TEST_CASE("a tree is written so that it reads the same: quotes where they are needed, lists and maps in blocks", "[yaml]") {
  const auto written = [](const std::string& text) { return write_yaml(parse_yaml(text)); };
  CHECK(written("a: 1\nb: [x, [y, z], {k: 1, l: {m: 2}}, [], {}]\nc: {}\nd: []\ne:\n") ==
        "a: 1\n"
        "b:\n"
        "  - x\n"
        "  -\n"
        "    - y\n"
        "    - z\n"
        "  - k: 1\n"
        "    l:\n"
        "      m: 2\n"
        "  - []\n"
        "  - {}\n"
        "c: {}\n"
        "d: []\n"
        "e:\n");
  const auto scalar = [&](const std::string& yaml) {
    const std::string text = written("k: " + yaml + "\n");
    CHECK(parse_yaml(text).find("k")->text == parse_yaml("k: " + yaml + "\n").find("k")->text);
    return text.substr(3, text.size() - 4);
  };
  for (const char* plain : {"a", "0.5", "int8/token", "q-1_(x)", "b*", "1e-3", "a=b"}) CHECK(scalar(plain) == plain);
  CHECK(scalar("\"1\"") == "\"1\"");
  CHECK(scalar("'x y'") == "\"x y\"");
  CHECK(scalar("x y") == "\"x y\"");
  CHECK(scalar("''") == "\"\"");
  CHECK(scalar("a:b") == "\"a:b\"");
  CHECK(scalar("'*a'") == "\"*a\"");
  CHECK(scalar("'-'") == "\"-\"");
  CHECK(scalar("'...'") == "\"...\"");
  CHECK(scalar("'--- a'") == "\"--- a\"");
  CHECK(scalar("\"a\\\\b\\\"c\\n\\x1f \"") == "\"a\\\\b\\\"c\\x0a\\x1f \"");
  CHECK(write_yaml(parse_yaml("x")) == " x\n");
}
