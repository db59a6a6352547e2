#include "quant/core/dispatch.h"

#include <atomic>

namespace qfid::quant {

namespace {

Isa detect() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("fma")) return Isa::portable;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return Isa::avx512;
  return __builtin_cpu_supports("avx2") ? Isa::avx2 : Isa::portable;
}

std::atomic<Isa>& chosen() {
  static std::atomic<Isa> isa{detect()};
  return isa;
}

}  // namespace

Isa best_isa() {
  static const Isa isa = detect();
  return isa;
}
Isa current_isa() { return chosen().load(std::memory_order_relaxed); }
Isa force_isa(Isa isa) { return chosen().exchange(isa < best_isa() ? isa : best_isa()); }

}  // namespace qfid::quant
