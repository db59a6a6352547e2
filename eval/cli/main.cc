#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

#include "eval/cli/cli.h"

namespace {

/// Memory that is wanted where no exception may leave (nlohmann-json's destructors ask for some): nothing can be cleaned up
/// then, but who asked must learn what it was. A journal is sound at any moment, and temporary files go with the next run.
[[noreturn]] void end_at_once() {
  try {
    if (const std::exception_ptr error = std::current_exception()) std::rethrow_exception(error);
  } catch (const std::bad_alloc&) {
    std::fputs("qfid: out of memory: ended at once, while cleaning up; the same command goes on\n", stderr);
    std::_Exit(4);
  } catch (const std::exception& error) { std::fprintf(stderr, "qfid: internal error: %s\n", error.what()); } catch (...) {
    std::fputs("qfid: internal error\n", stderr);
  }
  std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  // OpenMP threads that spin at barriers make a busy machine many times slower (seen: 12 times, at a load of five per core),
  // and libgomp reads its environment once, when it is loaded: start over with the setting, unless the user chose another.
  if (std::getenv("OMP_WAIT_POLICY") == nullptr && std::getenv("GOMP_SPINCOUNT") == nullptr &&
      ::setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
    ::execv("/proc/self/exe", argv);  // returns only where that isn't possible: then go on spinning
  std::set_terminate(end_at_once);
  try {
    return qfid::eval::run_cli(argc, argv);
  } catch (const std::bad_alloc&) {  // before a command has begun
    std::fputs("qfid: out of memory\n", stderr);
    return 4;
  }
}
