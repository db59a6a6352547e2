// The content of a run's units (unit_store.h): what a chunk of windows adds to every arm, and what a later pass leaves in
// the record; written down, and added again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "eval/experiment/arm.h"
#include "eval/experiment/record.h"

namespace qfid::eval {

/// Writes down what is added to arms while it lives.
class ChunkLog {
 public:
  ChunkLog(Arm& baseline, std::vector<Arm>& arms);
  ChunkLog(const ChunkLog&) = delete;
  ChunkLog& operator=(const ChunkLog&) = delete;
  ~ChunkLog();

  /// Adds to an arm what another run measured (part_of() there) on this chunk's `windows` windows; nothing else of the chunk
  /// may come to it.
  void take(Arm& arm, std::string part, std::size_t windows);
  /// What an arm that is alive got so far.
  std::string part_of(const Arm& arm) const;
  /// `seconds`: what the chunk took.
  std::string content(double seconds);
  /// Whether it is all there: no arm failed that may succeed another time.
  bool whole() const;

 private:
  struct Entry {
    Arm* arm;
    std::size_t windows, hidden, backcopy, sketches;  ///< that it had before
    double forward_seconds, metric_seconds, local_seconds;
    quant::ByteWriter tables, sinks;
    std::string taken;  ///< the part that another run measured, if any
  };
  static std::string part_of(const Entry& entry);
  std::vector<Entry> entries_;
};

/// Whether a chunk that isn't whole is of use to these arms: what it lacks they lack too, as those arms failed here again.
bool serves(std::string_view content, const std::vector<Arm>& arms);

/// Adds a chunk of `windows` windows to arms that have everything before it. Returns what it took, in seconds. Error{input}
/// naming the unit.
double replay_chunk(const std::string& unit, std::string_view content, std::size_t windows, Arm& baseline,
                    std::vector<Arm>& arms);

/// What a later pass appends to a record while this lives.
class PassLog {
 public:
  explicit PassLog(const ExperimentRecord& record);
  std::string content(double seconds) const;

 private:
  const ExperimentRecord& record_;
  std::size_t noise_, interventions_, budgets_, warnings_;
};

/// Appends what a pass left; budgets' shares are computed again. Returns what it took, in seconds. Error{input} naming the
/// unit.
double replay_pass(const std::string& unit, std::string_view content, ExperimentRecord& record);

}  // namespace qfid::eval
