// Layer by head: where local errors are, and which heads are sinks.
#include <algorithm>
#include <cmath>
#include <format>

#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/html_sections.h"

namespace qfid::eval {

namespace {

/// A page stays small: no more cells than this in all maps of one tap, the worst targets' first.
constexpr int most_cells = 40'000;

struct Choice {
  const char* tap;
  const char* column;
  const char* title;
  bool decades;  ///< the column is shown by its powers of ten
};
constexpr Choice choices[] = {
    {"output", "sqnr_db", "attention's output: SQNR, dB", false},
    {"probs", "kl", "attention probabilities: KL, nats", true},
    {"q", "sqnr_db", "q projection: SQNR, dB", false},
    {"k", "sqnr_db", "k projection: SQNR, dB", false},
    {"v", "sqnr_db", "v projection: SQNR, dB", false},
};

/// What a cell shows; an error of exactly 0 has no SQNR and is "exact".
std::optional<double> shown(const LayerRow& row, const Choice& choice) {
  const std::optional<double> value = column(row, choice.column);
  if (choice.decades) {
    if (!value || !std::isfinite(*value) || *value < 0) return std::nullopt;
    return *value == 0 ? -INFINITY : std::log10(*value);
  }
  if (value && std::isfinite(*value)) return value;
  return column(row, "nmse") == std::optional<double>(0) ? std::optional<double>(INFINITY) : std::nullopt;
}

std::string description_of(const HeatMap& map, bool high_is_bad) {
  std::optional<std::size_t> worst;
  for (std::size_t i = 0; i < map.values.size(); ++i)
    if (map.values[i] &&
        (!worst || (high_is_bad ? *map.values[i] > *map.values[*worst] : *map.values[i] < *map.values[*worst])))
      worst = i;
  if (!worst) return "no values";
  const int l = static_cast<int>(*worst) / map.columns, h = static_cast<int>(*worst) % map.columns;
  return std::format("{} layers by {} heads; worst at layer {}, head {}: {:.3g}", map.rows, map.columns, l, h,
                     high_is_bad ? std::pow(10.0, *map.values[*worst]) : *map.values[*worst]);
}

std::optional<HeatMap> map_of(const RunRecord& run, const LayerGrid& grid, const Choice& choice, const char* error) {
  HeatMap map;
  map.rows = grid.layers;
  map.columns = grid.heads;
  map.values.resize(static_cast<std::size_t>(grid.layers) * static_cast<std::size_t>(grid.heads));
  bool any = false;
  for (const LayerRow& row : run.layers) {
    if (row.tap != choice.tap || row.error != error || row.head < 0 || row.layer < 0) continue;
    const auto value = shown(row, choice);
    map.values[static_cast<std::size_t>(row.layer) * static_cast<std::size_t>(grid.heads) +
               static_cast<std::size_t>(row.head)] = value;
    any = any || value;
  }
  if (!any) return std::nullopt;
  map.title = run.target;
  map.description = description_of(map, choice.decades);
  return map;
}

/// Finite values' range over all maps.
HeatScale scale_of(const std::vector<std::vector<HeatMap>>& all, const Choice& choice) {
  HeatScale scale{INFINITY, -INFINITY, choice.decades, choice.decades, choice.decades ? "nats" : "dB"};
  for (const auto& maps : all)
    for (const HeatMap& map : maps)
      for (const auto& value : map.values)
        if (value && std::isfinite(*value)) {
          scale.low = std::min(scale.low, *value);
          scale.high = std::max(scale.high, *value);
        }
  if (!(scale.low <= scale.high)) scale.low = scale.high = 0;
  if (scale.high - scale.low < 1e-6) scale.high = scale.low + 1;
  return scale;
}

void add_choice(Html& page, const ExperimentRecord& record, const Choice& choice) {
  std::vector<std::vector<HeatMap>> all;
  bool any = false, cut = false;
  int cells = 0;
  for (const ModelRecord& model : record.models) {
    std::vector<HeatMap>& maps = all.emplace_back();
    const LayerGrid grid = layer_grid(record, model.name);
    if (grid.heads == 0 || grid.layers > most_cells / grid.heads) continue;
    for (const TargetFinding& finding : worst_first(record, model.name)) {
      if (cells + grid.layers * grid.heads > most_cells) {
        cut = true;
        break;
      }
      auto map = map_of(*finding.run, grid, choice, "local");
      if (!map) continue;
      cells += grid.layers * grid.heads;
      any = true;
      maps.push_back(std::move(*map));
    }
  }
  if (!any) return;
  const HeatScale scale = scale_of(all, choice);
  const bool closed = choice.tap[1] == '\0';  // q, k and v
  if (closed) {
    page.open("details").leaf("summary", std::string("Local error, ") + choice.title);
  } else {
    page.leaf("h3", std::string("Local error, ") + choice.title);
  }
  for (std::size_t m = 0; m < all.size(); ++m) {
    if (all[m].empty()) continue;
    if (record.models.size() > 1) page.leaf("h4", record.models[m].name);
    add_heat_maps(page, all[m], scale);
  }
  if (cut) page.leaf("p", "Not every target is drawn, to keep this file small: layers.csv has them all.");
  if (closed) page.close();
}

}  // namespace

void add_heads(Html& page, const ExperimentRecord& record) {
  bool any = false;
  for (const RunRecord& run : record.runs)
    for (const LayerRow& row : run.layers) any = any || (row.error == "local" && row.head >= 0);
  if (!any) return;
  open_section(page, "heads", "Where the damage is made: layer by head");
  page.leaf(
      "p",
      "Each operation was fed with the full-precision run's inputs, so a cell shows damage made there and nowhere else. "
      "Layers go down, heads across; all targets of all models share one scale.");
  for (const Choice& choice : choices) add_choice(page, record, choice);
  page.close();
}

void add_sinks(Html& page, const ExperimentRecord& record) {
  constexpr Choice alpha{"attention_to_first", "alpha0.q64", "", false},
      early{"attention_to_first", "alpha0.T64", "", false};
  std::vector<HeatMap> maps;
  bool short_windows = false;
  for (const ModelRecord& model : record.models) {
    const LayerGrid grid = layer_grid(record, model.name);
    const RunRecord* base = record.find(model.name, "baseline");
    if (base == nullptr || grid.heads == 0 || grid.layers > most_cells / grid.heads) continue;
    auto map = map_of(*base, grid, alpha, "none");
    if (!map) {
      map = map_of(*base, grid, early, "none");
      short_windows = map.has_value();
    }
    if (!map) continue;
    map->title = std::format("{} ({})", model.name, model.variant);
    for (auto& value : map->values)
      if (value && !std::isfinite(*value)) value.reset();
    double most = 0;
    for (const auto& value : map->values) most = std::max(most, value.value_or(0));
    map->description = std::format("{} layers by {} heads; the largest share is {:.3g}", map->rows, map->columns, most);
    maps.push_back(std::move(*map));
  }
  std::vector<std::string> columns{"Model", "Target"};
  for (const RunRecord& run : record.runs)
    for (const Metric& metric : run.metrics)
      if ((metric.name.starts_with("sink_rate") || metric.name.starts_with("drain") || metric.name.starts_with("gate.")) &&
          std::find(columns.begin(), columns.end(), metric.name) == columns.end())
        columns.push_back(metric.name);
  if (maps.empty() && columns.size() == 2) return;
  open_section(page, "sinks", "Sinks and drains");
  if (!maps.empty()) {
    page.leaf("p", std::string("Mean attention to the first key in full precision, by layer and head: ") +
                       (short_windows ? "the first 64 positions" : "queries from position 64 on") +
                       ". Heads near 1 are sinks: they attend to nothing else.");
    add_heat_maps(page, maps, {0, 1, true, false, "of attention"});
  }
  if (columns.size() > 2) {
    open_table(page, "Sinks, drains and gates of every run");
    page.open("thead").row("th", columns).close().open("tbody");
    for (const RunRecord& run : record.runs) {
      if (run.metrics.empty()) continue;
      std::vector<std::string> cells{run.model, run.target};
      for (std::size_t i = 2; i < columns.size(); ++i) cells.push_back(shown_number(find_metric(run, columns[i])));
      page.row("td", cells);
    }
    page.close();
    close_table(page);
  }
  page.close();
}

}  // namespace qfid::eval
