// What this build is.
#pragma once

#include <string>

namespace qfid::eval {
std::string tool_version();
std::string git_commit();  ///< short hash at configure time, "-dirty" when the tree had changes; "unknown" outside git
std::string compiler();
}  // namespace qfid::eval
