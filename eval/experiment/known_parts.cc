#include "eval/experiment/known_parts.h"

#include <algorithm>
#include <format>
#include <span>

#include "eval/experiment/spec_reader.h"
#include "eval/experiment/yaml_tree.h"
#include "eval/model/checkpoint.h"

namespace qfid::eval {

namespace {

constexpr std::size_t most_held_bytes = std::size_t{256} << 20;

template <class Keys>
void take_out(YamlNode* node, const Keys& keys) {
  if (node == nullptr) return;
  std::erase_if(node->entries, [&](const YamlNode::Entry& entry) {
    return std::find(keys.begin(), keys.end(), entry.first.text) != keys.end();
  });
}

/// Under a name of its own: how a target is called decides nothing.
void keep_only(YamlNode* targets, const std::string& name) {
  if (targets == nullptr) return;
  std::erase_if(targets->entries, [&](const YamlNode::Entry& entry) { return entry.first.text != name; });
  for (YamlNode::Entry& entry : targets->entries) entry.first.text = "target";
}

std::string configuration_of(const Spec& spec, const TargetSpec* target) {
  YamlNode root = configuration_tree(spec.text, spec.sets);
  take_out(&root, std::vector{"name", "models", "gates"});
  take_out(root.find("data"), std::vector{"tokens", "targets", "text", "tokenizer", "windows"});
  if (target == nullptr)
    take_out(&root, std::vector{"targets", "presets"});
  else
    keep_only(root.find("targets"), target->name);
  return write_yaml(root);
}

std::string hash_of(const std::vector<Window>& windows, const WindowRange& chunk) {
  std::vector<std::int32_t> all;
  for (std::size_t w = chunk.begin; w < chunk.end; ++w)
    for (std::size_t i = 0; i < windows[w].input.size(); ++i)
      all.insert(all.end(),
                 {windows[w].input[i], windows[w].target[i], windows[w].scored(static_cast<std::int64_t>(i)) ? 1 : 0});
  return bytes_hash({std::as_bytes(std::span(all))});
}

}  // namespace

std::string part_head(const PartContext& context, const TargetSpec* target) {
  std::string text;
  for (const auto& [name, value] : context.identity.entries) {
    if (name == "program" || name == "tokens" || name == "tokenizer") text += name + " " + value + "\n";
    if (name == "model " + context.model) text += "model " + value + "\n";
  }
  for (const auto& [name, value] : context.identity.machine_entries) {
    if (!name.starts_with("device of target ")) text += name + " " + value + "\n";
    if (target != nullptr && name == "device of target " + target->name) text += "device of the target " + value + "\n";
  }
  return text + std::format("logits at once {}\nconfiguration\n{}\n", context.logits_at_once,
                            configuration_of(context.spec, target));
}

namespace {

std::string with_chunk(const std::string& head, const std::vector<Window>& windows, const WindowRange& chunk) {
  return head + std::format("windows {} to {} {}\n", chunk.begin, chunk.end, hash_of(windows, chunk));
}

}  // namespace

std::string part_key(const PartContext& context, const TargetSpec* target, const std::vector<Window>& windows,
                     const WindowRange& chunk) {
  return with_chunk(part_head(context, target), windows, chunk);
}

KnownParts::KnownParts(PartCache& cache, PartContext context, const std::vector<Window>& windows, std::vector<Use> uses)
    : cache_(&cache), context_(std::move(context)), windows_(&windows), uses_(std::move(uses)), held_(uses_.size()) {
  for (std::size_t arm = 0; arm < uses_.size(); ++arm)
    heads_.push_back(part_head(*context_, arm == 0 ? nullptr : &context_->spec.targets[arm - 1]));
}

PartKey KnownParts::key(std::size_t arm, const WindowRange& chunk) const {
  return {with_chunk(heads_[arm], *windows_, chunk), context_->model,
          arm == 0 ? "baseline" : context_->spec.targets[arm - 1].name, chunk_unit(context_->model, chunk)};
}

void KnownParts::hold(const std::vector<WindowRange>& chunks, const std::vector<std::string>& left) {
  std::vector<WindowRange> wanted;
  for (const WindowRange& chunk : chunks)
    if (std::find(left.begin(), left.end(), chunk_unit(context_->model, chunk)) != left.end()) wanted.push_back(chunk);
  if (wanted.size() != left.size()) return;  // later passes need the arms
  std::size_t bytes = 0;
  bool target_runs = false;
  for (std::size_t arm = 1; arm < uses_.size(); ++arm) {
    hold(arm, wanted, bytes);
    target_runs = target_runs || (uses_[arm] != Use::none && !holds(arm));
  }
  if (!target_runs) hold(0, wanted, bytes);  // otherwise the baseline runs, and has to
}

void KnownParts::hold(std::size_t arm, const std::vector<WindowRange>& wanted, std::size_t& bytes) {
  if (cache_ == nullptr || uses_[arm] != Use::cached) return;
  for (const WindowRange& chunk : wanted)
    if (!cache_->has(key(arm, chunk))) return;
  std::map<std::size_t, std::string> parts;
  for (const WindowRange& chunk : wanted) {
    std::optional<std::string> part = find(arm, chunk);
    if (!part || bytes + part->size() > most_held_bytes) return;
    bytes += part->size();
    parts[chunk.begin] = std::move(*part);
  }
  held_[arm] = std::move(parts);
}

bool KnownParts::holds_all() const {
  for (std::size_t arm = 0; arm < uses_.size(); ++arm)
    if (uses_[arm] != Use::none && !holds(arm)) return false;
  return true;
}

std::optional<std::string> KnownParts::find(std::size_t arm, const WindowRange& chunk) {
  if (cache_ == nullptr || uses_[arm] != Use::cached) return std::nullopt;
  const auto held = held_[arm].find(chunk.begin);
  return held != held_[arm].end() ? held->second : cache_->find(key(arm, chunk));
}

void KnownParts::keep(std::size_t arm, const WindowRange& chunk, std::string_view content) {
  if (cache_ != nullptr && uses_[arm] == Use::cached) cache_->keep(key(arm, chunk), content);
}

}  // namespace qfid::eval
