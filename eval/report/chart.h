// Charts as plain SVG inside a page: every label is text, every chart has a title and a description for those who don't see
// it, and no meaning rests on colour alone (markers, direct labels, numbers in cells). Colours are classes; the style sheet
// gives them, for light and for dark. Nothing here knows what is drawn.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/report/html.h"

namespace qfid::eval {

/// How a series looks: its colour and marker, the same in all charts of a page; -1: the reference, thick and grey.
struct Style {
  int index = -1;
};

struct Series {
  std::string name;
  Style style;
  std::vector<std::pair<int, double>> points;  ///< layer or step -> value, finite, in order
};

/// What runs along a line chart: layers, evenly; training steps, on a logarithmic scale with step 0 a place before the first.
enum class LineAxis : std::uint8_t { layers, steps };

/// Values over layers or steps, one line a series, labelled at its right end.
struct LineChart {
  std::string title, description, y_label;
  bool log_y = false;
  std::vector<Series> series;
  std::optional<std::pair<double, double>> y_range;  ///< to share an axis between charts
  std::optional<std::string> caption{};              ///< shown instead of the title, where a heading says that; "": none
  LineAxis along = LineAxis::layers;
};
/// Nothing is written when no series has a point.
void add_line_chart(Html& page, const LineChart& chart);
/// The range of all points above zero (log) or of all points; nothing without any.
std::optional<std::pair<double, double>> value_range(const std::vector<Series>& series, bool log_y);

/// A matrix of values, layers down and heads across; +infinity is "exact".
struct HeatMap {
  std::string title, description;
  int rows = 0, columns = 0;
  std::vector<std::optional<double>> values;  ///< [rows * columns]

  int row_of(std::size_t i) const { return static_cast<int>(i) / columns; }
  int column_of(std::size_t i) const { return static_cast<int>(i) % columns; }
};
/// One scale for several maps, in heat_classes equal steps.
struct HeatScale {
  double low = 0, high = 1;  ///< low < high, on the scale's own axis (decades if `decades`)
  bool high_is_bad = true;
  bool decades = false;  ///< values are shown as powers of ten
  std::string unit;
  bool picture = false;  ///< no numbers, no labels, no frame around the worst; the lowest class isn't drawn
};
inline constexpr int heat_classes = 9;
void add_heat_map(Html& page, const HeatMap& map, const HeatScale& scale);
void add_heat_legend(Html& page, const HeatScale& scale);
/// Maps in a row, and their legend.
void add_heat_maps(Html& page, const std::vector<HeatMap>& maps, const HeatScale& scale);

/// Where an interval lies beside bounds; a row of a forest plot, all rows on one axis.
struct ForestAxis {
  double low = 0.99, high = 1.01;
  std::optional<double> zero = 1;  ///< where nothing changed, if that is on a logarithmic axis
  std::string name = "perplexity over the baseline's", sign = "\xC3\x97";
};
struct ForestRow {
  std::string description;
  double value = 1;
  std::optional<std::pair<double, double>> interval;
  std::vector<double> upper_bounds, lower_bounds;
};
void add_forest_axis(Html& page, const ForestAxis& axis);
void add_forest_row(Html& page, const ForestAxis& axis, const ForestRow& row);

/// Distributions of positive values on one logarithmic axis, a row each.
struct Distribution {
  std::string name, note;
  std::vector<double> counts;  ///< in equal bins of the axis
  std::vector<std::pair<std::string, double>> marks;
};
struct DistributionChart {
  std::string title, description, x_label;
  double low_decade = -6, high_decade = 0;
  std::vector<Distribution> rows;
};
void add_distributions(Html& page, const DistributionChart& chart);

/// Two shares of one whole, a row each: a bar, and a diamond below its end line.
struct Share {
  double value = 0;
  std::optional<std::pair<double, double>> interval;
};
struct ShareRow {
  std::string name;
  Share bar, mark;
};
struct ShareChart {
  std::string title, description, x_label;
  std::vector<ShareRow> rows;
};
void add_share_chart(Html& page, const ShareChart& chart);

/// Round numbers within [low, high], about `wanted` of them.
std::vector<double> linear_ticks(double low, double high, int wanted);
/// "0.01", "1e-7": powers of ten and small multiples without noise.
std::string tick_text(double value);

}  // namespace qfid::eval
