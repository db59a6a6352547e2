// Perplexity protocols by name (docs/metrics.md, "Protocols"). A new one: a row here, its windows in windows.cc, its name in
// the key table.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qfid::eval {

enum class Protocol : std::uint8_t { window, gptq, llamacpp, outlier_free, lmeval, mlm, hidden };

struct ProtocolTraits {
  Protocol protocol;
  std::string_view name;
  std::int64_t context;        ///< where none is asked for; 0 = the model's
  bool at_most_the_models;     ///< ... or the model's, where that is less
  std::int64_t least_context;  ///< fewer tokens leave nothing to score
  bool joined;                 ///< a text's documents are joined with "\n\n" and tokenized as one
  bool special_tokens;         ///< the tokenizer's special tokens (BOS, EOS) are added to what is tokenized
  bool one_length;             ///< every window has `context` tokens; rows of 2-D files lose their padding
};
const std::vector<ProtocolTraits>& protocols();
const ProtocolTraits& traits(Protocol protocol);
constexpr std::int64_t default_batch_windows = 8;

std::string_view to_string(Protocol protocol);
/// Error{internal} for an unknown name (the key table has checked it).
Protocol parse_protocol(std::string_view name);

/// What a protocol's numbers depend on beside its context.
struct ProtocolParameters {
  std::int64_t batch_windows = default_batch_windows;  ///< of outlier_free
  bool detokenize = false;                             ///< text: wikitext_detokenized before it is tokenized
};
/// "window", "outlier_free/batch=8", "gptq/detokenize=wikitext".
std::string spelling(Protocol protocol, const ProtocolParameters& parameters);
/// As records spell it today; earlier ones said llamacpp-512, whatever their context.
std::string current_spelling(std::string recorded);

/// Tokens in a window where the configuration asks for no other number.
std::int64_t standard_context(Protocol protocol, std::int64_t model_context);

}  // namespace qfid::eval
