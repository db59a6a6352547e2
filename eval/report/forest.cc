// A forest plot as a column of a table: an interval a row, one axis, bounds and the line of no effect across all rows; and
// distributions as rows on one logarithmic axis.
#include <algorithm>
#include <cmath>
#include <format>

#include "eval/report/chart.h"

namespace qfid::eval {

namespace {

constexpr double forest_width = 280, forest_height = 34, margin = 10;

std::vector<double> decades(const ForestAxis& axis) {
  std::vector<double> all;
  for (int e = static_cast<int>(std::ceil(std::log10(axis.low))); e <= std::floor(std::log10(axis.high)); ++e)
    all.push_back(std::pow(10.0, e));
  return all;
}

/// The axis is logarithmic; what is beyond is drawn at the edge.
double x_of(const ForestAxis& axis, double value) {
  const double share = value > 0 ? (std::log(value) - std::log(axis.low)) / (std::log(axis.high) - std::log(axis.low)) : 0;
  return margin + std::clamp(share, 0.0, 1.0) * (forest_width - 2 * margin);
}

std::string vertical(double x, double height) { return "M" + coordinate(x) + " 0V" + coordinate(height); }

void open_forest(Html& page, const std::string& description, double height) {
  page.open("svg", {{"role", "img"},
                    {"class", "forest"},
                    {"width", coordinate(forest_width)},
                    {"height", coordinate(height)},
                    {"viewBox", "0 0 " + coordinate(forest_width) + " " + coordinate(height)}});
  page.leaf("title", description);
}

void add_interval(Html& page, const ForestAxis& axis, const ForestRow& row) {
  const double y = forest_height / 2, x = x_of(axis, row.value);
  const bool beyond = row.value > axis.high || row.value < axis.low;
  if (row.interval && !beyond) {
    const double from = x_of(axis, row.interval->first), to = x_of(axis, row.interval->second);
    page.empty("path", {{"class", "range"},
                        {"d", "M" + coordinate(from) + " " + coordinate(y) + "H" + coordinate(to) + "M" + coordinate(from) +
                                  " " + coordinate(y - 5) + "v10M" + coordinate(to) + " " + coordinate(y - 5) + "v10"}});
  }
  if (beyond) {
    const double way = row.value > axis.high ? 1 : -1;  // an arrow: beyond the axis
    page.empty("path", {{"class", "point"},
                        {"d", "M" + coordinate(x - way * 4) + " " + coordinate(y - 6) + "l" + coordinate(way * 9) + " 6l" +
                                  coordinate(-way * 9) + " 6z"}});
    page.leaf("text", std::format("{} {:.4g}", axis.sign, row.value),
              {{"x", coordinate(x - way * 12)}, {"y", coordinate(y)}, {"class", way > 0 ? "tick end mid" : "tick mid"}});
    return;
  }
  page.empty("circle", {{"class", "point"}, {"cx", coordinate(x)}, {"cy", coordinate(y)}, {"r", "4"}});
}

}  // namespace

void add_forest_axis(Html& page, const ForestAxis& axis) {
  open_forest(page, "axis: " + axis.name, 24);
  double last = -1000;
  for (const double tick : axis.high > 10 * axis.low ? decades(axis) : linear_ticks(axis.low, axis.high, 4)) {
    const double x = x_of(axis, tick);
    if (x - last < 48 || x < margin + 8 || x > forest_width - margin - 8) continue;
    last = x;
    page.leaf("text", axis.sign + tick_text(tick), {{"x", coordinate(x)}, {"y", "12"}, {"class", "tick center"}});
    page.empty("path", {{"class", "frame"}, {"d", "M" + coordinate(x) + " 18v6"}});
  }
  page.close();
}

void add_forest_row(Html& page, const ForestAxis& axis, const ForestRow& row) {
  open_forest(page, row.description, forest_height);
  if (axis.zero) page.empty("path", {{"class", "zero"}, {"d", vertical(x_of(axis, *axis.zero), forest_height)}});
  for (const double bound : row.upper_bounds)
    page.empty("path", {{"class", "bound"}, {"d", vertical(x_of(axis, bound), forest_height)}});
  for (const double bound : row.lower_bounds)
    page.empty("path", {{"class", "bound"}, {"d", vertical(x_of(axis, bound), forest_height)}});
  add_interval(page, axis, row);
  page.close();
}

namespace {

constexpr double names = 170, plot_end = 740, row_height = 44;

void add_distribution(Html& page, const DistributionChart& chart, const Distribution& row, double y) {
  const auto x_of_decade = [&](double decade) {
    return names + (decade - chart.low_decade) / (chart.high_decade - chart.low_decade) * (plot_end - names);
  };
  page.leaf("text", row.name, {{"x", "4"}, {"y", coordinate(y - 16)}, {"class", "label"}});
  page.leaf("text", row.note, {{"x", "4"}, {"y", coordinate(y - 2)}, {"class", "tick"}});
  const double most = *std::max_element(row.counts.begin(), row.counts.end());
  const double step = (plot_end - names) / static_cast<double>(row.counts.size());
  std::string path = "M" + coordinate(names) + " " + coordinate(y);
  for (const double count : row.counts)
    path += "V" + coordinate(y - (most > 0 ? count / most : 0) * (row_height - 8)) + "h" + coordinate(step);
  page.empty("path", {{"class", "area"}, {"d", path + "V" + coordinate(y) + "z"}});
  for (const auto& [name, value] : row.marks) {
    if (!(value > 0)) continue;
    const double x = x_of_decade(std::clamp(std::log10(value), chart.low_decade, chart.high_decade));
    page.empty("path", {{"class", "quantile"},
                        {"d", "M" + coordinate(x) + " " + coordinate(y) + "v-" + coordinate(row_height - 14)}});
    page.leaf("text", name, {{"x", coordinate(x + 3)}, {"y", coordinate(y - row_height + 20)}, {"class", "tick halo"}});
  }
}

}  // namespace

void add_distributions(Html& page, const DistributionChart& chart) {
  if (chart.rows.empty()) return;
  const double height = row_height * static_cast<double>(chart.rows.size()) + 44;
  page.open("figure").leaf("figcaption", chart.title);
  page.open("div", {{"class", "scroll"}, {"tabindex", "0"}, {"role", "region"}, {"aria-label", chart.title}});
  page.open("svg", {{"class", "chart"}, {"role", "img"}, {"viewBox", "0 0 760 " + coordinate(height)}});
  page.leaf("title", chart.title).leaf("desc", chart.description);
  const int step = std::max(1, static_cast<int>((chart.high_decade - chart.low_decade) / 9));
  for (int e = static_cast<int>(std::ceil(chart.low_decade)); e <= static_cast<int>(chart.high_decade); e += step) {
    const double x = names + (e - chart.low_decade) / (chart.high_decade - chart.low_decade) * (plot_end - names);
    page.empty("path", {{"class", "grid"}, {"d", vertical(x, height - 36)}});
    page.leaf("text", tick_text(std::pow(10.0, e)),
              {{"x", coordinate(x)}, {"y", coordinate(height - 22)}, {"class", "tick center"}});
  }
  for (std::size_t i = 0; i < chart.rows.size(); ++i)
    add_distribution(page, chart, chart.rows[i], row_height * static_cast<double>(i + 1));
  page.leaf("text", chart.x_label,
            {{"x", coordinate((names + plot_end) / 2)}, {"y", coordinate(height - 4)}, {"class", "axis center"}});
  page.close().close().close();
}

}  // namespace qfid::eval
