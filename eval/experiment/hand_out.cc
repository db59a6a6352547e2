#include "eval/experiment/hand_out.h"

#include <utility>

#include "quant/core/error.h"

namespace qfid::eval {

HandOut::HandOut(std::vector<std::string> ids) : ids_(std::move(ids)), known_(ids_.size(), false) {
  for (std::int64_t unit = 0; unit < size(); ++unit) free_.insert(free_.end(), unit);
}

std::optional<std::int64_t> HandOut::held_by(int worker) const {
  const auto found = held_.find(worker);
  if (found == held_.end()) return std::nullopt;
  return found->second;
}

std::optional<std::int64_t> HandOut::next(int worker, std::int64_t first) {
  if (const auto held = held_by(worker)) {
    if (*held >= first) return held;
    pass(worker);
  }
  const auto found = free_.lower_bound(first);
  if (found == free_.end()) return std::nullopt;
  const std::int64_t unit = *found;
  free_.erase(found);
  held_[worker] = unit;
  return unit;
}

void HandOut::pass(int worker) { held_.erase(worker); }

std::optional<std::int64_t> HandOut::release(int worker, bool lost) {
  const std::optional<std::int64_t> unit = held_by(worker);
  if (!unit) return std::nullopt;
  held_.erase(worker);
  if (lost) ++losses_[*unit];
  if (!lost || losses_[*unit] < most_losses) free_.insert(*unit);
  return unit;
}

bool HandOut::finish(std::int64_t unit) {
  quant::require(unit >= 0 && unit < size(), "hand-out: no such unit");
  if (known_[static_cast<std::size_t>(unit)]) return false;
  known_[static_cast<std::size_t>(unit)] = true;
  ++finished_;
  free_.erase(unit);
  std::erase_if(held_, [&](const auto& entry) { return entry.second == unit; });
  return true;
}

bool HandedUnits::takes(std::int64_t index) {
  if (!none_left_ && (!unit_ || *unit_ < index)) {
    unit_ = desk_.next(index);
    none_left_ = !unit_;
  }
  return unit_ && *unit_ == index;
}

bool HandedUnits::keep(const std::string&, std::string_view content, bool whole) {
  const std::optional<std::int64_t> unit = std::exchange(unit_, std::nullopt);
  quant::require(unit.has_value(), "hand-out: a unit that this worker doesn't have");
  return desk_.keep(*unit, content, whole);
}

GatheredUnits::GatheredUnits(UnitStore& store, RunIdentity identity, const std::vector<std::string>& ids, bool complete)
    : store_(store), identity_(std::move(identity)), complete_(complete) {
  if (complete) return;
  for (const std::string& id : ids) {
    if (!store_.find(id)) break;
    last_ = id;
  }
  if (last_.empty()) stop_ = true;
}

bool GatheredUnits::begin(RunIdentity& identity) {
  identity = identity_;
  return true;
}

std::optional<std::string> GatheredUnits::find(const std::string& unit) const {
  std::optional<std::string> found = store_.find(unit);
  if (!complete_ && (unit == last_ || !found)) stop_ = true;
  return found;
}

}  // namespace qfid::eval
