// Hugging Face's tokenizer.json for byte-level BPE: GPT-2, OPT, Llama 3 and their like. Text to tokens; the way back isn't
// needed here. What the file asks for and this reader lacks is refused by name, never approximated: normalizers, other
// models and pre-tokenizers, post-processors but a template of special tokens around one text. `decoder`, `truncation` and
// `padding` don't touch what a text's tokens are: an evaluation cuts its own windows.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "eval/data/added_tokens.h"
#include "eval/data/bpe.h"
#include "eval/data/pre_tokenizer.h"
#include "quant/core/input_file.h"

namespace qfid::eval {

class Tokenizer {
 public:
  /// Error{input} "FILE: what", naming the key.
  static Tokenizer read(const quant::FileContent& file);

  /// Tokens of UTF-8 text (Error{input} "NAME: byte N isn't UTF-8"), with the post-processor's special tokens around them
  /// or not. Special tokens written in the text are tokens either way. One call at a time.
  std::vector<std::int32_t> encode(std::string_view text, bool special_tokens, const std::string& name) const;

  /// One more than the largest token.
  std::int64_t vocabulary() const { return vocabulary_; }

 private:
  Tokenizer(PreTokenizer pre_tokenizer, AddedTokens added, BytePairEncoder encoder)
      : pre_tokenizer_(std::move(pre_tokenizer)), added_(std::move(added)), encoder_(std::move(encoder)) {}
  void read_post_processor(const SortedJsonCursor& at);
  void read_template(const SortedJsonCursor& at);

  PreTokenizer pre_tokenizer_;
  AddedTokens added_;
  BytePairEncoder encoder_;
  std::vector<std::int32_t> before_, after_;  ///< special tokens around a text
  std::int64_t vocabulary_ = 0;
  mutable std::unordered_map<std::string, std::vector<std::int32_t>> seen_;  ///< frequent words, encoded once
};

}  // namespace qfid::eval
