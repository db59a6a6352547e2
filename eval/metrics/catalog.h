// What every measure is, in words: the source of `qfid metrics` and of docs/metrics-reference.md. A measure that isn't here,
// or that nothing computes, fails tests/docs. Left out: whether it can be gated, which the gates know
// (eval/experiment/gates.h), and the budget's shares, whose keys are parts of a target (docs/metrics.md, "Error budget").
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace qfid::eval {

/// Where the number stands: of a run, or a column of a kind of rows of the layer tables.
enum class MetricLevel : std::uint8_t { model, tensor, rows, coded, parts, where, one };

struct MetricInfo {
  MetricLevel level;
  std::string_view keys;    ///< one or more, a space between
  std::string_view unit;    ///< "" for a count or a plain number
  std::string_view better;  ///< "lower", "higher", "0", "1" (the nearer the better); "": neither
  std::string_view what;    ///< plain text; Markdown's ` around keys
  std::string_view blind;   ///< what it can't see; "": it describes, and compares nothing
};

const std::vector<MetricInfo>& model_metric_catalog();
const std::vector<MetricInfo>& layer_metric_catalog();

}  // namespace qfid::eval
