#include "eval/experiment/config_check.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "eval/experiment/keys.h"
#include "kernels/attention.h"
#include "quant/core/error.h"
#include "quant/core/nearest.h"

namespace qfid::eval {

void Problems::add(const Position& at, const std::string& origin, const std::string& what) {
  const std::string where =
      origin.empty() ? file_ + ":" + std::to_string(at.line) + ":" + std::to_string(at.column) : origin;
  std::string line = where + ": " + what;
  if (!seen_.insert(line).second) return;
  if (entries_.size() < most_listed) {
    entries_.push_back({at, std::move(line)});
  } else {
    ++unlisted_;
  }
}

std::string Problems::text() const {
  std::vector<Entry> sorted = entries_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Entry& a, const Entry& b) { return a.at < b.at; });
  std::string text;
  for (const Entry& entry : sorted) text += (text.empty() ? "" : "\n") + entry.line;
  if (unlisted_ > 0) text += "\nand " + std::to_string(unlisted_) + " more";
  return text;
}

namespace {

std::string found(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null:
      return "nothing";
    case YamlNode::Kind::list:
      return "a list";
    case YamlNode::Kind::map:
      return "a map";
    case YamlNode::Kind::scalar:
      break;
  }
  return "\"" + node.text.substr(0, 60) + "\"";
}

bool valid_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  });
}

/// Bounds what grows with the square of the targets.
constexpr std::size_t most_names = 1000;
/// Paths, names and patterns: as long as a path can be.
constexpr std::size_t longest_string = 4096;

bool has_control(const std::string& text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

template <class T>
bool in_range(const std::string& text, std::string_view allowed) {
  const auto number = [](std::string_view s, T& value) {
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
    return error == std::errc() && end == s.data() + s.size();
  };
  T value{}, low{}, high{};
  const std::size_t dots = allowed.find("..");
  number(allowed.substr(0, dots), low);
  number(allowed.substr(dots + 2), high);
  return number(text, value) && value >= low && value <= high;
}

void check_scalar(const YamlNode& node, const KeyRow& row, const std::string& shown, Problems& problems) {
  const auto wrong = [&](const std::string& hint = "") {
    problems.add(node, shown + " is " + found(node) + ", expected " + type_in_words(row) + hint);
  };
  if (node.kind != YamlNode::Kind::scalar) return wrong();
  switch (row.type) {
    case KeyType::string:
      if (node.text.empty()) wrong();
      if (has_control(node.text)) wrong(" without control characters");
      if (node.text.size() > longest_string) wrong(" of at most " + std::to_string(longest_string) + " bytes");
      break;
    case KeyType::integer:
      if (node.quoted || !in_range<std::int64_t>(node.text, row.allowed)) wrong();
      break;
    case KeyType::number:
      if (node.quoted || !in_range<double>(node.text, row.allowed)) wrong();
      break;
    case KeyType::boolean:
      if (node.quoted || (node.text != "true" && node.text != "false")) wrong();
      break;
    case KeyType::choice: {
      const std::vector<std::string> words = choices(row.allowed);
      if (std::find(words.begin(), words.end(), node.text) == words.end()) wrong(quant::did_you_mean(node.text, words));
      break;
    }
    case KeyType::scheme:
    case KeyType::prob_scheme:
      try {
        if (row.type == KeyType::scheme) {
          quant::parse_scheme(node.text);
        } else {
          kernels::parse_prob_scheme(node.text);
        }
      } catch (const quant::Error& error) { problems.add(node, shown + ": " + error.what()); }
      break;
    default:
      break;
  }
}

void check_map(const YamlNode& node, const std::string& pattern, const std::string& shown, bool names, Problems& problems) {
  const std::vector<std::string> known = children_of(pattern);
  std::set<std::string> seen;
  if (names && node.entries.size() > most_names)
    return problems.add(node, shown + " has " + std::to_string(node.entries.size()) + " entries, expected at most " +
                                  std::to_string(most_names));
  for (const auto& [key, value] : node.entries) {
    const std::string path = shown.empty() ? key.text : shown + "." + key.text;
    if (!seen.insert(key.text).second) {
      problems.add(key, "duplicate key \"" + key.text.substr(0, 60) + "\"");
      continue;
    }
    if (names) {
      if (!valid_name(key.text))
        problems.add(key, "name \"" + key.text.substr(0, 60) + "\", expected 1 to 64 letters, digits, '.', '_' or '-'");
      check_node(value, pattern + ".*", path, problems);
      continue;
    }
    if (std::find(known.begin(), known.end(), key.text) == known.end()) {
      std::string list;
      for (const std::string& word : known) list += (list.empty() ? "" : ", ") + word;
      problems.add(key, "unknown key \"" + key.text.substr(0, 60) + "\"" + (shown.empty() ? "" : " in " + shown) +
                            ", expected one of " + list + quant::did_you_mean(key.text, known));
      continue;
    }
    check_node(value, pattern.empty() ? key.text : pattern + "." + key.text, path, problems);
  }
  for (const std::string& name : known) {
    const KeyRow* row = find_key(pattern.empty() ? name : pattern + "." + name);
    if (row->required && !seen.contains(name))
      problems.add(node, "missing key \"" + name + "\"" + (shown.empty() ? "" : " in " + shown) + ", expected " +
                             type_in_words(*row));
  }
}

}  // namespace

void check_node(const YamlNode& node, const std::string& pattern, const std::string& shown, Problems& problems) {
  const KeyRow* row = pattern.empty() ? nullptr : find_key(pattern);
  if (row == nullptr || row->type == KeyType::map || row->type == KeyType::names) {
    // `linear: f32` and `attention: f32` in an override switch a module back to full precision.
    if (node.kind == YamlNode::Kind::scalar && node.text == "f32" && pattern.starts_with("targets.*.overrides.*.")) return;
    const bool names = row != nullptr && row->type == KeyType::names;
    if (node.kind != YamlNode::Kind::map)
      return problems.add(node, (shown.empty() ? "the file" : shown) + " is " + found(node) + ", expected " +
                                    (names ? "a map of names" : "a map"));
    if (names && node.entries.empty()) problems.add(node, shown + " is empty, expected at least one entry");
    return check_map(node, pattern, shown, names, problems);
  }
  if (row->type == KeyType::list) {
    if (node.kind != YamlNode::Kind::list) return problems.add(node, shown + " is " + found(node) + ", expected a list");
    if (node.items.size() > most_names)
      return problems.add(node, shown + " has " + std::to_string(node.items.size()) + " entries, expected at most " +
                                    std::to_string(most_names));
    for (std::size_t i = 0; i < node.items.size(); ++i)
      check_node(node.items[i], pattern + ".*", shown + "[" + std::to_string(i) + "]", problems);
    return;
  }
  check_scalar(node, *row, shown, problems);
}

}  // namespace qfid::eval
