#include "eval/experiment/tensor_hashes.h"

#include <algorithm>
#include <format>

namespace qfid::eval {

namespace {

/// "layer2.q" and head 1 -> "layer 2, head 1, q".
std::string place_in_words(const std::string& name, std::size_t head, std::size_t heads) {
  const std::size_t dot = name.find('.');
  if (dot == std::string::npos) return name;
  std::string text = "layer " + name.substr(5, dot - 5);
  if (heads > 1) text += std::format(", head {}", head);
  return text + ", " + name.substr(dot + 1);
}

std::string different_keys(const TensorHashes& now, const TensorHashes& saved) {
  std::string differences;
  const auto compare = [&](const std::string& what, const std::string& a, const std::string& b) {
    if (a != b) differences += std::format("{}the {} differs ({}, {})", differences.empty() ? "" : ", ", what, a, b);
  };
  const auto value = [](const std::map<std::string, std::string>& key, const std::string& name) {
    const auto found = key.find(name);
    return found == key.end() ? std::string("none") : found->second;
  };
  for (const auto& [name, text] : now.key) compare(name, text, value(saved.key, name));
  for (const auto& [name, text] : saved.key)
    if (!now.key.contains(name)) compare(name, "none", text);
  compare("number of hashed windows", std::to_string(now.windows), std::to_string(saved.windows));
  return differences;
}

}  // namespace

HashComparison compare_hashes(const TensorHashes& now, const TensorHashes& saved, bool logits_only) {
  HashComparison found;
  found.not_comparable = different_keys(now, saved);
  if (!found.not_comparable.empty()) return found;
  const auto of = [&](const std::string& name) {
    return std::find_if(saved.tensors.begin(), saved.tensors.end(), [&](const auto& entry) { return entry.first == name; });
  };
  for (const auto& [name, hashes] : now.tensors) {
    if (logits_only && name != "logits") continue;
    const auto other = of(name);
    if (other == saved.tensors.end() || other->second.size() != hashes.size()) {
      found.not_comparable = "one side has no hash of " + name;
      return found;
    }
    ++found.tensors;
    const auto [mine, theirs] = std::mismatch(hashes.begin(), hashes.end(), other->second.begin());
    if (mine == hashes.end()) continue;
    if (found.differing++ == 0)
      found.first = place_in_words(name, static_cast<std::size_t>(mine - hashes.begin()), hashes.size());
  }
  if (!logits_only && now.tensors.size() != saved.tensors.size()) found.not_comparable = "the hashed tensors differ";
  return found;
}

}  // namespace qfid::eval
