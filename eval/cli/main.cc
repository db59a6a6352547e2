#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <new>

#include "eval/cli/cli.h"

int main(int argc, char** argv) {
  // OpenMP threads that spin at barriers make a busy machine many times slower (seen: 12 times, at a load of five per core),
  // and libgomp reads its environment once, when it is loaded: start over with the setting, unless the user chose another.
  if (std::getenv("OMP_WAIT_POLICY") == nullptr && std::getenv("GOMP_SPINCOUNT") == nullptr &&
      ::setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
    ::execv("/proc/self/exe", argv);  // returns only where that isn't possible: then go on spinning
  try {
    return qfid::eval::run_cli(argc, argv);
  } catch (const std::bad_alloc&) {  // before a command has begun
    std::fputs("qfid: out of memory\n", stderr);
    return 4;
  }
}
