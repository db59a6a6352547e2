// A run's journal: the file run.journal in its output directory. It begins with the run's identity, then holds every
// finished unit (unit_store.h), and ends, once the run is finished, as identity and outcome alone; a shard's journal keeps
// its units, which a merge reads. Written by the program for itself: another build's is refused by name, never read.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "eval/experiment/journal_file.h"
#include "eval/experiment/unit_store.h"

namespace qfid::eval {

/// One of `count` parts of a run: the units whose number leaves `index` when divided by `count`.
struct Shard {
  std::int64_t index = 0, count = 1;
};

/// How a finished run ended.
struct RunOutcome {
  int exit_code = 0;
  std::string results_hash;  ///< of results.json; "" of a shard, which has none
  std::string message;       ///< what was wrong, where something was
};

/// A unit in a journal: the number of its record, and whether nothing of it has to be tried again.
struct KeptUnit {
  std::size_t record = 0;
  bool whole = true;
};

/// What a journal holds, read back.
struct JournalContent {
  RunIdentity identity;
  std::string origin;  ///< as Journal::Options has it
  std::optional<Shard> shard;
  std::map<std::string, KeptUnit> units;
  std::optional<RunOutcome> outcome;
};
/// Error{input} naming the file for what a sound file can't hold. Nothing when there is not even an identity.
std::optional<JournalContent> content_of(const JournalRecords& records);
/// Of the unit in record `i`. Errors as JournalRecords::record.
std::string unit_content(const JournalRecords& records, std::size_t i);

/// Names of what differs between two runs, with both values where they are short; "" when they agree.
std::string difference(const RunIdentity& was, const RunIdentity& is);

class Journal : public UnitStore {
 public:
  struct Options {
    bool restart = false;  ///< what is there is replaced
    bool forgets = false;  ///< units aren't kept: what a run leaves besides them (dumps) can't be taken up again
    std::optional<Shard> shard;
    std::string origin;  ///< what a merge reads the configuration with; the caller's text
    /// Told of a torn tail and of where the run goes on; `surprise`: even those who want quiet should know.
    std::function<void(const std::string& text, bool surprise)> say;
    PartCache* cache = nullptr;  ///< as UnitStore::cache
  };
  static constexpr const char* file_name = "run.journal";

  /// Locks `directory`, which must exist. Errors as JournalFile.
  Journal(const std::filesystem::path& directory, Options options);

  bool begin(RunIdentity& identity) override;
  bool has(const std::string& unit) const override {
    const auto found = units_.find(unit);
    return found != units_.end() && found->second.whole;
  }
  std::optional<std::string> find(const std::string& unit) const override;
  bool keep(const std::string& unit, std::string_view content, bool whole) override;
  bool keeps() const override { return !options_.forgets; }
  bool takes(std::int64_t index) override {
    return !options_.shard || index % options_.shard->count == options_.shard->index;
  }
  void skipped(const std::string&) override {}
  PartCache* cache() override { return keeps() ? options_.cache : nullptr; }

  /// From now on find() knows what was kept since begin(), too. What it returned before is no longer valid.
  void reread();
  /// The run is complete, its files are written.
  void finish(const RunOutcome& outcome);
  /// Of a run that was finished when begin() was called.
  const std::optional<RunOutcome>& outcome() const { return outcome_; }
  /// Why a unit couldn't be kept; "" = all could.
  const std::string& failure() const { return failure_; }
  std::int64_t kept() const { return kept_; }  ///< units in the file

 private:
  void start_anew(const RunIdentity& identity);
  std::string header(const RunIdentity& identity) const;

  std::filesystem::path directory_;
  Options options_;
  JournalFile file_;
  RunIdentity identity_;
  std::map<std::string, KeptUnit> units_;
  std::optional<RunOutcome> outcome_;
  std::string failure_;
  std::int64_t kept_ = 0;
};

}  // namespace qfid::eval
