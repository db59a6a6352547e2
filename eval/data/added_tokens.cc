#include "eval/data/added_tokens.h"

#include <algorithm>
#include <array>

#include "eval/data/pre_tokenizer.h"

namespace qfid::eval {

AddedTokens AddedTokens::read(const SortedJsonCursor& at) {
  AddedTokens all;
  if (at.is_null()) return all;
  for (const SortedJsonCursor& entry : at.items()) {
    require_known_keys(entry, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      if (entry.has(key) && entry.at(key).boolean()) entry.at(key).refuse("true isn't supported");
    Token token{static_cast<std::int32_t>(entry.at("id").integer(0, INT32_MAX)), entry.at("content").text(),
                entry.at("normalized").boolean()};
    if (token.content.empty()) entry.at("content").fail("text that isn't empty");
    all.tokens_.push_back(std::move(token));
  }
  std::stable_sort(all.tokens_.begin(), all.tokens_.end(),
                   [](const Token& a, const Token& b) { return a.content.size() > b.content.size(); });
  return all;
}

std::vector<AddedTokens::Part> AddedTokens::parts(std::string_view text) const {
  std::vector<Part> parts{{text, -1}};
  for (const bool normalized : {false, true}) {
    std::array<bool, 256> begins{};
    for (const Token& token : tokens_)
      if (token.normalized == normalized) begins[static_cast<unsigned char>(token.content[0])] = true;
    std::vector<Part> finer;
    for (const Part& part : parts) {
      if (part.token >= 0) {
        finer.push_back(part);
        continue;
      }
      std::size_t done = 0;
      for (std::size_t i = 0; i < part.text.size();) {
        const auto found = !begins[static_cast<unsigned char>(part.text[i])]
                               ? tokens_.end()
                               : std::find_if(tokens_.begin(), tokens_.end(), [&](const Token& token) {
                                   return token.normalized == normalized && part.text.substr(i).starts_with(token.content);
                                 });
        if (found == tokens_.end()) {
          ++i;
          continue;
        }
        if (done < i) finer.push_back({part.text.substr(done, i - done), -1});
        finer.push_back({part.text.substr(i, found->content.size()), found->id});
        i += found->content.size();
        done = i;
      }
      if (done < part.text.size()) finer.push_back({part.text.substr(done), -1});
    }
    parts = std::move(finer);
  }
  return parts;
}

}  // namespace qfid::eval
