// Who computes which unit of a run (unit_store.h), decided while it goes: a worker that asks gets the first unit that nobody
// has, a unit whose worker is lost goes to another. Only states; whoever carries the messages calls this, one at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "eval/experiment/unit_store.h"

namespace qfid::eval {

class HandOut {
 public:
  /// A unit that was lost with this many workers isn't handed out again: it may be what they died of.
  static constexpr int most_losses = 2;

  explicit HandOut(std::vector<std::string> ids = {});

  const std::string& id(std::int64_t unit) const { return ids_.at(static_cast<std::size_t>(unit)); }
  std::int64_t size() const { return static_cast<std::int64_t>(ids_.size()); }
  std::int64_t finished() const { return finished_; }

  /// The first unit from `first` on that is free, from now on `worker`'s; nothing when there is none. A worker has one at
  /// most: asking from behind it, it has passed it.
  std::optional<std::int64_t> next(int worker, std::int64_t first);
  /// `worker` came by the unit that it has and saw that it isn't computed (what came before it failed): nobody is to.
  void pass(int worker);
  /// The unit that `worker` has is free again; `lost`: with the worker.
  std::optional<std::int64_t> release(int worker, bool lost);
  /// Whoever computed it. False when it was finished already.
  bool finish(std::int64_t unit);
  std::optional<std::int64_t> held_by(int worker) const;

  bool any_held() const { return !held_.empty(); }
  bool any_free() const { return !free_.empty(); }
  /// Nothing is left to hand out, and nothing is under way.
  bool done() const { return free_.empty() && held_.empty(); }
  bool is_free(std::int64_t unit) const { return free_.contains(unit); }
  bool is_finished(std::int64_t unit) const { return known_.at(static_cast<std::size_t>(unit)); }

 private:
  std::vector<std::string> ids_;
  std::set<std::int64_t> free_;
  std::map<int, std::int64_t> held_;    ///< worker -> unit
  std::map<std::int64_t, int> losses_;  ///< unit -> workers lost with it
  std::vector<bool> known_;             ///< finished units
  std::int64_t finished_ = 0;
};

/// Whoever hands out units, as a worker sees it. Called by the worker's thread.
class UnitDesk {
 public:
  virtual ~UnitDesk() = default;
  /// As UnitStore's, of the first walk.
  virtual void plan(const std::vector<std::string>& ids) = 0;
  virtual bool begin(RunIdentity& identity) = 0;
  /// A unit for this worker from `first` on; nothing when none is free there now.
  virtual std::optional<std::int64_t> next(std::int64_t first) = 0;
  /// As UnitStore's. False: the run is to end here.
  virtual bool keep(std::int64_t unit, std::string_view content, bool whole) = 0;
};

/// One walk of a worker through a run's units: it takes those that the desk gives it.
class HandedUnits : public UnitStore {
 public:
  HandedUnits(UnitDesk& desk, bool first_walk) : desk_(desk), first_walk_(first_walk) {}

  void plan(const std::vector<std::string>& ids) override {
    if (first_walk_) desk_.plan(ids);
  }
  bool begin(RunIdentity& identity) override { return !first_walk_ || desk_.begin(identity); }
  bool has(const std::string&) const override { return false; }
  std::optional<std::string> find(const std::string&) const override { return std::nullopt; }
  bool keep(const std::string& unit, std::string_view content, bool whole) override;
  bool keeps() const override { return true; }
  bool takes(std::int64_t index) override;
  void skipped(const std::string&) override {}

 private:
  UnitDesk& desk_;
  bool first_walk_, none_left_ = false;
  std::optional<std::int64_t> unit_;
};

/// A run's finished units put together by nobody but their journal: `complete`, and what is missing is computed; not, and
/// the record ends before the first unit that is missing, as that of an interrupted run.
class GatheredUnits : public UnitStore {
 public:
  /// `store`: where finished units are, once begun with `identity`. `ids`: all units in order.
  GatheredUnits(UnitStore& store, RunIdentity identity, const std::vector<std::string>& ids, bool complete);

  bool begin(RunIdentity& identity) override;
  bool has(const std::string& unit) const override { return store_.has(unit); }
  std::optional<std::string> find(const std::string& unit) const override;
  bool keep(const std::string& unit, std::string_view content, bool whole) override {
    return store_.keep(unit, content, whole);
  }
  bool keeps() const override { return store_.keeps(); }
  bool takes(std::int64_t) override { return complete_; }
  void skipped(const std::string&) override {}

  /// What the runner is to be stopped by.
  const std::atomic<bool>& stop() const { return stop_; }

 private:
  UnitStore& store_;
  RunIdentity identity_;
  bool complete_;
  std::string last_;  ///< the unit before the first that is missing
  mutable std::atomic<bool> stop_{false};
};

}  // namespace qfid::eval
