// qfid-mpi: `qfid run` on the ranks of an MPI job.
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "eval/cli/cli.h"
#include "eval/mpi/coordinator.h"
#include "eval/mpi/worker.h"

using namespace qfid::eval;

namespace {

constexpr const char* summary =
    "qfid run on the ranks of an MPI job: mpirun -n N qfid-mpi run CONFIG --out DIR (docs/long-runs.md). Any N gives the "
    "bytes "
    "of one process with --no-timings.";

int coordinate(int argc, char** argv, Post& post) {
  double lost_after = 60;
  Coordinator coordinator(post, lost_after);
  const int code = run_cli(argc, argv,
                           {"qfid-mpi", summary, [&](const RunOptions& options) { return coordinator.run(options); },
                            [&](const std::string& message, int) { coordinator.complain(message); }, &lost_after});
  coordinator.end();
  post.finish(coordinator.some_are_lost(), code);
  return code;
}

/// Rank 0 speaks for the job: what its own exit code and words can't say, this rank tells it.
void work(int argc, char** argv, Post& post) {
  double lost_after = 60;
  Worker worker(post, lost_after);
  std::cout.rdbuf(nullptr);
  std::cerr.rdbuf(nullptr);
  bool ran = false;
  run_cli(argc, argv,
          {"qfid-mpi", summary,
           [&](const RunOptions& options) {
             ran = true;
             return worker.run(options);
           },
           [](const std::string&, int) {}, &lost_after});
  if (!ran) worker.give_up("its command line isn't valid");
  post.finish(worker.some_are_lost(), 0);
  std::_Exit(0);  // whatever its other thread is about
}

}  // namespace

int main(int argc, char** argv) {
  // As qfid does: threads that spin make a busy machine many times slower (eval/cli/main.cc).
  if (std::getenv("OMP_WAIT_POLICY") == nullptr && std::getenv("GOMP_SPINCOUNT") == nullptr &&
      ::setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
    ::execv("/proc/self/exe", argv);
  Post post(argc, argv);
  if (post.rank() > 0) work(argc, argv, post);
  return coordinate(argc, argv, post);
}
