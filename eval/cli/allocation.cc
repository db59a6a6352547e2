// operator new of the program (of it alone: libraries leave their host's in place): one that fails says how much was asked
// for, whoever asked.
#include <cstdlib>
#include <new>

#include "quant/core/out_of_memory.h"

namespace qfid::eval {
namespace {

void* allocated(std::size_t bytes) {
  if (void* const memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw quant::AllocationFailed(bytes);
}

}  // namespace
}  // namespace qfid::eval

using qfid::eval::allocated;

void* operator new(std::size_t bytes) { return allocated(bytes); }
void* operator new[](std::size_t bytes) { return allocated(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
