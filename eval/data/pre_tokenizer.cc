#include "eval/data/pre_tokenizer.h"

#include <algorithm>

#include "eval/data/split_pattern.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

/// Real ones have one to four; each keeps a compiled pattern.
constexpr std::size_t most_stages = 16;

/// What ByteLevel splits by, unless told not to: GPT-2's pattern.
constexpr std::string_view gpt2_pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

bool flag(const SortedJsonCursor& at, const std::string& key, bool otherwise) {
  return at.has(key) ? at.at(key).boolean() : otherwise;
}

UnicodeRegex regex_at(const SortedJsonCursor& at) {
  const std::string pattern = at.text();
  try {
    return UnicodeRegex(pcre2_pattern(pattern));
  } catch (const quant::Error& error) { at.refuse(error.what()); }
}

}  // namespace

void require_known_keys(const SortedJsonCursor& at, const std::vector<std::string_view>& known) {
  for (const auto& [name, value] : at.entries())
    if (std::find(known.begin(), known.end(), name) == known.end()) value.refuse("isn't a key that qfid knows");
}

PreTokenizer PreTokenizer::read(const SortedJsonCursor& at) {
  PreTokenizer made;
  if (at.is_null()) at.fail("a map of type ByteLevel, or a Sequence with one");
  made.read_stage(at);
  if (!made.byte_level_) at.refuse("has no stage ByteLevel: only byte-level tokenizers are supported");
  return made;
}

void PreTokenizer::read_stage(const SortedJsonCursor& at) {
  const std::string type = at.at("type").text();
  if (byte_level_) at.refuse("comes after ByteLevel, which must be the last stage");
  Stage stage;
  if (type == "Sequence") {
    require_known_keys(at, {"type", "pretokenizers"});
    for (const SortedJsonCursor& part : at.at("pretokenizers").items()) read_stage(part);
    return;
  }
  if (type == "ByteLevel") {
    require_known_keys(at, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    stage.prefix_space = flag(at, "add_prefix_space", true);
    if (flag(at, "use_regex", true)) stage.split.emplace_back(pcre2_pattern(gpt2_pattern));
    byte_level_ = true;
  } else if (type == "Split") {
    require_known_keys(at, {"type", "pattern", "behavior", "invert"});
    require_known_keys(at.at("pattern"), {"Regex"});
    const std::string behavior = at.at("behavior").text();
    stage.matches_only = behavior == "Removed" && flag(at, "invert", false);
    if (behavior != "Isolated" && !stage.matches_only) at.at("behavior").fail("Isolated, or Removed with invert: true");
    stage.split.push_back(regex_at(at.at("pattern").at("Regex")));
  } else if (type == "Digits") {
    require_known_keys(at, {"type", "individual_digits"});
    stage.split.emplace_back(flag(at, "individual_digits", false) ? "\\p{N}" : "\\p{N}+");
  } else {
    at.at("type").fail("one of ByteLevel, Split, Digits, Sequence");
  }
  if (stages_.size() == most_stages) at.refuse("is one stage too many: expected at most " + std::to_string(most_stages));
  stages_.push_back(std::move(stage));
}

std::vector<std::string> PreTokenizer::words(std::string_view text) const {
  std::vector<std::string> words;
  if (!text.empty()) words.emplace_back(text);
  for (const Stage& stage : stages_) {
    std::vector<std::string> parts;
    for (std::string& word : words) {
      if (stage.prefix_space && !word.starts_with(' ')) word.insert(0, " ");
      if (stage.split.empty()) {
        parts.push_back(std::move(word));
        continue;
      }
      const auto add = [&](std::size_t begin, std::size_t end, bool match) {
        if (begin < end && (match || !stage.matches_only)) parts.push_back(word.substr(begin, end - begin));
      };
      std::size_t done = 0, from = 0;
      while (from < word.size()) {
        const std::optional<RegexMatch> found = stage.split[0].find(word, from);
        if (!found) break;
        add(done, found->begin, false);
        add(found->begin, found->end, true);
        done = found->end;
        from = std::max(found->end, from);
        if (found->begin == found->end)  // an empty match splits; the search goes on behind the next character
          do ++from;
          while (from < word.size() && (static_cast<unsigned char>(word[from]) & 0xC0) == 0x80);
      }
      add(done, word.size(), false);
    }
    words = std::move(parts);
  }
  return words;
}

}  // namespace qfid::eval
