// The `gates:` node of a configuration -> GateSpecs. The key table has checked the node; this adds what it can't say.
#pragma once

#include <filesystem>
#include <vector>

#include "eval/experiment/config_check.h"
#include "eval/experiment/gate_spec.h"

namespace qfid::eval {

/// Paths are relative to `directory`.
std::vector<GateSpec> gates_from(const YamlNode& gates, const std::filesystem::path& directory, Problems& problems);

}  // namespace qfid::eval
