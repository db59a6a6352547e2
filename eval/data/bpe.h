// Byte-level byte pair encoding of single words (Sennrich et al. 2016; GPT-2): a word's bytes are merged pair by pair, the
// pair of the lowest rank first, of equals the leftmost, until no pair has a rank.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace qfid::eval {

/// GPT-2's letters for bytes ("Ġ" is a space) back to bytes; false where `text` has another character.
bool bytes_of_letters(std::string_view text, std::string& bytes);

class BytePairEncoder {
 public:
  using Pair = std::pair<std::int32_t, std::int32_t>;

  /// `bytes`: the token of each byte.
  explicit BytePairEncoder(const std::array<std::int32_t, 256>& bytes) : bytes_(bytes) {}
  /// Merges in the order of their ranks; a pair that is given again takes the later rank, as Hugging Face's tokenizers do.
  void add_merge(Pair pair, std::int32_t merged);
  /// Words that are tokens as they stand are taken whole (`ignore_merges`).
  void add_whole(std::string word, std::int32_t token) { whole_.emplace(std::move(word), token); }

  /// Appends the tokens of `word` (raw bytes). O(n log n).
  void encode(std::string_view word, std::vector<std::int32_t>& tokens) const;

 private:
  struct Merge {
    std::int32_t rank, merged;
  };
  struct Symbol {
    std::int32_t token;
    std::int32_t previous, next;  ///< -1: none
    bool gone = false;            ///< part of the symbol before it
  };
  struct Candidate {
    std::int32_t rank, at, merged;
  };
  const Merge* find(std::int32_t left, std::int32_t right) const;
  void merge_all(std::vector<Symbol>& word) const;

  std::array<std::int32_t, 256> bytes_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::unordered_map<std::string, std::int32_t> whole_;
  std::int32_t ranks_ = 0;
};

}  // namespace qfid::eval
