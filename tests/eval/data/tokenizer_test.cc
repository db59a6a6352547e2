// Tokens as Hugging Face's tokenizers give them (tokenizer_vectors.json, made by tokenizer_vectors.py), merges by hand, and
// what is refused, by name.
#include "eval/data/tokenizer.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "eval/data/added_tokens.h"
#include "eval/data/bpe.h"
#include "eval/data/split_pattern.h"
#include "quant/core/random.h"
#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;
using nlohmann::json;
using Ids = std::vector<std::int32_t>;

namespace {

const std::string source = QFID_SOURCE_DIR;

json tiny() { return json::parse(read_file(source + "/configs/data/tiny-tokenizer.json")); }

Tokenizer tokenizer_of(const json& file) {
  const TemporaryDirectory dir;
  return Tokenizer::read(dir.write("tokenizer.json", file.dump()));
}

Tokenizer patched(const json& patch) {
  json file = tiny();
  file.merge_patch(patch);
  return tokenizer_of(file);
}

/// Message without the file's name.
std::string refused(const json& file) {
  const TemporaryDirectory dir;
  const auto path = dir.write("tokenizer.json", file.dump());
  const Failure failure = failure_of([&] { Tokenizer::read(path); });
  CHECK(failure.code == 3);
  CHECK(failure.message.starts_with(path.string() + ": "));
  return replaced(failure.message, path.string() + ": ", "");
}
std::string refused_with(const json& patch) {
  json file = tiny();
  file.merge_patch(patch);
  return refused(file);
}

json split_by(const std::string& pattern) {
  return {{"pre_tokenizer",
           {{"type", "Sequence"},
            {"add_prefix_space", nullptr},
            {"trim_offsets", nullptr},
            {"use_regex", nullptr},
            {"pretokenizers",
             {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
              {{"type", "ByteLevel"}, {"use_regex", false}}}}}}};
}

}  // namespace

TEST_CASE("the tokens of Hugging Face's tokenizers, every variant and text", "[tokenizer]") {
  const json vectors = json::parse(read_file(source + "/tests/eval/data/tokenizer_vectors.json"));
  std::size_t compared = 0;
  for (const json& variant : vectors["variants"]) {
    const Tokenizer tokenizer = patched(variant["patch"]);
    CHECK(tokenizer.encode("x", true, "t") == variant["with_special_tokens"].get<Ids>());
    REQUIRE(variant["ids"].size() == vectors["texts"].size());
    for (const bool again : {false, true})  // the second time from what it has seen
      for (std::size_t i = 0; i < vectors["texts"].size(); ++i) {
        CAPTURE(variant["name"].get<std::string>(), i, vectors["texts"][i].dump(), again);
        CHECK(tokenizer.encode(vectors["texts"][i].get<std::string>(), false, "t") == variant["ids"][i].get<Ids>());
        ++compared;
      }
  }
  CHECK(compared > 1000);
}

TEST_CASE("every byte has a token and comes back", "[tokenizer]") {
  const json file = tiny();
  std::vector<std::string> text_of(2048);
  for (const auto& [text, id] : file["model"]["vocab"].items()) text_of[id.get<std::size_t>()] = text;
  const Tokenizer tokenizer = tokenizer_of(file);
  CHECK(tokenizer.vocabulary() == 2048);
  qfid::quant::Random random(7);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    const auto length = random.bits() % 200;
    for (std::uint64_t i = 0; i < length; ++i) {  // any character below U+0800, most of them no letters
      const auto c = static_cast<std::uint32_t>(random.bits() % (random.bits() % 2 == 0 ? 0x80 : 0x800));
      if (c < 0x80) {
        text += static_cast<char>(c);
      } else {
        text += static_cast<char>(0xC0 | c >> 6);
        text += static_cast<char>(0x80 | (c & 0x3F));
      }
    }
    std::string back, bytes;
    for (const std::int32_t token : tokenizer.encode(text, false, "t")) {
      REQUIRE(bytes_of_letters(text_of[static_cast<std::size_t>(token)], bytes));
      back += bytes;
    }
    CHECK(back == text);
  }
}

