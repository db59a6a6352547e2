#include "kernels/host/cache_size.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>

namespace qfid::kernels::host {

namespace {

std::int64_t detected() {
  const std::int64_t found = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return found <= 0 ? 1 << 20 : std::clamp<std::int64_t>(found, 256 << 10, 4 << 20);
}

std::atomic<std::int64_t>& forced() {
  static std::atomic<std::int64_t> bytes{-1};
  return bytes;
}

}  // namespace

std::int64_t l2_bytes() {
  static const std::int64_t own = detected();
  const std::int64_t said = forced().load(std::memory_order_relaxed);
  return said < 0 ? own : said;
}

std::int64_t force_l2_bytes(std::int64_t bytes) { return forced().exchange(bytes); }

}  // namespace qfid::kernels::host
