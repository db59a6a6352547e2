// Which backends the tests of kernels run on: those on the host, or the one that QFID_TEST_BACKEND names (ctest runs the
// same binary again with it set to gpu). A backend that isn't here skips the test, saying why.
#pragma once

#include <string>
#include <vector>

namespace qfid::tests {

/// reference, and cpu where it was built; or the one asked for.
std::vector<std::string> backends();

}  // namespace qfid::tests
