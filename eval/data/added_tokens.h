// Added tokens of a tokenizer.json ("</s>", "<|end_of_text|>"): found in a text before anything else, the leftmost first,
// of those that begin together the longest; first those that aren't normalized, then, in what is left, the others.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eval/json/json_cursor.h"

namespace qfid::eval {

class AddedTokens {
 public:
  struct Token {
    std::int32_t id;
    std::string content;
    bool normalized;
  };
  /// A stretch of plain text, or one token.
  struct Part {
    std::string_view text;
    std::int32_t token = -1;
  };

  /// At "added_tokens". Error{input}; single_word, lstrip and rstrip are refused by name.
  static AddedTokens read(const SortedJsonCursor& at);

  const std::vector<Token>& tokens() const { return tokens_; }
  std::vector<Part> parts(std::string_view text) const;

 private:
  std::vector<Token> tokens_;  ///< longest first
};

}  // namespace qfid::eval
