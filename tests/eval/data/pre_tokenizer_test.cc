// The stages of a pre_tokenizer: the words they make, which keys they know, and how many there may be.
#include "eval/data/pre_tokenizer.h"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;
using nlohmann::json;
using Words = std::vector<std::string>;

namespace {

const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};

json split(const std::string& pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
}
json sequence(const json& stages) { return {{"type", "Sequence"}, {"pretokenizers", stages}}; }

Words words(const json& pre_tokenizer, const std::string& text) {
  return PreTokenizer::read(SortedJsonCursor(pre_tokenizer, "t")).words(text);
}
/// Message without the file's name; "" when it is read.
std::string refused(const json& pre_tokenizer) {
  const Failure failure = failure_of([&] { PreTokenizer::read(SortedJsonCursor(pre_tokenizer, "t")); });
  CHECK(failure.code == (failure.message.empty() ? 0 : 3));
  return replaced(failure.message, "t: ", "");
}

}  // namespace

TEST_CASE("an empty match splits before every character, of whatever length", "[pre_tokenizer]") {
  // Oniguruma finds one at every character's beginning; the bytes within one are no place to begin.
  for (const char* letter : {"b", "ä", "å", "€", "ἁ", "😀", "😁"}) {
    CAPTURE(letter);
    CHECK(words(sequence({split("x*"), bytes}), std::string("a") + letter + "c") == Words{"a", letter, "c"});
    CHECK(words(sequence({split("x*"), bytes}), letter + std::string(letter)) == Words{letter, letter});
  }
  CHECK(words(sequence({split("x*"), bytes}), "axxåxb") == Words{"a", "xx", "å", "x", "b"});
  CHECK(words(sequence({split("(?=å)"), bytes}), "åaå") == Words{"åa", "å"});
}

TEST_CASE("ByteLevel splits by GPT-2's pattern unless told not to, and adds its space unless told not to",
          "[pre_tokenizer]") {
  const std::string text = "it's 12 o'clock  x";
  const Words gpt2{" it", "'s", " 12", " o", "'", "clock", " ", " x"};
  CHECK(words({{"type", "ByteLevel"}}, text) == gpt2);
  CHECK(words({{"type", "ByteLevel"}, {"use_regex", true}}, text) == gpt2);
  CHECK(words({{"type", "ByteLevel"}, {"use_regex", false}}, text) == Words{" " + text});
  CHECK(words(bytes, text) == Words{text});
  CHECK(words(bytes, "").empty());
  CHECK(words({{"type", "ByteLevel"}}, " it") == Words{" it"});  // it has one
}

TEST_CASE("Digits are words in runs, or each alone", "[pre_tokenizer]") {
  json digits = {{"type", "Digits"}};
  CHECK(words(sequence({digits, bytes}), "a12b3") == Words{"a", "12", "b", "3"});
  digits["individual_digits"] = true;
  CHECK(words(sequence({digits, bytes}), "a12b3") == Words{"a", "1", "2", "b", "3"});
}

TEST_CASE("a stage's keys are all known", "[pre_tokenizer]") {
  const auto with = [](json stage) {
    stage["surprise"] = 1;
    return stage;
  };
  const std::string unknown = "surprise\": isn't a key that qfid knows";
  CHECK(refused(with({{"type", "ByteLevel"}})) == "\"" + unknown);
  CHECK(refused(with(sequence({bytes}))) == "\"" + unknown);
  CHECK(refused(sequence({with(split("a")), bytes})) == "\"pretokenizers[0]." + unknown);
  CHECK(refused(sequence({with({{"type", "Digits"}}), bytes})) == "\"pretokenizers[0]." + unknown);
}

TEST_CASE("sixteen stages and no more, wherever they stand; ByteLevel is the last", "[pre_tokenizer]") {
  const auto stages = [](std::size_t n) {
    json all(n - 1, split("a"));
    all.push_back(bytes);
    return all;
  };
  CHECK(refused(sequence(stages(16))).empty());
  CHECK(refused(sequence(stages(17))) == "\"pretokenizers[16]\": is one stage too many: expected at most 16");
  CHECK(refused(sequence(json::array({sequence(json(8, split("a"))), sequence(stages(9))}))) ==
        "\"pretokenizers[1].pretokenizers[8]\": is one stage too many: expected at most 16");
  CHECK(refused(sequence({bytes, split("a")})) ==
        "\"pretokenizers[1]\": comes after ByteLevel, which must be the last stage");
}
