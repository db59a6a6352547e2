// Metrics as JSON, and what is made of them alone: read and written in one place.
#pragma once

#include <nlohmann/json.hpp>

#include "eval/experiment/scored_change.h"
#include "eval/json/json_cursor.h"

namespace qfid::eval {

/// A number, null where there is none or it isn't finite.
nlohmann::ordered_json number_json(std::optional<double> value);
nlohmann::ordered_json metric_json(const Metric& metric);
Metric metric_of(const std::string& name, const JsonCursor& at);
std::optional<Interval> interval_of(const JsonCursor& at, const std::string& key);

nlohmann::ordered_json scored_change_json(const ScoredChange& change);
ScoredChange scored_change_of(const JsonCursor& at);

}  // namespace qfid::eval
