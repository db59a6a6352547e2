// Every measure by its key, as Markdown: `qfid metrics`, and docs/metrics-reference.md. Tables, since people search in them.
#include <algorithm>
#include <format>

#include "eval/experiment/gates.h"
#include "eval/metrics/catalog.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

struct Heading {
  MetricLevel level;
  const char* title;
  const char* words;
};
constexpr Heading headings[] = {
    {MetricLevel::model, "Of a run", "`runs[].metrics` of results.json, and metrics.csv."},
    {MetricLevel::tensor, "Comparisons of tensors",
     "Columns of the layer tables (`runs[].layers`, layers.csv), x the baseline's tensor, y the target's."},
    {MetricLevel::rows, "Probability rows before coding", "Columns at the tap `probs`."},
    {MetricLevel::coded, "Probability rows on the codes", "Columns at the tap `p_codes`."},
    {MetricLevel::parts, "Attention's error in parts", "Columns at the tap `context`, local; squared norms over ‖PV‖²."},
    {MetricLevel::where, "Where the error lies", "Columns of local rows, all heads together."},
    {MetricLevel::one, "About one tensor", "Columns of rows whose `error` is `none`."},
};

/// Pipes would end a cell.
std::string in_cell(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

std::string in_backticks(std::string_view keys) {
  std::string out = "`";
  for (const char c : keys) out += c == ' ' ? std::string("` `") : std::string(1, c);
  return out + "`";
}

std::string_view gated(std::string_view keys) {
  const auto& all = gate_metrics();
  return std::any_of(all.begin(), all.end(), [&](const GateMetric& metric) { return metric.name == keys; }) ? "yes" : "";
}

std::string row_of(const MetricInfo& info) {
  const bool model = info.level == MetricLevel::model;
  return std::format("| {} | {} | {} | {} |{} {} |\n", in_backticks(info.keys), in_cell(info.what), info.unit, info.better,
                     model ? std::format(" {} |", gated(info.keys)) : std::string(), in_cell(info.blind));
}

}  // namespace

std::string metrics_reference() {
  std::string text =
      "# Every measure\n\n"
      "Written by `qfid metrics` from the program's own list. Definitions at length, protocols and intervals: "
      "[metrics.md](metrics.md). *Better* says where a faithful target lies: lower, higher, or near the number; nothing "
      "where "
      "the number only describes. What can be gated: [gates.md](gates.md). Shares of an error budget aren't here: their "
      "keys "
      "are a target's parts ([metrics.md](metrics.md#error-budget-budgets)). Noise floors and interventions have the keys "
      "of a run.\n";
  for (const Heading& heading : headings) {
    const bool model = heading.level == MetricLevel::model;
    text += std::format("\n## {}\n\n{}\n\n| key | what it is | unit | better |{} can't see |\n|---|---|---|---|{}---|\n",
                        heading.title, heading.words, model ? " gate |" : "", model ? "---|" : "");
    for (const MetricInfo& info : model ? model_metric_catalog() : layer_metric_catalog())
      if (info.level == heading.level) text += row_of(info);
  }
  return text;
}

}  // namespace qfid::eval
