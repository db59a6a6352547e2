// The `gates:` node of a configuration -> GateSpecs. The key table has checked the node; this adds what it can't say.
#pragma once

#include <filesystem>
#include <vector>

#include "eval/experiment/config_check.h"
#include "eval/experiment/gate_spec.h"
#include "eval/experiment/spec.h"

namespace qfid::eval {

/// Paths are relative to `directory`.
std::vector<GateSpec> gates_from(const YamlNode& gates, const std::filesystem::path& directory, Problems& problems);

/// What a gate needs of the experiment that is to measure it.
void check_measurable(const GateSpec& gate, const Spec& spec, const YamlNode& node, Problems& problems);

}  // namespace qfid::eval
