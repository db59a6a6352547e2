// The parts of results.json that only reports need.
#pragma once

#include "eval/json/json_cursor.h"
#include "eval/experiment/record.h"

namespace qfid::eval {

/// Metrics, layers, gates, pairs, warnings, timings of `root` into a record that already holds its models and runs.
void add_details(ExperimentRecord& record, const JsonCursor& root);

}  // namespace qfid::eval
