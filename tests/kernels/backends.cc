#include "tests/kernels/backends.h"

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>

#include "kernels/registry/registry.h"

namespace qfid::tests {

std::vector<std::string> backends() {
  if (const char* asked = std::getenv("QFID_TEST_BACKEND"); asked != nullptr && *asked != '\0') {
    if (const kernels::Support here = kernels::make_backend(asked)->available(); !here)
      SKIP("backend " << asked << " isn't here: " << here.reason);
    return {asked};
  }
  std::vector<std::string> names{"reference"};
  if (kernels::make_backend("cpu")->available()) names.emplace_back("cpu");
  return names;
}

}  // namespace qfid::tests
