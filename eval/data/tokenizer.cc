#include "eval/data/tokenizer.h"

#include <algorithm>
#include <optional>

#include "eval/json/json_file.h"

namespace qfid::eval {

namespace {

/// Words longer than this are rare, and so many short ones are all that a text repeats.
constexpr std::size_t longest_kept = 64, most_kept = 1U << 17;
/// Special tokens that a template puts around a text: a few, and a template may name each list of them again and again.
constexpr std::size_t most_around = 1024;

using Vocabulary = std::unordered_map<std::string, std::int32_t>;

Vocabulary read_vocabulary(const SortedJsonCursor& at) {
  Vocabulary tokens;
  for (const auto& [text, id] : at.entries()) tokens.emplace(text, static_cast<std::int32_t>(id.integer(0, INT32_MAX)));
  return tokens;
}

/// What other models of type BPE have and byte-level ones don't.
void require_byte_level_model(const SortedJsonCursor& at) {
  if (at.at("type").text() != "BPE") at.at("type").fail("BPE");
  require_known_keys(at, {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                          "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (at.has("dropout") && !at.at("dropout").is_null() && at.at("dropout").number() != 0)
    at.at("dropout").refuse("isn't supported: the tokens would be random");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (at.has(key) && !at.at(key).is_null() && !at.at(key).text().empty()) at.at(key).refuse("isn't supported");
  if (at.has("byte_fallback") && at.at("byte_fallback").boolean()) at.at("byte_fallback").refuse("isn't supported");
}

std::array<std::int32_t, 256> read_bytes(const SortedJsonCursor& at, const Vocabulary& vocabulary) {
  std::array<std::int32_t, 256> tokens{};
  tokens.fill(-1);
  std::string bytes;
  for (const auto& [text, id] : vocabulary)
    if (text.size() <= 2 && bytes_of_letters(text, bytes) && bytes.size() == 1)
      tokens[static_cast<unsigned char>(bytes[0])] = id;
  const auto missing = std::find(tokens.begin(), tokens.end(), -1);
  if (missing != tokens.end())
    at.refuse("lacks byte " + std::to_string(missing - tokens.begin()) + ": expected a letter for each of the 256 bytes");
  return tokens;
}

/// ["Ġ", "t"], or "Ġ t" in older files.
std::pair<std::string, std::string> pair_of(const SortedJsonCursor& at) {
  if (at.is_list()) {
    const std::vector<SortedJsonCursor> both = at.items();
    if (both.size() != 2) at.fail("two tokens");
    return {both[0].text(), both[1].text()};
  }
  const std::string text = at.text();
  const std::size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
    at.fail("two tokens with a space between");
  return {text.substr(0, space), text.substr(space + 1)};
}

BytePairEncoder read_model(const SortedJsonCursor& at, const Vocabulary& vocabulary) {
  require_byte_level_model(at);
  BytePairEncoder encoder(read_bytes(at.at("vocab"), vocabulary));
  for (const SortedJsonCursor& merge : at.at("merges").items()) {
    const auto [left, right] = pair_of(merge);
    const auto token = [&](const std::string& text) {
      const auto found = vocabulary.find(text);
      if (found == vocabulary.end()) merge.refuse("\"" + text + "\" isn't in the vocabulary");
      return found->second;
    };
    const std::int32_t first = token(left), second = token(right);
    encoder.add_merge({first, second}, token(left + right));
  }
  if (at.has("ignore_merges") && at.at("ignore_merges").boolean()) {
    std::string bytes;
    for (const auto& [text, id] : vocabulary)
      if (bytes_of_letters(text, bytes)) encoder.add_whole(bytes, id);
  }
  return encoder;
}

void require_no_normalizer(const SortedJsonCursor& root) {
  if (!root.has("normalizer") || root.at("normalizer").is_null()) return;
  const SortedJsonCursor at = root.at("normalizer");
  const std::string type = at.at("type").text();
  if (type == "Sequence" && at.at("normalizers").items().empty()) return;
  at.refuse(type + " isn't supported");
}

}  // namespace

Tokenizer Tokenizer::read(const quant::FileContent& file) {
  const std::string path = file.path().string();
  const nlohmann::json json = parse_strict_json(file.text(), path);
  const SortedJsonCursor root(json, path);
  require_known_keys(root, {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                            "post_processor", "decoder", "model"});
  require_no_normalizer(root);
  const SortedJsonCursor model = root.at("model");
  const Vocabulary vocabulary = read_vocabulary(model.at("vocab"));
  Tokenizer made(PreTokenizer::read(root.at("pre_tokenizer")), AddedTokens::read(root.at("added_tokens")),
                 read_model(model, vocabulary));
  for (const auto& [text, id] : vocabulary) made.vocabulary_ = std::max<std::int64_t>(made.vocabulary_, id + 1);
  for (const AddedTokens::Token& token : made.added_.tokens()) {
    const auto found = vocabulary.find(token.content);
    if (found != vocabulary.end() && found->second != token.id)
      root.at("added_tokens")
          .refuse("\"" + token.content + "\" is token " + std::to_string(token.id) + ", and " +
                  std::to_string(found->second) + " in the vocabulary");
    made.vocabulary_ = std::max<std::int64_t>(made.vocabulary_, token.id + 1);
  }
  if (root.has("post_processor") && !root.at("post_processor").is_null())
    made.read_post_processor(root.at("post_processor"));
  return made;
}

void Tokenizer::read_post_processor(const SortedJsonCursor& at) {
  const std::string type = at.at("type").text();
  if (type == "Sequence") {
    require_known_keys(at, {"type", "processors"});
    for (const SortedJsonCursor& part : at.at("processors").items()) read_post_processor(part);
  } else if (type == "TemplateProcessing") {
    if (!before_.empty() || !after_.empty()) at.refuse("is a second template");
    read_template(at);
  } else if (type != "ByteLevel") {  // which moves offsets only
    at.at("type").fail("one of TemplateProcessing, ByteLevel, Sequence");
  }
}

void Tokenizer::read_template(const SortedJsonCursor& at) {
  require_known_keys(at, {"type", "single", "pair", "special_tokens"});
  bool text_seen = false;
  for (const SortedJsonCursor& piece : at.at("single").items()) {
    if (piece.has("Sequence")) {
      if (text_seen || piece.at("Sequence").at("id").text() != "A") piece.refuse("isn't supported: expected the text once");
      text_seen = true;
      continue;
    }
    const std::string name = piece.at("SpecialToken").at("id").text();
    for (const SortedJsonCursor& id : at.at("special_tokens").at(name).at("ids").items())
      (text_seen ? after_ : before_).push_back(static_cast<std::int32_t>(id.integer(0, vocabulary_ - 1)));
    if (before_.size() + after_.size() > most_around)
      at.at("single").refuse("has more than " + std::to_string(most_around) + " special tokens");
  }
  if (!text_seen) at.at("single").refuse("has no place for the text");
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool special_tokens, const std::string& name) const {
  require_utf8(text, name);
  std::vector<std::int32_t> tokens;
  if (special_tokens) tokens = before_;
  for (const AddedTokens::Part& part : added_.parts(text)) {
    if (part.token >= 0) {
      tokens.push_back(part.token);
      continue;
    }
    for (const std::string& word : pre_tokenizer_.words(part.text)) {
      if (const auto found = seen_.find(word); found != seen_.end()) {
        tokens.insert(tokens.end(), found->second.begin(), found->second.end());
        continue;
      }
      const auto first = static_cast<std::ptrdiff_t>(tokens.size());
      encoder_.encode(word, tokens);
      if (word.size() <= longest_kept && seen_.size() < most_kept) seen_[word] = {tokens.begin() + first, tokens.end()};
    }
  }
  if (special_tokens) tokens.insert(tokens.end(), after_.begin(), after_.end());
  return tokens;
}

}  // namespace qfid::eval
