#include "eval/data/bpe.h"

#include <queue>

namespace qfid::eval {

namespace {

/// GPT-2's letters: the printable bytes of Latin-1 stand for themselves, the other 68 for U+0100 and on, in their order.
std::array<std::int16_t, 0x144> letter_table() {
  std::array<std::int16_t, 0x144> byte_of{};
  byte_of.fill(-1);
  int next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    byte_of[static_cast<std::size_t>(printable ? b : next++)] = static_cast<std::int16_t>(b);
  }
  return byte_of;
}

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace

bool bytes_of_letters(std::string_view text, std::string& bytes) {
  static const auto byte_of = letter_table();
  bytes.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::uint32_t letter = static_cast<unsigned char>(text[i]);
    if (letter >= 0x80) {  // all letters take two bytes of UTF-8 at most
      if ((letter & 0xE0) != 0xC0 || i + 1 == text.size()) return false;
      letter = (letter & 0x1F) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3F);
    }
    if (letter >= byte_of.size() || byte_of[letter] < 0) return false;
    bytes += static_cast<char>(byte_of[letter]);
  }
  return true;
}

void BytePairEncoder::add_merge(Pair pair, std::int32_t merged) {
  merges_[key_of(pair.first, pair.second)] = {ranks_++, merged};
}

const BytePairEncoder::Merge* BytePairEncoder::find(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BytePairEncoder::merge_all(std::vector<Symbol>& word) const {
  const auto later = [](const Candidate& a, const Candidate& b) { return a.rank != b.rank ? a.rank > b.rank : a.at > b.at; };
  std::priority_queue<Candidate, std::vector<Candidate>, decltype(later)> queue(later);
  const auto offer = [&](std::int32_t at) {
    if (at < 0 || word[static_cast<std::size_t>(at)].next < 0) return;
    const Symbol& left = word[static_cast<std::size_t>(at)];
    if (const Merge* merge = find(left.token, word[static_cast<std::size_t>(left.next)].token))
      queue.push({merge->rank, at, merge->merged});
  };
  for (std::size_t i = 0; i < word.size(); ++i) offer(static_cast<std::int32_t>(i));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = word[static_cast<std::size_t>(best.at)];
    if (left.gone || left.next < 0) continue;
    Symbol& right = word[static_cast<std::size_t>(left.next)];
    const Merge* merge = find(left.token, right.token);
    if (merge == nullptr || merge->merged != best.merged) continue;  // it has been merged with others since
    left.token = best.merged;
    left.next = right.next;
    right.gone = true;
    if (left.next >= 0) word[static_cast<std::size_t>(left.next)].previous = best.at;
    offer(left.previous);
    offer(best.at);
  }
}

void BytePairEncoder::encode(std::string_view word, std::vector<std::int32_t>& tokens) const {
  if (!whole_.empty())
    if (const auto found = whole_.find(std::string(word)); found != whole_.end()) {
      tokens.push_back(found->second);
      return;
    }
  std::vector<Symbol> symbols;
  const auto n = static_cast<std::int32_t>(word.size());
  for (std::int32_t i = 0; i < n; ++i)
    symbols.push_back(
        {bytes_[static_cast<unsigned char>(word[static_cast<std::size_t>(i)])], i - 1, i + 1 < n ? i + 1 : -1});
  merge_all(symbols);
  for (const Symbol& symbol : symbols)
    if (!symbol.gone) tokens.push_back(symbol.token);
}

}  // namespace qfid::eval
