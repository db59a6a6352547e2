#include "eval/experiment/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <format>
#include <sstream>
#include <string_view>

namespace qfid::eval {

namespace {

constexpr std::size_t largest_file = 1 << 20;

Position position(const YAML::Mark& mark) { return {mark.line + 1, mark.column + 1}; }

/// Position of the first byte that is not part of valid UTF-8 text, NUL included; npos when all is well.
std::size_t first_bad_byte(const std::string& text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const std::size_t length = c < 0x80                ? 1
                               : c >= 0xC2 && c < 0xE0 ? 2
                               : c >= 0xE0 && c < 0xF0 ? 3
                               : c >= 0xF0 && c < 0xF5 ? 4
                                                       : 0;
    if (c == 0 || length == 0 || i + length > text.size()) return i;
    for (std::size_t j = 1; j < length; ++j)
      if ((static_cast<unsigned char>(text[i + j]) & 0xC0) != 0x80) return i;
    i += length;
  }
  return std::string::npos;
}

class TreeBuilder : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    put({YamlNode::Kind::null, position(mark), "", false, "", {}, {}});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw YamlProblem{position(mark), "aliases are not supported, write the value out"};
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    refuse_anchor(mark, anchor);
    if (tag != "?" && tag != "!" && !tag.empty())
      throw YamlProblem{position(mark), "tags are not supported, found " + tag.substr(0, 60)};
    // yaml-cpp writes the escapes \N and \_ as Latin-1. NUL bytes are for whoever reads the value.
    std::string seen = value;
    std::replace(seen.begin(), seen.end(), '\0', ' ');
    if (first_bad_byte(seen) != std::string::npos)
      throw YamlProblem{position(mark), "an escape (\\N or \\_) that isn't text here, write the character itself"};
    put({YamlNode::Kind::scalar, position(mark), value, tag == "!", "", {}, {}});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::map);
  }
  void OnMapEnd() override { close(); }

  YamlNode root;

 private:
  struct Frame {
    YamlNode node;
    bool has_key = false;
    YamlNode key;
  };

  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != 0) throw YamlProblem{position(mark), "anchors are not supported, write the value out"};
  }
  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    refuse_anchor(mark, anchor);
    if (tag != "?" && tag != "!" && !tag.empty())
      throw YamlProblem{position(mark), "tags are not supported, found " + tag.substr(0, 60)};
    if (stack_.size() >= deepest_yaml)
      throw YamlProblem{position(mark), "nested deeper than " + std::to_string(deepest_yaml) + " levels"};
    if (!stack_.empty() && stack_.back().node.kind == YamlNode::Kind::map && !stack_.back().has_key)
      throw YamlProblem{position(mark), "a key must be a word"};
    stack_.push_back({{kind, position(mark), "", false, "", {}, {}}, false, {}});
  }
  void close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    put(std::move(node));
  }
  void put(YamlNode node) {
    if (stack_.empty()) {
      root = std::move(node);
      return;
    }
    Frame& frame = stack_.back();
    if (frame.node.kind == YamlNode::Kind::list) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.has_key) {
      if (node.kind != YamlNode::Kind::scalar) throw YamlProblem{node.at, "a key must be a word"};
      frame.key = std::move(node);
      frame.has_key = true;
    } else {
      frame.node.entries.emplace_back(std::move(frame.key), std::move(node));
      frame.has_key = false;
    }
  }

  std::vector<Frame> stack_;
};

Position position_of(const std::string& text, std::size_t byte) {
  const auto end = text.begin() + static_cast<std::ptrdiff_t>(byte);
  const auto line = std::count(text.begin(), end, '\n');
  const std::size_t line_begin = std::string_view(text).substr(0, byte).rfind('\n') + 1;  // 0 on the first line
  return {static_cast<int>(line) + 1, static_cast<int>(byte - line_begin) + 1};
}

}  // namespace

namespace {

constexpr std::size_t longest_plain_key = 1000;  // YAML allows 1,024 characters

/// A scalar that needs no quotes in block YAML, whatever stands around it.
bool is_plain(const YamlNode& node) {
  const auto good = [](unsigned char c) { return std::isalnum(c) != 0 || std::strchr("._/()+-*=", c) != nullptr; };
  const std::string& t = node.text;
  return !node.quoted && !t.empty() && std::all_of(t.begin(), t.end(), good) && t.front() != '*' && t.front() != '=' &&
         !t.starts_with("---") && t != "-" && t != "...";
}

std::string scalar_text(const YamlNode& node) {
  if (is_plain(node)) return node.text;
  std::string text = "\"";
  for (const char c : node.text) {
    if (static_cast<unsigned char>(c) < 0x20) {
      text += std::format("\\x{:02x}", static_cast<unsigned char>(c));
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + "\"";
}

void write_node(std::string& out, const YamlNode& node, const std::string& indent) {
  if (node.kind == YamlNode::Kind::scalar) out += " " + scalar_text(node) + "\n";
  if (node.kind == YamlNode::Kind::null) out += "\n";
  if (node.kind == YamlNode::Kind::list) {
    out += node.items.empty() ? " []\n" : "\n";
    for (const YamlNode& item : node.items) {
      std::string text;
      write_node(text, item, indent + "  ");
      const bool inline_map = item.kind == YamlNode::Kind::map && text.front() == '\n';
      out += indent + "-" + (inline_map ? text.substr(indent.size() + 2) : text);
    }
  }
  if (node.kind == YamlNode::Kind::map) {
    out += node.entries.empty() ? " {}\n" : "\n";
    for (const auto& [key, value] : node.entries) {
      const std::string text = scalar_text(key);  // a key that says where it begins may be as long as it likes
      out += indent + (text.size() > longest_plain_key ? "? " + text + "\n" + indent : text) + ":";
      write_node(out, value, indent + "  ");
    }
  }
}

}  // namespace

std::string write_yaml(const YamlNode& node) {
  std::string text;
  write_node(text, node, "");
  return text.starts_with('\n') ? text.substr(1) : text;
}

const YamlNode* YamlNode::find(const std::string& key) const {
  for (const auto& [name, value] : entries)
    if (name.text == key) return &value;
  return nullptr;
}
YamlNode* YamlNode::find(const std::string& key) {
  for (auto& [name, value] : entries)
    if (name.text == key) return &value;
  return nullptr;
}

YamlNode parse_yaml(const std::string& text) {
  if (text.size() > largest_file) throw YamlProblem{{1, 1}, "larger than 1 MiB"};
  if (const std::size_t bad = first_bad_byte(text); bad != std::string::npos)
    throw YamlProblem{position_of(text, bad), text[bad] == '\0' ? "NUL byte" : "invalid UTF-8"};
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    TreeBuilder builder;
    if (!parser.HandleNextDocument(builder)) throw YamlProblem{{1, 1}, "empty, expected a map that begins with version: 1"};
    TreeBuilder more;
    if (parser.HandleNextDocument(more)) throw YamlProblem{more.root.at, "a second document, expected one"};
    return std::move(builder.root);
  } catch (const YAML::Exception& error) { throw YamlProblem{position(error.mark), "not valid YAML: " + error.msg}; }
}

}  // namespace qfid::eval
