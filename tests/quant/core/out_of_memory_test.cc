// Want of memory: what may succeed another time, and what is said of it.
#include "quant/core/out_of_memory.h"

#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <new>
#include <stdexcept>

using namespace qfid::quant;

TEST_CASE("memory and devices may be there another time, mistakes stay") {
  CHECK(is_passing(std::bad_alloc()));
  CHECK(is_passing(AllocationFailed(8)));
  CHECK(is_passing(OutOfMemory(8, "a tensor")));
  CHECK(is_passing(Error(ErrorKind::unavailable, "no device")));
  for (const ErrorKind kind : {ErrorKind::usage, ErrorKind::input, ErrorKind::internal})
    CHECK_FALSE(is_passing(Error(kind, "x")));
  CHECK_FALSE(is_passing(std::runtime_error("x")));
}

TEST_CASE("the message of want of memory has the bytes where they are known") {
  CHECK(message_of(std::bad_alloc()) == "out of memory");
  CHECK(message_of(AllocationFailed(123)) == "out of memory: 123 bytes");
  CHECK(message_of(AllocationFailed(SIZE_MAX)) == "out of memory: 18446744073709551615 bytes");
  CHECK(message_of(OutOfMemory(123, "a tensor")) == "out of memory: 123 bytes for a tensor");
  CHECK(message_of(std::runtime_error("x")) == "x");
}
