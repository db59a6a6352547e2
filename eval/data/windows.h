// Windows of tokens under a protocol (docs/metrics.md, "Perplexity"): what the model reads and which of its predictions
// count.
//   window        blocks of `context` tokens; input = BOS + the block without its last token; every position is scored
//   llamacpp-512  chunks of `context` (512) tokens, the first replaced by BOS; position i predicts token i + 1; targets
//                 context/2 + 1 ... context - 1 are scored (255 of 512)
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace qfid::eval {

enum class Protocol : std::uint8_t { window, llamacpp_512 };
std::string_view to_string(Protocol protocol);  ///< "window", "llamacpp-512"

struct Window {
  std::vector<std::int32_t> input, target;        ///< `context` ids each
  std::int64_t first_scored = 0, end_scored = 0;  ///< positions [first, end) whose target counts
};

/// Number of whole windows in tokens[first_token:].
std::int64_t windows_available(std::int64_t tokens, std::int64_t first_token, std::int64_t context);

/// `count` windows from first_token on. Error{input} naming `path` when the file holds fewer, or a token >= vocab.
std::vector<Window> make_windows(std::span<const std::int32_t> tokens, Protocol protocol, std::int64_t first_token,
                                 std::int64_t count, std::int64_t context, std::int32_t bos, std::int64_t vocab,
                                 const std::string& path);

}  // namespace qfid::eval
