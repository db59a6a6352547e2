// results.json -> record: the part that comparisons and gates need, or all of it for reports.
#pragma once

#include "eval/experiment/record.h"
#include "quant/core/input_file.h"

namespace qfid::eval {

/// Everything but metrics, layers, gates, pairs, warnings and timings. Strict: Error{input} naming path and key for whatever
/// is missing, of another type, or contradicts itself. Keys it doesn't know are left alone (docs/results-format.md,
/// "Stability"); another schema_version is an error.
ExperimentRecord read_results(const quant::FileContent& file);

/// The whole record but the per-token series, as strict. results_json of it gives the file's bytes when this version of the
/// program wrote it.
ExperimentRecord read_whole_record(const quant::FileContent& file);

}  // namespace qfid::eval
