#include "eval/data/corpus.h"

#include "eval/data/npy.h"
#include "eval/data/tokenizer.h"
#include "eval/data/windows.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

std::string joined(const std::vector<std::string>& documents, std::string_view between) {
  std::string all;
  for (const std::string& document : documents) {
    if (&document != &documents.front()) all += between;
    all += document;
  }
  return all;
}

}  // namespace

Corpus read_token_corpus(const std::filesystem::path& path) { return {path.string(), read_tokens(path), {}}; }

Corpus read_hidden_corpus(const std::filesystem::path& path) {
  TokenRows ids = read_tokens_or_rows(path);
  return {path.string(), std::move(ids.tokens), {}, ids.row};
}

Corpus read_masked_corpus(const std::filesystem::path& inputs, const std::filesystem::path& targets) {
  TokenRows ids = read_token_rows(inputs), wanted = read_token_rows(targets, no_target);
  if (ids.rows != wanted.rows || ids.row != wanted.row)
    throw quant::Error(quant::ErrorKind::input, targets.string() + ": targets [" + std::to_string(wanted.rows) + ", " +
                                                    std::to_string(wanted.row) + "], expected those of the tokens in " +
                                                    inputs.string() + ", [" + std::to_string(ids.rows) + ", " +
                                                    std::to_string(ids.row) + "]");
  return {inputs.string(), std::move(ids.tokens), {}, ids.row, targets.string(), std::move(wanted.tokens)};
}

Corpus make_backcopy_corpus(const BackcopySource& source) {
  Corpus corpus{"bigram-backcopy of " + source.tables.string(), {}, {}};
  corpus.backcopy = std::make_shared<const BackcopyTask>(BackcopyTask::read(source.tables));
  corpus.sequence = source.length;
  corpus.tokens = corpus.backcopy->sequences(static_cast<std::uint64_t>(source.seed), source.sequences, source.length);
  return corpus;
}

Corpus read_text_corpus(const TextSource& source, Protocol protocol) {
  const Tokenizer tokenizer = Tokenizer::read(source.tokenizer);
  const ProtocolTraits& how = traits(protocol);
  Corpus corpus{source.text.string(), {}, {}};
  std::vector<std::string> documents = read_documents(source.text, source.documents);
  const auto encode = [&](const std::string& document) {
    return tokenizer.encode(source.detokenize ? wikitext_detokenized(document) : document, how.special_tokens, corpus.path);
  };
  if (how.joined) {
    corpus.tokens = encode(joined(documents, "\n\n"));
  } else {
    for (const std::string& document : documents) {
      const std::vector<std::int32_t> tokens = encode(document);
      corpus.documents.push_back({static_cast<std::int64_t>(corpus.tokens.size()), static_cast<std::int64_t>(tokens.size()),
                                  count_words(document), static_cast<std::int64_t>(document.size())});
      corpus.tokens.insert(corpus.tokens.end(), tokens.begin(), tokens.end());
    }
  }
  if (corpus.tokens.empty()) throw quant::Error(quant::ErrorKind::input, corpus.path + ": no tokens come of this text");
  return corpus;
}

}  // namespace qfid::eval
