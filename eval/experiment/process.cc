#include "eval/experiment/process.h"

#include <sys/resource.h>

#include <algorithm>
#include <ctime>
#include <thread>

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
