// Text into words, as the pre_tokenizer of a tokenizer.json says: ByteLevel, Split by a regular expression, Digits, and
// sequences of them. Anything else, and every unknown key, is refused by name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "eval/data/unicode_regex.h"
#include "eval/json/json_cursor.h"

namespace qfid::eval {

class PreTokenizer {
 public:
  /// At "pre_tokenizer". Error{input}; a ByteLevel stage is needed, since words are merged as bytes.
  static PreTokenizer read(const SortedJsonCursor& at);

  /// Words of a text without special tokens, in order; the text may gain spaces before its parts (add_prefix_space).
  std::vector<std::string> words(std::string_view text) const;

 private:
  struct Stage {
    bool prefix_space = false;
    std::vector<UnicodeRegex> split;  ///< one or none
    bool matches_only = false;        ///< what lies between matches is dropped
  };
  void read_stage(const SortedJsonCursor& at);

  std::vector<Stage> stages_;
  bool byte_level_ = false;
};

/// Error{input} "FILE: "KEY" isn't supported" for a key of a map that isn't among `known`.
void require_known_keys(const SortedJsonCursor& at, const std::vector<std::string_view>& known);

}  // namespace qfid::eval
