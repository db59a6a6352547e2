// Checks a YAML tree against the key table: unknown, duplicate and missing keys, wrong types, values out of range.
// Everything wrong is collected; nothing throws.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "eval/experiment/yaml_tree.h"

namespace qfid::eval {

class Problems {
 public:
  explicit Problems(std::string file) : file_(std::move(file)) {}
  void add(const YamlNode& node, const std::string& what) { add(node.at, node.origin, what); }
  void add(const Position& at, const std::string& origin, const std::string& what);
  bool empty() const { return entries_.empty(); }
  /// No more than these are listed; further ones are counted.
  static constexpr std::size_t most_listed = 100;
  /// One line each, by position.
  std::string text() const;

 private:
  struct Entry {
    Position at;
    std::string line;
  };
  std::string file_;
  std::vector<Entry> entries_;
  std::set<std::string> seen_;
  std::size_t unlisted_ = 0;
};

/// `pattern` is the key table's path of this node ("" for the whole file, "targets.*" for a preset's body).
void check_node(const YamlNode& node, const std::string& pattern, const std::string& shown, Problems& problems);

}  // namespace qfid::eval
