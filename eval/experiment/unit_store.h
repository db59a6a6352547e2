// A run's units and where finished ones are kept. A unit is what is lost at most when a process dies: a chunk of windows of
// one model under all targets, which share the baseline's forward pass ("MODEL/windows/8-11"), or one later pass
// ("MODEL/noise", "MODEL/interventions/TARGET", "MODEL/budget/TARGET"). Ids and order follow from configuration and data
// alone, never from who computes what.
//
// A chunk is kept as the calls that filled its tables (eval/metrics/observation.h), not as sums: made again in window order
// they are the additions of an uninterrupted run, so the record is the same to the last bit.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "eval/experiment/record.h"

namespace qfid::eval {

/// What must agree before two processes may work on one run.
struct RunIdentity {
  using Entries = std::vector<std::pair<std::string, std::string>>;
  Entries entries;          ///< configuration, data, models, baselines of gates, program: name -> value or hash
  Entries machine_entries;  ///< devices, instruction sets, threads, libraries
  Provenance machine;       ///< the same as a record has it, and the build
  std::string started;      ///< ISO 8601, UTC: when the run began
};

class PartCache;

class UnitStore {
 public:
  virtual ~UnitStore() = default;

  /// Once, before begin(): the ids of all units of all models, in the order in which they are asked for; a unit's place is
  /// its number.
  virtual void plan(const std::vector<std::string>&) {}
  /// Once, when everything is known and nothing is computed. False: the run is finished, and nothing is to be done. A store
  /// of a run that began earlier, or elsewhere, puts that run's machine and start into `identity`. Error{usage} naming what
  /// differs.
  virtual bool begin(RunIdentity& identity) = 0;
  /// Whether a unit is finished, and whole.
  virtual bool has(const std::string& unit) const = 0;
  /// What was kept of a unit, whole or not; nothing when it isn't finished. Error{input} when it can't be read any more.
  virtual std::optional<std::string> find(const std::string& unit) const = 0;
  /// Keeps a finished unit, which survives the process when this returns. `whole`: nothing of it has to be tried again;
  /// otherwise a later one of the same name takes its place. False when it can't: the run is to end here, before more is
  /// lost.
  virtual bool keep(const std::string& unit, std::string_view content, bool whole) = 0;
  /// Whether begin() is to be told who runs what: it costs reading every model once.
  virtual bool identifies() const { return true; }
  /// Whether finished units are wanted at all.
  virtual bool keeps() const = 0;
  /// Whether units are computed here; otherwise those that can't be found are missing.
  virtual bool computes() const { return true; }
  /// Whether this process sees to unit number `index` when it isn't finished. Asked in rising order, from each model's first
  /// unit on twice.
  virtual bool takes(std::int64_t index) = 0;
  /// Told of units that are neither finished nor this process's.
  virtual void skipped(const std::string& unit) = 0;
  /// Where parts of units may be taken from, of whatever run; nullptr: nowhere. Only of a store that keeps units.
  virtual PartCache* cache() { return nullptr; }
};

/// Units of a run that is kept nowhere: a library's, a test's.
class NoStore : public UnitStore {
 public:
  bool begin(RunIdentity&) override { return true; }
  bool has(const std::string&) const override { return false; }
  std::optional<std::string> find(const std::string&) const override { return std::nullopt; }
  bool keep(const std::string&, std::string_view, bool) override { return true; }
  bool identifies() const override { return false; }
  bool keeps() const override { return false; }
  bool takes(std::int64_t) override { return true; }
  void skipped(const std::string&) override {}
};

/// The units of one model, numbered through over all models.
class ModelUnits {
 public:
  /// `next`: the number of its first unit; afterwards that of the next model's.
  ModelUnits(UnitStore& store, std::vector<std::string> ids, std::int64_t& next) : store_(store), ids_(std::move(ids)) {
    for (const std::string& id : ids_) numbers_[id] = next++;
  }

  /// Whether any unit is to be computed here.
  bool compute_any() const {
    for (const std::string& id : ids_)
      if (mine(id) && !store_.has(id)) return true;
    return false;
  }
  /// Those to be computed here, in order.
  std::vector<std::string> left() const {
    std::vector<std::string> ids;
    for (const std::string& id : ids_)
      if (mine(id) && !store_.has(id)) ids.push_back(id);
    return ids;
  }
  bool whole(const std::string& id) const { return store_.has(id); }
  std::optional<std::string> find(const std::string& id) const { return store_.find(id); }
  /// Whether an unfinished unit is computed here; the store is told when it isn't.
  bool take(const std::string& id) {
    if (mine(id)) return true;
    store_.skipped(id);
    return false;
  }
  bool keeps() const { return store_.keeps(); }
  bool keep(const std::string& id, std::string_view content, bool whole) { return store_.keep(id, content, whole); }

 private:
  bool mine(const std::string& id) const { return store_.computes() && store_.takes(numbers_.at(id)); }
  UnitStore& store_;
  std::vector<std::string> ids_;
  std::map<std::string, std::int64_t> numbers_;
};

}  // namespace qfid::eval
