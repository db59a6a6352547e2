#include "quant/core/out_of_memory.h"

#include <cstdio>

namespace qfid::quant {

AllocationFailed::AllocationFailed(std::size_t bytes) noexcept {
  std::snprintf(text_, sizeof text_, "out of memory: %zu bytes", bytes);
}

bool is_passing(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  const auto* const own = dynamic_cast<const Error*>(&error);
  return own != nullptr && own->kind() == ErrorKind::unavailable;
}

std::string message_of(const std::exception& error) {
  const bool unknown =
      dynamic_cast<const std::bad_alloc*>(&error) != nullptr && dynamic_cast<const AllocationFailed*>(&error) == nullptr;
  return unknown ? "out of memory" : error.what();
}

}  // namespace qfid::quant
