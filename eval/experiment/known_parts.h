// What a run's arms on one model can take from a cache (part_cache.h) instead of computing it, chunk by chunk.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "eval/data/windows.h"
#include "eval/experiment/part_cache.h"
#include "eval/experiment/spec.h"
#include "eval/experiment/unit_store.h"
#include "eval/experiment/units.h"

namespace qfid::eval {

/// Of a part's key, what all parts of one model share.
struct PartContext {
  const RunIdentity& identity;
  const Spec& spec;
  std::string model;
  std::int64_t logits_at_once = 0;  ///< of all arms' backends the least, which decides how lm_head's rows are grouped
};
/// Everything that decides what an arm measures on a chunk. The configuration goes in as a whole, but for what is taken out
/// by name: its name, gates, other models and targets, paths of what goes in by content, and how many windows there are; so
/// a key that is added to the vocabulary counts without being thought of. `target`: nullptr = the baseline.
std::string part_key(const PartContext& context, const TargetSpec* target, const std::vector<Window>& windows,
                     const WindowRange& chunk);
/// Of it, what all chunks of an arm share: it begins with this.
std::string part_head(const PartContext& context, const TargetSpec* target);

class KnownParts {
 public:
  enum class Use : std::uint8_t { none, computed, cached };  ///< doesn't run; runs whatever is known; may be taken

  /// Nothing is known of so many arms.
  explicit KnownParts(std::size_t arms) : uses_(arms, Use::computed), held_(arms) {}
  /// Arm 0 is the baseline, arm i + 1 the i-th target. All but `uses` must outlive this.
  KnownParts(PartCache& cache, PartContext context, const std::vector<Window>& windows, std::vector<Use> uses);

  /// Reads the parts of each arm that has all parts of the units `left`, so that it needn't be made ready to run; nothing
  /// when other units are left than `chunks`.
  void hold(const std::vector<WindowRange>& chunks, const std::vector<std::string>& left);
  bool holds(std::size_t arm) const { return !held_[arm].empty(); }
  /// Whether nothing has to run.
  bool holds_all() const;

  std::optional<std::string> find(std::size_t arm, const WindowRange& chunk);
  void keep(std::size_t arm, const WindowRange& chunk, std::string_view content);

 private:
  PartKey key(std::size_t arm, const WindowRange& chunk) const;
  void hold(std::size_t arm, const std::vector<WindowRange>& wanted, std::size_t& bytes);

  PartCache* cache_ = nullptr;
  std::optional<PartContext> context_;
  const std::vector<Window>* windows_ = nullptr;
  std::vector<std::string> heads_;  ///< part_head() of each arm
  std::vector<Use> uses_;
  std::vector<std::map<std::size_t, std::string>> held_;  ///< by arm, by a chunk's first window
};

}  // namespace qfid::eval
