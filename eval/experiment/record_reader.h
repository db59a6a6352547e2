// results.json -> the part of a record that comparisons and gates need: everything but metrics, layers and timings.
#pragma once

#include <filesystem>

#include "eval/experiment/record.h"

namespace qfid::eval {

/// Strict: Error{input} naming path and key for whatever is missing, of another type, or contradicts itself. Keys it doesn't
/// know are left alone (docs/results-format.md, "Stability"); another schema_version is an error.
ExperimentRecord read_results(const std::filesystem::path& path);

}  // namespace qfid::eval
