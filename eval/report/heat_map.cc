// Matrices of layers and heads as small multiples on one scale. Cells of one class are one path, so a page of many large
// maps stays small; where there is room, each cell holds its number.
#include <algorithm>
#include <cmath>
#include <format>

#include "eval/report/chart.h"

namespace qfid::eval {

namespace {

constexpr int most_columns_with_numbers = 8;
/// Where cells are. A picture has no labels, and no gaps between its cells.
struct Geometry {
  Geometry(const HeatMap& map, const HeatScale& scale)
      : numbers(map.columns <= most_columns_with_numbers && !scale.picture),
        left(scale.picture ? 0 : 30),
        top(scale.picture ? 0 : 18),
        gap(scale.picture ? 0 : 1),
        cell_width(scale.picture ? 5
                   : numbers     ? 46
                                 : std::clamp(480.0 / std::max(1, map.columns), 6.0, 16.0)),
        cell_height(numbers ? 19 : std::min(cell_width, 14.0)),
        width(std::max(left + map.columns * cell_width, 110.0)),
        height(top + map.rows * cell_height + 1) {}
  double x(double column) const { return left + column * cell_width; }
  double y(double row) const { return top + row * cell_height; }
  std::string cell(int row, int column) const {
    return "M" + coordinate(x(column)) + " " + coordinate(y(row)) + "h" + coordinate(cell_width - gap) + "v" +
           coordinate(cell_height - gap) + "h-" + coordinate(cell_width - gap) + "z";
  }
  bool numbers;
  double left, top, gap, cell_width, cell_height, width, height;
};

int class_of(double value, const HeatScale& scale) {
  if (std::isinf(value)) return (value > 0) == scale.high_is_bad ? heat_classes - 1 : 0;
  const double share = (value - scale.low) / (scale.high - scale.low);
  const double damage = scale.high_is_bad ? share : 1 - share;
  return std::clamp(static_cast<int>(damage * heat_classes), 0, heat_classes - 1);
}

std::string number_text(double value, const HeatScale& scale) {
  if (std::isinf(value)) return "exact";
  if (scale.decades) {  // 4.5e-04 -> 4.5e-4
    std::string text = std::format("{:.1e}", std::pow(10.0, value));
    if (const std::size_t zero = text.find("e-0"); zero != std::string::npos) text.erase(zero + 2, 1);
    return text;
  }
  return std::fabs(scale.high - scale.low) <= 2 ? std::format("{:.2f}", value) : std::format("{:.1f}", value);
}

void add_labels(Html& page, const HeatMap& map, const Geometry& at) {
  const int row_step = std::max(1, static_cast<int>(std::ceil(11 / at.cell_height))),
            column_step = std::max(1, static_cast<int>(std::ceil(18 / at.cell_width)));
  const std::string above = coordinate(at.top - 6);
  page.leaf("text", "L\\H", {{"x", "2"}, {"y", above}, {"class", "tick"}});
  for (int h = 0; h < map.columns; h += column_step)
    page.leaf("text", std::to_string(h), {{"x", coordinate(at.x(h + 0.5))}, {"y", above}, {"class", "tick center"}});
  for (int l = 0; l < map.rows; l += row_step)
    page.leaf("text", std::to_string(l),
              {{"x", coordinate(at.left - 6)}, {"y", coordinate(at.y(l + 0.5))}, {"class", "tick end mid"}});
}

/// Of a picture: pale where there is a value, the page's own colour where there can't be one (a masked key, a code that
/// never occurs), so that "nothing" and "next to nothing" differ.
void add_background(Html& page, const HeatMap& map, const Geometry& at) {
  std::string cells;
  for (int row = 0; row < map.rows; ++row)
    for (int column = 0, end = 0; column < map.columns; column = end + 1) {
      for (end = column; end < map.columns && map.values[static_cast<std::size_t>(row * map.columns + end)];) ++end;
      if (end > column)
        cells += "M" + coordinate(at.x(column)) + " " + coordinate(at.y(row)) + "H" + coordinate(at.x(end)) + "v" +
                 coordinate(at.cell_height) + "H" + coordinate(at.x(column)) + "z";
    }
  if (!cells.empty()) page.empty("path", {{"class", "back"}, {"d", cells}});
  page.empty("path",
             {{"class", "edge"}, {"d", "M0 0H" + coordinate(at.x(map.columns)) + "V" + coordinate(at.y(map.rows)) + "H0z"}});
}

void add_cells(Html& page, const HeatMap& map, const HeatScale& scale, const Geometry& at) {
  std::vector<std::string> paths(heat_classes);
  std::optional<std::size_t> worst;
  for (std::size_t i = 0; i < map.values.size(); ++i) {
    if (!map.values[i]) continue;
    const double value = *map.values[i];
    paths[static_cast<std::size_t>(class_of(value, scale))] += at.cell(map.row_of(i), map.column_of(i));
    if (!worst || (scale.high_is_bad ? value > *map.values[*worst] : value < *map.values[*worst])) worst = i;
  }
  for (std::size_t c = scale.picture ? 1 : 0; c < paths.size(); ++c)
    if (!paths[c].empty()) page.empty("path", {{"class", std::format("h{}", c)}, {"d", paths[c]}});
  if (worst && !scale.picture)
    page.empty("path", {{"class", "worst"}, {"d", at.cell(map.row_of(*worst), map.column_of(*worst))}});
  if (!at.numbers) return;
  for (std::size_t i = 0; i < map.values.size(); ++i)
    if (map.values[i])
      page.leaf("text", number_text(*map.values[i], scale),
                {{"x", coordinate(at.x(map.column_of(i) + 0.5))},
                 {"y", coordinate(at.y(map.row_of(i) + 0.5))},
                 {"class", std::format("cell t{}", class_of(*map.values[i], scale))}});
}

}  // namespace

void add_heat_map(Html& page, const HeatMap& map, const HeatScale& scale) {
  const Geometry at(map, scale);
  page.open("figure").leaf("figcaption", map.title);
  page.open("div", {{"class", "scroll"}, {"tabindex", "0"}, {"role", "region"}, {"aria-label", map.title}});
  page.open("svg", {{"role", "img"},
                    {"class", "heat"},
                    {"viewBox", "0 0 " + coordinate(at.width) + " " + coordinate(at.height)},
                    {"width", coordinate(at.width)},
                    {"height", coordinate(at.height)}});
  page.leaf("title", map.title).leaf("desc", map.description);
  if (scale.picture)
    add_background(page, map, at);
  else
    add_labels(page, map, at);
  add_cells(page, map, scale, at);
  page.close().close().close();
}

void add_heat_legend(Html& page, const HeatScale& scale) {
  page.open("p", {{"class", "legend"}});
  for (int c = 0; c < heat_classes; ++c) {
    const auto edge = [&](double share) {
      return scale.low + (scale.high_is_bad ? share : 1 - share) * (scale.high - scale.low);
    };
    const double from = edge(static_cast<double>(c) / heat_classes);
    page.open("span").open("svg", {{"width", "14"}, {"height", "14"}, {"aria-hidden", "true"}});
    page.empty("path", {{"class", std::format("h{}", c)}, {"d", "M0 0h14v14h-14z"}}).close();
    page.text((scale.high_is_bad ? "\xE2\x89\xA5 " : "\xE2\x89\xA4 ") + number_text(from, scale)).close();
  }
  page.leaf("span", scale.unit + (scale.picture ? "" : "; the worst cell of each map is framed")).close();
}

void add_heat_maps(Html& page, const std::vector<HeatMap>& maps, const HeatScale& scale) {
  page.open("div", {{"class", "maps"}});
  for (const HeatMap& map : maps) add_heat_map(page, map, scale);
  page.close();
  add_heat_legend(page, scale);
}

}  // namespace qfid::eval
