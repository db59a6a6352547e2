// YAML -> Spec. All errors at once, each "file:line:column: what, expected ..., did you mean ...".
// One table of keys drives validation, the JSON Schema and configs/README.md.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "eval/experiment/spec.h"
#include "eval/experiment/yaml_tree.h"

namespace qfid::eval {

/// Reads, applies `sets` ("targets.int8.backend=reference"), validates. Throws quant::Error{usage} whose message has one
/// line per error; a configuration file that doesn't exist or can't be read is Error{usage} too.
Spec read_spec(const std::filesystem::path& file, const std::vector<std::string>& sets = {});
/// The same of `text`, which stands in `file`.
Spec read_spec(const std::filesystem::path& file, std::string text, const std::vector<std::string>& sets);

/// The gates of a configuration, or of a file that holds nothing but `gates:` (and `version:`); the rest isn't read. `text`
/// stands in `file`, whose directory paths are relative to. Errors as read_spec's; none is an error too.
std::vector<GateSpec> read_gates(const std::filesystem::path& file, const std::string& text,
                                 const std::vector<std::string>& sets = {});
std::vector<GateSpec> read_gates(const std::filesystem::path& file);

/// The targets of a configuration, or of a file that holds nothing but `targets:` (with `presets:` and `version:`); the rest
/// isn't read, static ranges need no calibration data here. Errors as read_spec's; none is an error too.
std::vector<TargetSpec> read_targets(const std::filesystem::path& file, const std::string& text);
std::vector<TargetSpec> read_targets(const std::filesystem::path& file);

/// A configuration's text with `sets` applied, not checked. YamlProblem where the text isn't YAML, Error{usage} where a set
/// can't be applied.
YamlNode configuration_tree(const std::string& text, const std::vector<std::string>& sets);

/// The draft-07 JSON Schema of the configuration, from the same table that validates.
std::string spec_schema();

/// Names and YAML text of the built-in presets (configs/presets/*.yaml, embedded at build time).
struct PresetText {
  std::string name, text;
};
const std::vector<PresetText>& presets();

}  // namespace qfid::eval