TEST_CASE("merges by hand: the lowest rank first, of equals the leftmost", "[tokenizer]") {
  std::array<std::int32_t, 256> bytes{};
  for (std::int32_t b = 0; b < 256; ++b) bytes[static_cast<std::size_t>(b)] = b;
  BytePairEncoder encoder(bytes);
  encoder.add_merge({'b', 'c'}, 300);
  encoder.add_merge({'a', 'b'}, 301);
  encoder.add_merge({'a', 'a'}, 302);
  encoder.add_merge({'a', 300}, 303);
  encoder.add_merge({302, 302}, 304);
  const auto tokens = [&](const std::string& word) {
    Ids ids;
    encoder.encode(word, ids);
    return ids;
  };
  CHECK(tokens("") == Ids{});
  CHECK(tokens("abc") == Ids{303});  // bc before ab, then a(bc)
  CHECK(tokens("ab") == Ids{301});
  CHECK(tokens("aaa") == Ids{302, 'a'});
  CHECK(tokens("aaaa") == Ids{304});
  CHECK(tokens("aaab") == Ids{302, 301});              // ab goes before aa
  CHECK(tokens("xaabcx") == Ids{'x', 302, 300, 'x'});  // bc, then aa before a(bc)
  encoder.add_whole("aaab", 400);
  CHECK(tokens("aaab") == Ids{400});
  CHECK(tokens("aaabc") != Ids{400, 'c'});
  std::string word(200'000, 'a');  // far from quadratic
  CHECK(tokens(word).size() == 50'000);
}

TEST_CASE("text that isn't UTF-8 is refused with its byte", "[tokenizer]") {
  const Tokenizer tokenizer = tokenizer_of(tiny());
  const auto said = [&](const std::string& text) {
    const Failure failure = failure_of([&] { tokenizer.encode(text, false, "a.txt"); });
    CHECK(failure.code == 3);
    return failure.message;
  };
  CHECK(said("ab\xff") == "a.txt: byte 2 isn't UTF-8");
  CHECK(said("\xc3") == "a.txt: byte 0 isn't UTF-8");
  CHECK(said("abc\xed\xa0\x80") == "a.txt: byte 3 isn't UTF-8");  // half of a surrogate pair
  CHECK(said("\xf4\x90\x80\x80") == "a.txt: byte 0 isn't UTF-8");
  CHECK(said("ok \xc0\xaf") == "a.txt: byte 3 isn't UTF-8");
}

TEST_CASE("what a tokenizer.json asks for and isn't supported is named", "[tokenizer]") {
  CHECK(refused_with({{"normalizer", {{"type", "NFC"}}}}) == "\"normalizer\": NFC isn't supported");
  CHECK(refused_with({{"surprise", 1}}) == "\"surprise\": isn't a key that qfid knows");
  CHECK(refused_with({{"model", {{"type", "Unigram"}}}}) == "\"model.type\" is \"Unigram\", expected BPE");
  CHECK(refused_with({{"model", {{"dropout", 0.1}}}}) == "\"model.dropout\": isn't supported: the tokens would be random");
  CHECK(refused_with({{"model", {{"byte_fallback", true}}}}) == "\"model.byte_fallback\": isn't supported");
  CHECK(refused_with({{"model", {{"end_of_word_suffix", "</w>"}}}}) == "\"model.end_of_word_suffix\": isn't supported");
  CHECK(refused_with({{"model", {{"vocab", {{"Ā", nullptr}}}}}}) ==
        "\"model.vocab\": lacks byte 0: expected a letter for each of the 256 bytes");
  CHECK(refused_with({{"model", {{"vocab", {{"a", -1}}}}}}) ==
        "\"model.vocab.a\" is -1, expected a whole number, 0..2147483647");
  CHECK(refused_with({{"model", {{"merges", {"a b c"}}}}}) ==
        "\"model.merges[0]\" is \"a b c\", expected two tokens with a space between");
  CHECK(refused_with({{"model", {{"merges", {"a ~q"}}}}}) == "\"model.merges[0]\": \"~q\" isn't in the vocabulary");
  CHECK(refused_with({{"model", {{"merges", json::array({json::array({"q", "~", "x"})})}}}}) ==
        "\"model.merges[0]\" is a list, expected two tokens");
  CHECK(refused_with({{"model", {{"merges", {"q ~"}}}}}) == "\"model.merges[0]\": \"q~\" isn't in the vocabulary");
  CHECK(refused_with({{"model", nullptr}}) == "missing key \"model\"");
  CHECK(refused_with({{"pre_tokenizer", nullptr}}) == "missing key \"pre_tokenizer\"");
  CHECK(refused_with({{"pre_tokenizer", {{"type", "Whitespace"}}}}) ==
        "\"pre_tokenizer.type\" is \"Whitespace\", expected one of ByteLevel, Split, Digits, Sequence");
  CHECK(refused_with(
            {{"pre_tokenizer",
              {{"type", "Digits"}, {"add_prefix_space", nullptr}, {"trim_offsets", nullptr}, {"use_regex", nullptr}}}}) ==
        "\"pre_tokenizer\": has no stage ByteLevel: only byte-level tokenizers are supported");
  CHECK(refused_with({{"post_processor", {{"type", "BertProcessing"}}}}) ==
        "\"post_processor.type\" is \"BertProcessing\", expected one of TemplateProcessing, ByteLevel, Sequence");
  json words = tiny();
  words["added_tokens"][1]["lstrip"] = true;
  CHECK(refused(words) == "\"added_tokens[1].lstrip\": true isn't supported");
  json moved = tiny();
  moved["added_tokens"][1]["id"] = 7;
  CHECK(refused(moved) == "\"added_tokens\": \"<pad>\" is token 7, and 1 in the vocabulary");
  const TemporaryDirectory dir;
  const auto broken = dir.write("tokenizer.json", "{\"model\": ");
  CHECK(failure_of([&] { Tokenizer::read(broken); }).message == broken.string() + ": byte 10: not valid JSON");
  CHECK(failure_of([&] { Tokenizer::read(dir.path() / "none.json"); }).code == 3);
}

TEST_CASE("patterns that Oniguruma and PCRE2 read differently are refused", "[tokenizer]") {
  const auto where = [](const std::string& what) {
    return "\"pre_tokenizer.pretokenizers[0].pattern.Regex\": " + what + " isn't supported in a pattern";
  };
  CHECK(refused_with(split_by("\\w+")) == where("\\w"));
  CHECK(refused_with(split_by("\\bx")) == where("\\b"));
  CHECK(refused_with(split_by("[\\h]")) == where("\\h"));
  CHECK(refused_with(split_by("\\p{Han}+")) == where("\\p{Han}"));
  CHECK(refused_with(split_by("\\pL")) == where("\\pL"));
  CHECK(refused_with(split_by("[a[bc]]")) == where("a set in a set"));
  CHECK(refused_with(split_by("[a-z&&[^b]]")) == where("&& in a set"));
  CHECK(refused_with(split_by("(?<=a)b")) == where("(?<="));
  CHECK(refused_with(split_by("(?m:a)")) == where("(?m:"));
  CHECK(refused_with(split_by("a(*ACCEPT)b")) == where("(*ACCEPT)b"));
  CHECK(refused_with(split_by("a{1,3}+")) == where("{1,3}+"));
  CHECK(refused_with(split_by("a{,3}")) == where("{,3}"));
  CHECK(refused_with(split_by("^a")) == where("^"));
  CHECK(refused_with(split_by("a.b")) == where("."));
  CHECK(refused_with(split_by("a\\")) == where("an unfinished part"));
  CHECK(refused_with(split_by("[a")) == where("an unfinished part"));
  CHECK(refused_with(split_by("a)")) ==
        "\"pre_tokenizer.pretokenizers[0].pattern.Regex\": \"a)\" isn't a regular expression: unmatched closing parenthesis "
        "at byte 1");
  CHECK(pcre2_pattern("[^\\s\\p{L}]\\d{1,3}(?i:'S)\\.") == "[^\\p{White_Space}\\p{L}]\\p{Nd}{1,3}(?i:'S)\\.");
}

TEST_CASE("what a pattern may escape, and how much of a long one is named", "[tokenizer]") {
  for (const char c : std::string("019azAZ"))
    CHECK(failure_of([&] { pcre2_pattern(std::string("\\") + c); }).message ==
          std::string("\\") + c + " isn't supported in a pattern");
  for (const char c : std::string("rntf./:@[`{~-!")) CHECK(pcre2_pattern(std::string("\\") + c) == std::string("\\") + c);
  CHECK(pcre2_pattern("\\ä") == "\\ä");
  CHECK(failure_of([] { pcre2_pattern("a{" + std::string(30, 'x') + "}"); }).message ==
        "{" + std::string(20, 'x') + "} isn't supported in a pattern");
}

TEST_CASE("letters of bytes: all 256, and no other character", "[tokenizer]") {
  int letters = 0;
  std::string bytes;
  std::array<bool, 256> seen{};
  for (std::uint32_t c = 1; c < 0x800; ++c) {
    std::string text;
    if (c < 0x80) {
      text = static_cast<char>(c);
    } else {
      text += static_cast<char>(0xC0 | c >> 6);
      text += static_cast<char>(0x80 | (c & 0x3F));
    }
    if (!bytes_of_letters(text, bytes)) continue;
    REQUIRE(bytes.size() == 1);
    seen[static_cast<unsigned char>(bytes[0])] = true;
    ++letters;
  }
  CHECK(letters == 256);
  CHECK(std::count(seen.begin(), seen.end(), true) == 256);
  for (const char* other : {" ", "\xc4", "a\xc4", "\xe4\x81\xa1\x41", "\x80"}) CHECK_FALSE(bytes_of_letters(other, bytes));
}

TEST_CASE("added tokens: stretches of text and tokens, none of them empty", "[tokenizer]") {
  const json file = json::parse(R"([{"id": 0, "content": "<s>", "normalized": false},
                                    {"id": 7, "content": "<s>x", "normalized": false},
                                    {"id": 8, "content": "ab", "normalized": true}])");
  const AddedTokens tokens = AddedTokens::read(SortedJsonCursor(file, "t"));
  const auto parts = [&](std::string_view text) {
    std::string all;
    for (const AddedTokens::Part& part : tokens.parts(text)) {
      CHECK_FALSE(part.text.empty());
      all += "[" + std::string(part.text) + (part.token < 0 ? "" : " " + std::to_string(part.token)) + "]";
    }
    return all;
  };
  CHECK(parts("q") == "[q]");
  CHECK(parts("<s>") == "[<s> 0]");
  CHECK(parts("<s>q<s>xz<s>") == "[<s> 0][q][<s>x 7][z][<s> 0]");
  CHECK(parts("<s><s>x<s") == "[<s> 0][<s>x 7][<s]");
  CHECK(parts("abq<s>zab") == "[ab 8][q][<s> 0][z][ab 8]");
}

TEST_CASE("ignore_merges takes words that are tokens whole, and is off where it isn't named", "[tokenizer]") {
  json file = tiny();
  file["model"]["merges"] = json::array();
  std::string word;  // of three letters and more, all of them letters
  for (const auto& [text, id] : file["model"]["vocab"].items())
    if (text.size() > 3 && std::all_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; })) word = text;
  REQUIRE(!word.empty());
  const Ids whole{file["model"]["vocab"][word].get<std::int32_t>()};
  file["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  file["model"]["ignore_merges"] = true;
  CHECK(tokenizer_of(file).encode(word, false, "t") == whole);
  file["model"]["ignore_merges"] = false;
  CHECK(tokenizer_of(file).encode(word, false, "t").size() == word.size());
  file["model"].erase("ignore_merges");
  CHECK(tokenizer_of(file).encode(word, false, "t").size() == word.size());
}

