// The units of several shards' journals as those of one run, which is then only put together. Reads; computes nothing.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "eval/experiment/journal.h"

namespace qfid::eval {

class MergedUnits : public UnitStore {
 public:
  /// Error{usage} naming the directories: one that holds no shard, shards of different runs, a unit that two have, a shard
  /// still at work. Errors of JournalFile.
  explicit MergedUnits(const std::vector<std::filesystem::path>& directories);

  /// Journal::Options' origin of the shards.
  const std::string& origin() const { return contents_.front().origin; }
  /// Error{usage} naming the units that no shard has.
  void require_complete() const;

  bool begin(RunIdentity& identity) override;
  bool has(const std::string& unit) const override { return units_.contains(unit); }
  std::optional<std::string> find(const std::string& unit) const override;
  bool keep(const std::string&, std::string_view, bool) override { return true; }
  bool keeps() const override { return false; }
  bool computes() const override { return false; }
  bool takes(std::int64_t) override { return false; }
  void skipped(const std::string& unit) override { missing_.push_back(unit); }

 private:
  std::vector<std::filesystem::path> directories_;
  std::vector<std::unique_ptr<JournalFile>> files_;
  std::vector<JournalContent> contents_;
  std::map<std::string, std::pair<std::size_t, std::size_t>> units_;  ///< record, and whose it is
  std::vector<std::string> missing_;
};

}  // namespace qfid::eval
