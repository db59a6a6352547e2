// What rank 0's two threads share: who has which unit, and the journal.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>

#include "eval/experiment/hand_out.h"
#include "eval/experiment/journal.h"
#include "eval/mpi/coordinator.h"

namespace qfid::eval {

class Coordinator::Desk : public UnitDesk {
 public:
  Desk(Journal& journal, const std::atomic<bool>& stop) : journal_(journal), stop_(stop) {}

  // Of the thread that computes.
  void plan(const std::vector<std::string>& ids) override { ids_ = ids; }
  /// Returns when every rank has said what its run is made of. Error{usage} when they differ.
  bool begin(RunIdentity& identity) override;
  std::optional<std::int64_t> next(std::int64_t first) override { return next(0, first); }
  bool keep(std::int64_t unit, std::string_view content, bool whole) override { return keep_of(unit, content, whole); }
  /// At the end of a walk: whether another is needed. Waits until every unit is finished, or those under way are when the
  /// run is to stop.
  bool again(bool interrupted);
  /// The run, from its units.
  ExperimentRecord gather(const Spec& spec);
  bool finished_before() const { return finished_before_; }
  void done(std::exception_ptr error);

  // Of the thread that talks.
  const RunIdentity* identity();  ///< null = not known yet
  void open(const std::string& refusal);
  std::optional<std::int64_t> next(int rank, std::int64_t first);
  bool keep_of(std::int64_t unit, std::string_view content, bool whole);
  void pass(int rank);
  /// What `rank` had, in words; "" = nothing.
  std::string release(int rank, bool lost);
  bool is_done();
  bool stops() const { return stop_.load(); }  ///< the whole job was told to stop
  void rethrow() const;
  std::pair<std::int64_t, std::int64_t> progress();  ///< finished units, all

 private:
  bool stopping() const { return stop_.load() || failed_; }

  Journal& journal_;
  const std::atomic<bool>& stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> ids_;
  HandOut units_;
  std::optional<RunIdentity> identity_;
  std::optional<std::string> gate_;  ///< open once it is there; why the run is refused
  bool failed_ = false, gathering_ = false, finished_before_ = false, done_ = false;
  std::exception_ptr error_;
};

}  // namespace qfid::eval
