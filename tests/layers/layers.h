// The floors, checked from the text of the sources. What a folder may use comes from one place, the DEPENDS and LINK of
// CMakeLists.txt, which CMake writes to generated/floors.txt: one line a folder, "folder: dependencies | linked packages".
// Left out: what the compiler and the linker see anyway, and the tests' own includes (a test may look at every floor).
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

namespace qfid::tests {

struct Floor {
  std::set<std::string> depends;      ///< folders, as written
  std::vector<std::string> packages;  ///< CMake targets or library paths
};
using Floors = std::map<std::string, Floor>;

/// Path relative to the project ("quant/codec.h") -> text.
using Sources = std::map<std::string, std::string>;

Floors read_floors(const std::string& text);
/// The floors themselves: every dependency is a floor, none depends on itself by way of others. One message a fault.
std::vector<std::string> floor_faults(const Floors& floors);
/// "file:line: what is wrong, what is allowed", in order of files and lines; empty when the floors hold.
std::vector<std::string> source_faults(const Floors& floors, const Sources& sources);
/// Every .h, .cc, .cu, .cuh below the given folders of the project.
Sources read_sources(const std::string& project, const std::vector<std::string>& folders);

}  // namespace qfid::tests
