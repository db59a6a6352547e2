// `--set KEY=VALUE` of the command line, written into a configuration's tree.
#pragma once

#include <string>

#include "eval/experiment/config_check.h"
#include "eval/experiment/yaml_tree.h"

namespace qfid::eval {

/// "a.b.c=VALUE": VALUE is YAML. Maps on the way are created. Problems name the option as their place, and so do those that
/// are found later in what it wrote.
void apply_set(YamlNode& root, const std::string& text, Problems& problems);

}  // namespace qfid::eval
