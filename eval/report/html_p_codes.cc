// Codes of attention's probabilities: how often each occurs, by layer; what coding costs; which part of attention's error is
// P's and which V's; whether errors lie beside outliers.
#include <algorithm>
#include <cmath>
#include <format>
#include <numeric>

#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/html_sections.h"

namespace qfid::eval {

namespace {

constexpr int groups = 32;           ///< columns after that of code 0
constexpr double least_decade = -6;  ///< rarer codes are drawn as this rare

/// The largest code that occurs; codes of P are in the order of their values, as P isn't negative.
int largest_code(const std::vector<CodeHistogram>& layers) {
  int largest = 0;
  for (const CodeHistogram& layer : layers)
    for (int code = 0; code < static_cast<int>(layer.counts.size()); ++code)
      if (layer.counts[static_cast<std::size_t>(code)] > 0) largest = std::max(largest, code);
  return largest;
}

std::vector<std::int64_t> pooled(const std::vector<CodeHistogram>& layers) {
  std::vector<std::int64_t> all(256);
  for (const CodeHistogram& layer : layers)
    for (std::size_t i = 0; i < std::min(all.size(), layer.counts.size()); ++i) all[i] += layer.counts[i];
  return all;
}

double share(std::int64_t part, std::int64_t all) {
  return all == 0 ? 0 : static_cast<double>(part) / static_cast<double>(all);
}

/// Layers down, codes across: code 0, then groups of codes of equal number.
HeatMap map_of(const RunRecord& run) {
  const int largest = largest_code(run.p_codes), width = std::max(1, (largest + groups - 1) / groups);
  HeatMap map;
  map.title = std::format("{} ({})", run.target, run.p_codes[0].format);
  map.rows = static_cast<int>(run.p_codes.size());
  map.columns = 1 + (largest + width - 1) / width;
  map.values.resize(static_cast<std::size_t>(map.rows * map.columns));
  for (int l = 0; l < map.rows; ++l) {
    const std::vector<std::int64_t>& counts = run.p_codes[static_cast<std::size_t>(l)].counts;
    const std::int64_t all = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    std::vector<std::int64_t> sums(static_cast<std::size_t>(map.columns));
    for (int code = 0; code <= largest; ++code)
      sums[static_cast<std::size_t>(code == 0 ? 0 : 1 + (code - 1) / width)] += counts[static_cast<std::size_t>(code)];
    for (int c = 0; c < map.columns; ++c)
      if (const std::int64_t sum = sums[static_cast<std::size_t>(c)]; sum > 0)
        map.values[static_cast<std::size_t>(l * map.columns + c)] = std::max(least_decade, std::log10(share(sum, all)));
  }
  const std::vector<std::int64_t> total = pooled(run.p_codes);
  map.description =
      std::format("{} layers by {} groups of codes, {} codes a group; {:.3g} of all are code 0", map.rows, map.columns,
                  width, share(total[0], std::accumulate(total.begin(), total.end(), std::int64_t{0})));
  return map;
}

void add_table(Html& page, const std::vector<const RunRecord*>& runs) {
  open_table(page, "Codes of attention's probabilities");
  page.open("thead")
      .row("th", {"Model", "Target", "Format", "Zero codes", "Codes in use", "Mass on zero codes", "Total variation", "JSD"})
      .close()
      .open("tbody");
  for (const RunRecord* run : runs) {
    const std::vector<std::int64_t> total = pooled(run->p_codes);
    const auto used = std::count_if(total.begin(), total.end(), [](std::int64_t n) { return n > 0; });
    page.row("td",
             {run->model, run->target, run->p_codes[0].format,
              shown_number(share(total[0], std::accumulate(total.begin(), total.end(), std::int64_t{0}))),
              std::format("{}", used), shown_number(find_metric(*run, "p_codes.flushed_mass")),
              shown_number(find_metric(*run, "p_codes.total_variation")), shown_number(find_metric(*run, "p_codes.jsd"))});
  }
  page.close();
  close_table(page);
}

/// What makes a row of all heads the worst of a run's; nothing: it isn't one of them.
using Badness = std::optional<double> (*)(const LayerRow&);

std::optional<double> error_in_parts(const LayerRow& row) {
  return row.tap == "context" ? column(row, "nmse") : std::nullopt;
}

/// Outlier tokens' share of the error beyond their share of the tokens.
std::optional<double> error_beside_outliers(const LayerRow& row) {
  const std::optional<double> error = column(row, "outlier_token_error"), tokens = column(row, "outlier_tokens");
  return error && tokens ? std::optional(*error - *tokens) : std::nullopt;
}

const LayerRow* worst_by(const RunRecord& run, Badness badness) {
  const LayerRow* worst = nullptr;
  double most = 0;
  for (const LayerRow& row : run.layers) {
    if (row.error != "local" || row.head != -1) continue;
    const std::optional<double> value = badness(row);
    if (!value || !std::isfinite(*value) || (worst != nullptr && *value <= most)) continue;
    most = *value;
    worst = &row;
  }
  return worst;
}

/// One row a target: its worst place, and these columns of it. Nothing is written without any.
void add_worst(Html& page, const ExperimentRecord& record, const std::string& caption, Badness badness,
               const std::vector<std::pair<std::string, const char*>>& columns) {
  std::vector<std::vector<std::string>> rows;
  for (const ModelRecord& model : record.models)
    for (const TargetFinding& finding : worst_first(record, model.name)) {
      const LayerRow* row = worst_by(*finding.run, badness);
      if (row == nullptr) continue;
      std::vector<std::string>& cells = rows.emplace_back();
      cells = {finding.run->model, finding.run->target, std::format("{}", row->layer), row->tap};
      for (const auto& [title, name] : columns) cells.push_back(shown_number(column(*row, name)));
    }
  if (rows.empty()) return;
  open_table(page, caption);
  std::vector<std::string> titles{"Model", "Target", "Layer", "Tap"};
  for (const auto& [title, name] : columns) titles.push_back(title);
  page.open("thead").row("th", titles).close().open("tbody");
  for (const std::vector<std::string>& cells : rows) page.row("td", cells);
  page.close();
  close_table(page);
}

}  // namespace

void add_p_codes(Html& page, const ExperimentRecord& record) {
  std::vector<const RunRecord*> runs;
  for (const ModelRecord& model : record.models)
    for (const TargetFinding& finding : worst_first(record, model.name))
      if (!finding.run->p_codes.empty()) runs.push_back(finding.run);
  if (runs.empty()) return;
  open_section(page, "p-codes", "Codes of attention's probabilities");
  page.leaf(
      "p",
      "How often each code occurs where a query sees the key, all heads together. Layers go down, codes across, small to "
      "large; the first column is code 0 alone. A format whose right half is empty has codes to spare; mass on zero "
      "codes is what full precision gives to keys that the target drops.");
  const HeatScale scale{least_decade, 0, true, true, "of a layer's codes", true};
  for (const ModelRecord& model : record.models) {
    std::vector<HeatMap> maps;
    for (const RunRecord* run : runs)
      if (run->model == model.name) maps.push_back(map_of(*run));
    if (maps.empty()) continue;
    if (record.models.size() > 1) page.leaf("h3", model.name);
    page.open("div", {{"class", "maps"}});
    for (const HeatMap& map : maps) add_heat_map(page, map, scale);
    page.close();
  }
  add_heat_legend(page, scale);
  add_table(page, runs);
  page.close();
}

void add_error_parts(Html& page, const ExperimentRecord& record) {
  bool any = false;
  for (const RunRecord& run : record.runs)
    any = any || worst_by(run, error_in_parts) != nullptr || worst_by(run, error_beside_outliers) != nullptr;
  if (!any) return;
  open_section(page, "parts", "What makes the error, and where it lies");
  page.leaf(
      "p",
      "Local errors, each target's worst place. Attention's error is that of the probabilities (P's part) and that of "
      "the values (V's), each from the first key and from the others; as parts of the output's energy. Parts may cancel.");
  add_worst(page, record, "Attention's error in parts, worst layer", error_in_parts,
            {{"NMSE", "nmse"},
             {"P's part", "nmse_p"},
             {"first key", "nmse_p_first"},
             {"other keys", "nmse_p_others"},
             {"V's part", "nmse_v"},
             {"first key", "nmse_v_first"},
             {"other keys", "nmse_v_others"}});
  page.leaf("p",
            "Tokens and channels with a value six standard deviations from the mean: their share of all, and of the error. "
            "Without outliers the two are 0.");
  add_worst(page, record, "Errors beside outliers: where outlier tokens have most of it beyond their number",
            error_beside_outliers,
            {{"Outlier tokens", "outlier_tokens"},
             {"their error", "outlier_token_error"},
             {"Outlier channels", "outlier_channels"},
             {"their error", "outlier_channel_error"},
             {"NMSE", "nmse"},
             {"without the first token", "nmse_but_first"}});
  page.close();
}

}  // namespace qfid::eval