TEST_CASE("templates: their tokens stand round the text, and one template is all", "[tokenizer]") {
  const auto piece = [](const char* kind, const char* id) { return json{{kind, {{"id", id}, {"type_id", 0}}}}; };
  const auto with = [&](const json& single, std::int64_t id) {
    return json{{"type", "TemplateProcessing"},
                {"single", single},
                {"pair", json::array()},
                {"special_tokens", {{"S", {{"id", "S"}, {"ids", {id}}, {"tokens", {"S"}}}}}}};
  };
  const json text = piece("Sequence", "A"), special = piece("SpecialToken", "S");
  json file = tiny();
  const auto post = [&](const json& processor) {
    file["post_processor"] = processor;
    return file;
  };
  const Ids alone = tokenizer_of(file).encode("x", false, "t");
  const Ids before = tokenizer_of(post(with({special, text}, 2047))).encode("x", true, "t");
  CHECK(before.front() == 2047);
  CHECK(Ids(before.begin() + 1, before.end()) == alone);
  CHECK(tokenizer_of(post(with({text, special}, 5))).encode("x", true, "t").back() == 5);
  CHECK(refused(post(with({special, text}, 2048))) ==
        "\"post_processor.special_tokens.S.ids[0]\" is 2048, expected a whole number, 0..2047");
  CHECK(refused(post(with({text, text}, 1))) == "\"post_processor.single[1]\": isn't supported: expected the text once");
  CHECK(refused(post(with(json::array({piece("Sequence", "B")}), 1))) ==
        "\"post_processor.single[0]\": isn't supported: expected the text once");
  CHECK(refused(post(with(json::array({special}), 1))) == "\"post_processor.single\": has no place for the text");
  const json twice = {{"type", "Sequence"}, {"processors", {with({special, text}, 1), with({special, text}, 1)}}};
  CHECK(refused(post(twice)) == "\"post_processor.processors[1]\": is a second template");
  const json behind = {{"type", "Sequence"}, {"processors", {with({text, special}, 1), with({special, text}, 1)}}};
  CHECK(refused(post(behind)) == "\"post_processor.processors[1]\": is a second template");
}

