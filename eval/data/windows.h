// Windows of tokens under a protocol (docs/metrics.md, "Protocols"): what the model reads and which of its predictions
// count. All but lmeval cut the tokens into blocks of `context`, without overlap:
//   window        input = BOS + the block without its last token; every position is scored
//   gptq          input = the block; position i predicts token i + 1; the targets 1 ... context - 1 are scored
//   llamacpp      the block, its first token replaced by BOS; the targets context/2 + 1 ... context - 1 are scored
//   outlier_free  as gptq; windows count in whole batches, whose mean losses are averaged
//   lmeval        document_windows: each document for itself, every token of it scored once
//   mlm           masked_windows: rows of ids and of targets as they are, the targets that aren't -100 are scored
//   hidden        input = the block, or a row of ids as it is; nothing is predicted, every token but padding is compared
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/data/protocol.h"

namespace qfid::eval {

/// A target that doesn't count, whatever its position; PyTorch's cross entropy ignores the same.
inline constexpr std::int32_t no_target = -100;

struct Window {
  std::vector<std::int32_t> input, target;        ///< `context` ids each
  std::int64_t first_scored = 0, end_scored = 0;  ///< positions [first, end) whose target counts, unless it is no_target
  bool scored(std::int64_t i) const {
    return i >= first_scored && i < end_scored && target[static_cast<std::size_t>(i)] != no_target;
  }
};

/// Number of whole windows in tokens[first_token:].
std::int64_t windows_available(std::int64_t tokens, std::int64_t first_token, std::int64_t context);

/// lm-evaluation-harness's disjoint windows of one document, with one token of context: the first reads BOS and the tokens
/// before its last, the next ones the token before them; the last one, where it would be short, reads further back to
/// `context` tokens and scores what is left. A document shorter than `context` is one window of its own length, an empty one
/// none.
std::vector<Window> document_windows(std::span<const std::int32_t> document, std::int64_t context, std::int32_t bos);
/// Their number.
std::int64_t document_window_count(std::int64_t tokens, std::int64_t context);

/// Error{input} naming `path` and the first of tokens[begin, end) that is >= vocab.
void require_vocabulary(std::span<const std::int32_t> tokens, std::int64_t begin, std::int64_t end, std::int64_t vocab,
                        const std::string& path);

/// `count` rows from row `first` on of masked-LM data (corpus.h): [rows, row] ids and targets, one after the other. Padding
/// behind a row's last other token is cut: what that token and those before it see is the same. Error{input}: rows that
/// aren't there, an id or target >= vocab, a row of nothing but padding, a target at padding that was cut, no target at all.
struct MaskedRows {
  std::span<const std::int32_t> inputs, targets;
  std::int64_t row;
  const std::string& inputs_path;
  const std::string& targets_path;
};
std::vector<Window> masked_windows(const MaskedRows& rows, std::int64_t first, std::int64_t count, std::int64_t vocab,
                                   std::int32_t pad);

/// `count` rows of ids from row `first` on, for protocol hidden: padding behind a row's last other token is cut.
/// Error{input}: rows that aren't there, an id >= vocab, a row of nothing but padding.
std::vector<Window> padded_windows(std::span<const std::int32_t> ids, std::int64_t row, std::int64_t first,
                                   std::int64_t count, std::int64_t vocab, std::int32_t pad, const std::string& path);
/// Tokens that are padding count no longer. Error{input} naming `path` and a window of nothing else.
void unscore_padding(std::vector<Window>& windows, std::int32_t pad, const std::string& path);

/// `count` windows from first_token on, of any protocol but lmeval and mlm. Error{input} naming `path` when the file holds
/// fewer, or a token >= vocab.
std::vector<Window> make_windows(std::span<const std::int32_t> tokens, Protocol protocol, std::int64_t first_token,
                                 std::int64_t count, std::int64_t context, std::int32_t bos, std::int64_t vocab,
                                 const std::string& path);

}  // namespace qfid::eval
