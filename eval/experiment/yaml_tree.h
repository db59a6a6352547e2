// YAML as a guarded tree: built from yaml-cpp's events, so that nothing hostile is ever expanded. Refused: aliases and
// anchors, tags, more than one document, files above 1 MiB, nesting above 32 levels, invalid UTF-8 and NUL bytes.
// Every node knows its line and column; duplicate keys are kept for the reader to report.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace qfid::eval {

struct Position {
  int line = 0, column = 0;  ///< from 1; 0 = from the command line
  auto operator<=>(const Position&) const = default;
};

struct YamlNode {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  Position at;
  std::string text;             ///< scalars
  bool quoted = false;          ///< scalars: a string whatever it looks like
  std::string origin;           ///< "" or "--set key=value"
  std::vector<YamlNode> items;  ///< lists
  struct Entry;
  std::vector<Entry> entries;  ///< maps

  const YamlNode* find(const std::string& key) const;
  YamlNode* find(const std::string& key);
};

struct YamlNode::Entry {
  YamlNode first, second;  ///< key, value
};

inline constexpr std::size_t deepest_yaml = 32;  ///< levels of maps and lists

struct YamlProblem {
  Position at;
  std::string message;
};

/// Throws YamlProblem.
YamlNode parse_yaml(const std::string& text);

/// As block YAML that parses to the same tree, positions and origins apart.
std::string write_yaml(const YamlNode& node);

}  // namespace qfid::eval
