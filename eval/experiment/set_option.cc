#include "eval/experiment/set_option.h"

#include <algorithm>

namespace qfid::eval {

namespace {

void mark_origin(YamlNode& node, const std::string& origin) {
  node.origin = origin;
  node.at = {};
  for (YamlNode& item : node.items) mark_origin(item, origin);
  for (auto& [key, value] : node.entries) {
    mark_origin(key, origin);
    mark_origin(value, origin);
  }
}

/// Every node of the value keeps it: a long one, whole, would take the square of its length.
std::string shown(const std::string& text) {
  constexpr std::size_t most = 200;
  if (text.size() <= most) return text;
  std::size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // whole characters
  return text.substr(0, end) + "...";
}

std::size_t depth_of(const YamlNode& node) {
  std::size_t below = 0;
  for (const YamlNode& item : node.items) below = std::max(below, depth_of(item));
  for (const auto& [key, value] : node.entries) below = std::max(below, depth_of(value));
  return below + (node.kind == YamlNode::Kind::list || node.kind == YamlNode::Kind::map ? 1 : 0);
}

}  // namespace

void apply_set(YamlNode& root, const std::string& text, Problems& problems) {
  const std::string origin = "--set " + shown(text);
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) return problems.add({}, origin, "expected KEY=VALUE, e.g. data.windows=8");
  YamlNode value;
  try {
    value = parse_yaml(text.substr(equals + 1));
  } catch (const YamlProblem& problem) { return problems.add({}, origin, problem.message); }
  mark_origin(value, origin);
  std::string path = text.substr(0, equals);
  const auto dots = static_cast<std::size_t>(std::count(path.begin(), path.end(), '.'));
  if (1 + dots + depth_of(value) > deepest_yaml)
    return problems.add({}, origin, "nested deeper than " + std::to_string(deepest_yaml) + " levels");
  YamlNode* node = &root;
  while (true) {
    const std::size_t dot = path.find('.');
    const std::string key = path.substr(0, dot);
    if (node->kind != YamlNode::Kind::map)
      return problems.add({}, origin, "\"" + key + "\" has nothing above it that is a map");
    YamlNode* child = node->find(key);
    if (child == nullptr) {
      YamlNode name{YamlNode::Kind::scalar, {}, key, false, origin, {}, {}};
      YamlNode map{YamlNode::Kind::map, {}, "", false, origin, {}, {}};
      node->entries.emplace_back(std::move(name), std::move(map));
      child = &node->entries.back().second;
    }
    if (dot == std::string::npos) {
      *child = std::move(value);
      return;
    }
    node = child;
    path.erase(0, dot + 1);
  }
}

}  // namespace qfid::eval
