// Memory that can't be had. Where it is asked for by size, the error says how much and for what; std::bad_alloc, which says
// neither, is what remains, and message_of() what is told of it.
#pragma once

#include <exception>
#include <new>
#include <string>

#include "quant/core/error.h"

namespace qfid::quant {

/// "out of memory: BYTES bytes for WHAT".
class OutOfMemory : public Error {
 public:
  OutOfMemory(std::size_t bytes, const std::string& what)
      : Error(ErrorKind::unavailable, "out of memory: " + std::to_string(bytes) + " bytes for " + what) {}
};

/// A std::bad_alloc that knows what was asked for.
class AllocationFailed : public std::bad_alloc {
 public:
  explicit AllocationFailed(std::size_t bytes) noexcept;
  const char* what() const noexcept override { return text_; }

 private:
  char text_[64];
};

/// Whether something failed for want of memory or a device, so that it may well succeed another time: an Error{unavailable},
/// or any std::bad_alloc.
bool is_passing(const std::exception& error);

/// What to tell of an exception: of std::bad_alloc "out of memory", with its size where that is known.
std::string message_of(const std::exception& error);

}  // namespace qfid::quant
