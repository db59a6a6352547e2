// Every rank but 0: a thread that computes the units it is given, and this one, which talks to rank 0 meanwhile.
#pragma once

#include <string>

#include "eval/cli/commands.h"
#include "eval/mpi/post.h"

namespace qfid::eval {

class Worker {
 public:
  /// `lost_after`: seconds without a word of rank 0 after which it counts as lost; read when run() begins.
  Worker(Post& post, const double& lost_after) : post_(post), lost_after_(lost_after) {}

  /// As the program's run: until rank 0 ends the job.
  int run(const RunOptions& options);
  /// Tells rank 0 that this rank can't do anything, and why; waits for the job's end.
  void give_up(const std::string& why);
  /// What rank 0 said at the end.
  bool some_are_lost() const { return some_are_lost_; }

 private:
  class Desk;
  void talk(Desk& desk);
  bool hear(Desk& desk, const Letter& letter);

  Post& post_;
  const double& lost_after_;
  bool some_are_lost_ = false;
};

}  // namespace qfid::eval
