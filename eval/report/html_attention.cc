// Attention maps of the heads that matter: full precision beside the targets, a few heads of each model.
#include <algorithm>
#include <cmath>
#include <format>

#include "eval/report/findings.h"
#include "eval/report/html_sections.h"

namespace qfid::eval {

namespace {

constexpr std::size_t most_targets = 2;  ///< beside the baseline, the worst first
constexpr double least = -3;             ///< thousandths are kept, so a decade below is nothing

HeatMap map_of(const std::string& target, const std::vector<std::vector<int>>& rows) {
  HeatMap map;
  map.title = target;
  map.rows = static_cast<int>(rows.size());
  int first_key = 0;
  for (const std::vector<int>& row : rows) {
    map.columns = std::max(map.columns, static_cast<int>(row.size()));
    first_key += row.empty() ? 0 : row[0];
  }
  map.values.resize(static_cast<std::size_t>(map.rows) * static_cast<std::size_t>(map.columns));
  for (std::size_t q = 0; q < rows.size(); ++q)
    for (std::size_t k = 0; k < rows[q].size(); ++k)
      map.values[q * static_cast<std::size_t>(map.columns) + k] =
          rows[q][k] > 0 ? std::log10(rows[q][k] / 1000.0) : -INFINITY;  // a row ends where its masked keys begin
  map.description = std::format("{} query blocks by {} key blocks; mean attention to the first key {:.2g}", map.rows,
                                map.columns, rows.empty() ? 0.0 : first_key / 1000.0 / static_cast<double>(rows.size()));
  return map;
}

void add_head(Html& page, const ExperimentRecord& record, const AttentionHead& head) {
  std::vector<HeatMap> maps;
  const auto add = [&](const std::string& target) {
    for (const auto& [name, rows] : head.maps)
      if (name == target) maps.push_back(map_of(name, rows));
  };
  add("baseline");
  std::size_t shown = 0;
  for (const TargetFinding& finding : worst_first(record, head.model))
    if (shown++ < most_targets) add(finding.run->target);
  page.open("div").leaf("h3", std::format("{}, layer {}, head {}", head.model, head.layer, head.head));
  page.leaf("p", head.why + (head.block > 1 ? std::format("; {} queries a row", head.block) : std::string()),
            {{"class", "small"}});
  page.open("div", {{"class", "maps"}});
  for (const HeatMap& map : maps) add_heat_map(page, map, {least, 0, true, true, "", true});
  page.close().close();
}

/// Each model's first, then each model's second, ...: what is alike stands side by side.
std::vector<const AttentionHead*> side_by_side(const ExperimentRecord& record) {
  std::vector<const AttentionHead*> sorted;
  for (std::size_t rank = 0; rank < record.attention.size(); ++rank)
    for (const ModelRecord& model : record.models) {
      std::size_t seen = 0;
      for (const AttentionHead& head : record.attention)
        if (head.model == model.name && seen++ == rank) sorted.push_back(&head);
    }
  return sorted;
}

}  // namespace

void add_attention(Html& page, const ExperimentRecord& record) {
  if (record.attention.empty()) return;
  open_section(page, "attention", "Attention of the heads that matter");
  page.leaf(
      "p",
      "The first window. Queries go down, keys across; the first column is the first key alone, so a sink is a stripe at "
      "the left edge. Palest: less than a thousandth; blank: masked. Full precision beside the two worst targets, each on "
      "its own hidden states; results.json has them all.");
  page.open("div", {{"class", "charts"}});
  for (const AttentionHead* head : side_by_side(record)) add_head(page, record, *head);
  page.close();
  add_heat_legend(page, {least, 0, true, true, "of a query's attention, by block of keys", true});
  page.close();
}

}  // namespace qfid::eval
