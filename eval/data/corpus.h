// What an evaluation reads: tokens, and for text the documents that they come from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "eval/data/backcopy.h"
#include "eval/data/documents.h"
#include "eval/data/protocol.h"

namespace qfid::eval {

/// Tokens [first_token, first_token + tokens) of a corpus are one document; words and bytes are counted in its text as it
/// stands in the file, before any detokenizing.
struct DocumentSpan {
  std::int64_t first_token = 0, tokens = 0, words = 0, bytes = 0;
};

struct Corpus {
  std::string path;  ///< for messages
  std::vector<std::int32_t> tokens;
  std::vector<DocumentSpan> documents;  ///< empty where the file holds tokens, or where they were joined before tokenizing
  std::int64_t row = 0;                 ///< of 2-D files: tokens of a row, which is a window
  std::string targets_path{};           ///< of masked-LM data alone
  std::vector<std::int32_t> targets{};  ///< likewise; as long as tokens, no_target (windows.h) where nothing was masked
  // Of bigram-backcopy alone:
  std::shared_ptr<const BackcopyTask> backcopy{};
  std::int64_t sequence = 0;  ///< tokens of a sequence, which is a window
};

struct TextSource {
  std::filesystem::path text, tokenizer;
  Documents documents = Documents::file;
  bool detokenize = false;  ///< wikitext_detokenized
};

/// A .npy file of tokens, as read_tokens.
Corpus read_token_corpus(const std::filesystem::path& path);
/// The same, or rows of 2-D; protocol hidden.
Corpus read_hidden_corpus(const std::filesystem::path& path);
/// Two 2-D .npy files of one shape [windows, tokens]: what the model reads, with its masks, and what stood there (no_target
/// where it doesn't count). Error{input}.
Corpus read_masked_corpus(const std::filesystem::path& inputs, const std::filesystem::path& targets);
struct BackcopySource {
  std::filesystem::path tables;
  std::int64_t seed = 1, sequences = 256, length = 64;
};
/// Sequences of the synthetic task (backcopy.h), one after the other. Error{input}.
Corpus make_backcopy_corpus(const BackcopySource& source);
/// Text as the protocol wants it (docs/metrics.md, "Text"): documents joined and tokenized as one, or each for itself; with
/// the tokenizer's special tokens or without. Error{input}; also where no token comes of it.
Corpus read_text_corpus(const TextSource& source, Protocol protocol);

}  // namespace qfid::eval
