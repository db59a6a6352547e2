#include "eval/cli/surroundings.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

std::atomic<bool> stop_requested{false};
std::atomic<int> caught_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void on_stop(int signal) {
  caught_signal.store(signal);
  stop_requested.store(true);
  std::signal(signal, SIG_DFL);  // a second one ends the process at once
}

}  // namespace

const std::atomic<bool>& stop_on_signals() {
  std::signal(SIGINT, on_stop);
  std::signal(SIGTERM, on_stop);
  return stop_requested;
}

int stop_signal() { return caught_signal.load(); }

void require_writable(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (!error && access(directory.c_str(), W_OK | X_OK) != 0) error.assign(errno, std::generic_category());
  if (error) throw quant::Error(quant::ErrorKind::input, directory.string() + ": can't write there: " + error.message());
}

}  // namespace qfid::eval
