#include "eval/experiment/process.h"

#include <sys/resource.h>

#include <algorithm>
#include <ctime>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/registry/registry.h"
#include "quant/core/error.h"

namespace qfid::eval {

using quant::Error;
using quant::ErrorKind;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

double peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

void require_threads(int count) {
  std::mutex held;
  std::vector<std::thread> threads;
  std::string problem;
  {
    const std::scoped_lock all_at_once(held);
    try {
      while (static_cast<int>(threads.size()) + 1 < count)
        threads.emplace_back([&held] { const std::scoped_lock wait(held); });
    } catch (const std::exception& error) { problem = error.what(); }
  }
  for (std::thread& thread : threads) thread.join();
  if (!problem.empty())
    throw Error(ErrorKind::unavailable, "out of memory: " + std::to_string(count) + " threads asked for, " +
                                            std::to_string(threads.size() + 1) + " could be started: " + problem +
                                            " (run.threads, OMP_NUM_THREADS)");
}

/// Far more threads than processors spin against each other for ever: refused, as any other mistake.
void set_threads(const Spec& spec) {
  if (!spec.run.threads) return;
  const int processors = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  if (const int most = std::max(64, 4 * processors); *spec.run.threads > most)
    throw Error(ErrorKind::usage, spec.file.string() + ": run.threads " + std::to_string(*spec.run.threads) + " is above " +
                                      std::to_string(most) + ", the most for the " + std::to_string(processors) +
                                      " processors here");
  kernels::set_threads(*spec.run.threads);
}

}  // namespace qfid::eval
