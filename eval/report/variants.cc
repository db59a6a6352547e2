// Models side by side under each target, as the papers on outliers tabulate them (Bondarenko et al. 2023, arXiv 2306.12929,
// Table 2): perplexity in full precision and quantized, what quantizing costs with its interval, the largest infinity norm
// and kurtosis. Written where a record holds several models. Intervals are over windows: between one training seed of each
// model they say nothing about the variants themselves, and the text under the table says so.
#include "eval/report/format.h"
#include "eval/report/html_sections.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

struct VariantRow {
  const ModelRecord* model;
  const RunRecord *full, *run;
};

/// Targets in order, each with the models that ran under it; fewer than two models aren't side by side.
std::vector<std::pair<std::string, std::vector<VariantRow>>> by_target(const ExperimentRecord& record) {
  std::vector<std::pair<std::string, std::vector<VariantRow>>> all;
  for (const RunRecord& run : record.runs) {
    if (run.target == "baseline") continue;
    const auto found = std::find_if(all.begin(), all.end(), [&](const auto& entry) { return entry.first == run.target; });
    auto& rows = found == all.end() ? all.emplace_back(run.target, std::vector<VariantRow>{}).second : found->second;
    const RunRecord* full = record.find(run.model, "baseline");
    for (const ModelRecord& model : record.models)
      if (model.name == run.model && full != nullptr && find_metric(run, "perplexity") != nullptr)
        rows.push_back({&model, full, &run});
  }
  std::erase_if(all, [](const auto& entry) { return entry.second.size() < 2; });
  return all;
}

std::string with_interval(const Metric* metric) {
  if (metric == nullptr) return "-";
  return short_number(metric) + (metric->ci ? " (" + interval_text(metric) + ")" : "");
}

std::vector<std::string> cells_of(const VariantRow& row) {
  const auto both = [&](const char* name) {
    return short_number(find_metric(*row.full, name)) + ", " + short_number(find_metric(*row.run, name));
  };
  const Metric* difference = find_metric(*row.run, "perplexity.difference");
  return {row.model->name,
          row.model->variant,
          with_interval(find_metric(*row.full, "perplexity")),
          with_interval(find_metric(*row.run, "perplexity")),
          short_number(difference),
          with_interval(find_metric(*row.run, "perplexity.ratio")),
          both("inf_norm.outlier_free"),
          both("kurtosis.outlier_free")};
}

const std::vector<std::string> headings{
    "Model",         "Attention", "Perplexity, full precision", "Perplexity, quantized", "Difference", "Ratio",
    "Infinity norm", "Kurtosis"};

std::string caveat(const ExperimentRecord& record) {
  return std::format(
      "Intervals are at {:g} % over windows, for these checkpoints. One training seed of each says nothing about the "
      "variants "
      "of attention themselves. Infinity norms and kurtosis (inf_norm.outlier_free, kurtosis.outlier_free) are those of "
      "full precision, then quantized.",
      100 * record.confidence);
}

}  // namespace

std::string markdown_variants(const ExperimentRecord& record) {
  const auto all = by_target(record);
  if (all.empty()) return "";
  std::string text = "## Models side by side\n\n";
  for (const auto& [target, rows] : all) {
    text += "### " + cell(target) + "\n\n|";
    for (const std::string& heading : headings) text += " " + heading + " |";
    text += "\n|";
    for (std::size_t i = 0; i < headings.size(); ++i) text += "---|";
    text += "\n";
    for (const VariantRow& row : rows) {
      text += "|";
      for (const std::string& value : cells_of(row)) text += " " + cell(value) + " |";
      text += "\n";
    }
    text += "\n";
  }
  return text + caveat(record) + "\n\n";
}

void add_variants(Html& page, const ExperimentRecord& record) {
  const auto all = by_target(record);
  if (all.empty()) return;
  open_section(page, "variants", "Models side by side");
  for (const auto& [target, rows] : all) {
    page.leaf("h3", target);
    open_table(page, "Under " + target);
    page.open("thead").row("th", headings).close().open("tbody");
    for (const VariantRow& row : rows) {
      const std::vector<std::string> cells = cells_of(row);
      page.open("tr").leaf("th", cells[0], {{"scope", "row"}});
      for (std::size_t i = 1; i < cells.size(); ++i) page.leaf("td", cells[i]);
      page.close();
    }
    page.close();
    close_table(page);
  }
  page.leaf("p", caveat(record), {{"class", "small"}}).close();
}

}  // namespace qfid::eval