TEST_CASE("the vocabulary reaches to the last token, added ones too", "[tokenizer]") {
  json file = tiny();
  file["added_tokens"].push_back({{"id", 5000}, {"content", "<last>"}, {"normalized", false}});
  CHECK(tokenizer_of(file).vocabulary() == 5001);
}

TEST_CASE("stages of words: keys that nobody knows, and what is removed", "[tokenizer]") {
  CHECK(refused_with({{"pre_tokenizer", {{"type", "ByteLevel"}, {"surprise", 1}}}}) ==
        "\"pre_tokenizer.surprise\": isn't a key that qfid knows");
  const auto split = [](const json& pattern, const char* behavior, const json& invert) {
    json stage = {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}};
    if (!invert.is_null()) stage["invert"] = invert;
    json file = tiny();
    file["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers", {stage, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    return file;
  };
  const json letters = {{"Regex", "[a-z]"}};
  CHECK(refused(split({{"Regex", "a"}, {"String", "a"}}, "Isolated", false)) ==
        "\"pre_tokenizer.pretokenizers[0].pattern.String\": isn't a key that qfid knows");
  for (const json& invert : {json(nullptr), json(false)})
    CHECK(refused(split(letters, "Removed", invert)) ==
          "\"pre_tokenizer.pretokenizers[0].behavior\" is \"Removed\", expected Isolated, or Removed with invert: true");
  CHECK(tokenizer_of(split(letters, "Removed", true)).encode("1a2b", false, "t") ==
        tokenizer_of(split(letters, "Isolated", false)).encode("ab", false, "t"));
}
