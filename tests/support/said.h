// What an error says, in one line with its exit code.
#pragma once

#include <string>

#include "tests/support/temporary_directory.h"

namespace qfid::tests {

/// "2 message"; "nothing" when it didn't fail.
std::string said(const auto& call) {
  const Failure failure = failure_of([&] { (void)call(); });
  return failure.code == 0 ? "nothing" : std::to_string(failure.code) + " " + failure.message;
}

}  // namespace qfid::tests
