// Rank 0: a thread that computes units as every rank's, and this one, which hands them out, keeps what comes back in the
// run's one journal, and notices ranks that fall silent. At the end the run is put together from the journal, as a resumed
// run is.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "eval/cli/run_parts.h"
#include "eval/mpi/letters.h"
#include "eval/mpi/post.h"

namespace qfid::eval {

class Coordinator {
 public:
  /// `lost_after`: seconds of silence after which a rank counts as lost; read when run() begins.
  Coordinator(Post& post, const double& lost_after);

  /// As the program's run. Errors as command_run's; Error{usage} naming the ranks whose run is another.
  int run(RunOptions options);
  /// Tells the error that ends the program.
  void complain(const std::string& message);
  /// Tells every rank that the job ends.
  void end();
  bool some_are_lost() const;

 private:
  class Desk;  // coordinator_desk.h: what both threads share
  enum class State : std::uint8_t { starting, joined, left, stopped, lost };
  struct Rank {
    State state = State::starting, before_lost = State::starting;
    double heard = 0;  ///< when, by clock_
    RunIdentity identity;
    bool waits = false;  ///< at the end of its walk
  };

  ExperimentRecord execute(const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop,
                           Journal& journal);
  void serve(Desk& desk, bool shows_progress);
  void hear(Desk& desk, const Letter& letter);
  void hear_ask(Desk& desk, int rank, std::int64_t first);
  void drop(Desk& desk, int rank, State state, const std::string& why);
  void find_lost(Desk& desk);
  void beat();
  void open(Desk& desk);
  void serve_waiting(Desk& desk);
  void show_progress(Desk& desk);
  void tell_failures(bool all);
  void note(const std::string& text);
  std::string names_of(const std::vector<int>& ranks) const;

  Post& post_;
  const double& lost_after_;
  std::vector<Rank> ranks_;                           ///< [0] is this one's and has no meaning
  std::map<std::string, std::vector<int>> failures_;  ///< that weren't told yet: why -> ranks
  bool opened_ = false, ended_ = false;
  AwakeClock clock_;
  double next_beat_ = 0;
  std::string own_error_, line_;
};

}  // namespace qfid::eval
