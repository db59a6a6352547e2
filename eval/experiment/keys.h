// The one table of configuration keys: it validates, it is the JSON Schema, and it is the reference in configs/README.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qfid::eval {

enum class KeyType { map, names, list, string, integer, number, boolean, choice, scheme, prob_scheme };

struct KeyRow {
  std::string_view path;  ///< dotted; "*" stands for a name chosen by the user or a list's items
  KeyType type;
  bool required;
  std::string_view allowed;   ///< choices separated by "|", or "low..high" for numbers
  std::string_view fallback;  ///< default, in words
  std::string_view doc;
};

const std::vector<KeyRow>& key_table();
/// Row of a concrete path ("targets.int8.linear") or null.
const KeyRow* find_key(const std::string& pattern);
/// Last parts of the keys directly below a pattern.
std::vector<std::string> children_of(const std::string& pattern);
std::vector<std::string> choices(std::string_view allowed);
std::string type_in_words(const KeyRow& row);
/// The Markdown table of configs/README.md.
std::string key_reference();

}  // namespace qfid::eval
