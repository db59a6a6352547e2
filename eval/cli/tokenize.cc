// qfid tokenize: text to the token file that an evaluation under a protocol would make of it.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <format>
#include <iostream>

#include "eval/cli/commands.h"
#include "eval/data/corpus.h"
#include "eval/data/npy.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

/// Two bytes a token where all of them fit, as is usual; four otherwise.
template <class T>
std::string npy_file(const char* descr, const std::vector<std::int32_t>& tokens) {
  std::string file = npy_header(descr, {static_cast<std::int64_t>(tokens.size())});
  for (const std::int32_t token : tokens) {
    const auto value = static_cast<T>(token);
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    file.append(bytes, sizeof(T));
  }
  return file;
}

}  // namespace

int command_tokenize(const TokenizeOptions& options) {
  const Corpus corpus =
      read_text_corpus({options.text, options.tokenizer, parse_documents(options.documents), options.detokenize},
                       parse_protocol(options.protocol));
  std::int32_t largest = 0;
  for (const std::int32_t token : corpus.tokens) largest = std::max(largest, token);
  write_file_atomically(options.out, largest <= UINT16_MAX ? npy_file<std::uint16_t>("'<u2'", corpus.tokens)
                                                           : npy_file<std::int32_t>("'<i4'", corpus.tokens));
  std::cerr << std::format("wrote {}: {} tokens, the largest {}\n", options.out, corpus.tokens.size(), largest);
  return 0;
}

}  // namespace qfid::eval
