// Run-time choice of instruction set for vectorized loops. A loop is written once as an always-inline function object in
// portable C++ (plain loops, or GCC vector extensions, which are lowered to what the target has); dispatched() compiles it
// for AVX-512, AVX2 and the base ISA and picks one per process. No fused multiply-add is ever formed but where a source
// asks for one (-ffp-contract=off; std::fma is exact everywhere), so all paths give the same bits; tests run each. No ifunc: resolvers run before sanitizers are ready.
#pragma once

#include <utility>

namespace qfid::quant {

enum class Isa { portable, avx2, avx512 };

/// The best ISA of this CPU, or what force_isa() said.
Isa current_isa();
/// For tests: use `isa` from now on (it must be one the CPU has); returns what was used before.
Isa force_isa(Isa isa);
/// The best this CPU has.
Isa best_isa();

namespace detail {
template <class F, class... Args>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma"))) auto run_avx512(const F& f, Args&&... args) {
  return f(std::forward<Args>(args)...);
}
template <class F, class... Args>
__attribute__((target("avx2,fma"))) auto run_avx2(const F& f, Args&&... args) {
  return f(std::forward<Args>(args)...);
}
}  // namespace detail

/// f must be a function object whose call operator is __attribute__((always_inline)).
template <class F, class... Args>
auto dispatched(const F& f, Args&&... args) {
  switch (current_isa()) {
    case Isa::avx512:
      return detail::run_avx512(f, std::forward<Args>(args)...);
    case Isa::avx2:
      return detail::run_avx2(f, std::forward<Args>(args)...);
    case Isa::portable:
      break;
  }
  return f(std::forward<Args>(args)...);
}

}  // namespace qfid::quant
