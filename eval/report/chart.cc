// Line charts, and what all charts share.
#include "eval/report/chart.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <format>

namespace qfid::eval {

namespace {

constexpr double width = 620, height = 260, left = 66, right = 164, top = 14, bottom = 40;
constexpr double label_height = 13;
constexpr int styles = 8;

std::string path_of(const std::vector<std::pair<double, double>>& points) {
  std::string path;
  for (const auto& [x, y] : points) path += (path.empty() ? "M" : "L") + coordinate(x) + " " + coordinate(y);
  return path;
}

/// Eight shapes, so that lines differ without colour.
std::string marker(int index, double x, double y) {
  const auto at = [&](double dx, double dy) { return coordinate(x + dx) + " " + coordinate(y + dy); };
  switch (index % styles) {
    case 0:
      return "M" + at(-3.5, 0) + "a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z";
    case 1:
      return "M" + at(-3, -3) + "h6v6h-6z";
    case 2:
      return "M" + at(0, -4) + "l4 7h-8z";
    case 3:
      return "M" + at(0, -4.5) + "l4.5 4.5l-4.5 4.5l-4.5 -4.5z";
    case 4:
      return "M" + at(0, 4) + "l4 -7h-8z";
    case 5:
      return "M" + at(-4, -1.5) + "h8v3h-8z";
    case 6:
      return "M" + at(-1.5, -4) + "h3v8h-3z";
    default:
      return "M" + at(-3.5, 0) + "l3.5 -3.5l3.5 3.5h-3.5v3.5z";
  }
}

std::string class_of(Style style) { return style.index < 0 ? "base" : std::format("c{}", style.index % styles); }

/// What fits beside a chart; the whole name is in its description.
std::string shortened(const std::string& name) {
  constexpr std::size_t most = 24;
  const std::string text = utf8(name);
  if (text.size() <= most) return text;
  std::size_t end = most - 1;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "\xE2\x80\xA6";
}

struct Axes {
  double low, high;
  bool log_y;
  int first, last;
  LineAxis along;
  int least_step = 1;  ///< above 0
  /// Step 0 has no logarithm: it stands where a third of the least one would.
  double place(int at) const {
    return along == LineAxis::layers ? at : std::log10(at > 0 ? at : static_cast<double>(least_step) / 3);
  }
  double x(int at) const {
    return first == last ? (left + width - right) / 2
                         : left + (place(at) - place(first)) / (place(last) - place(first)) * (width - left - right);
  }
  double y(double value) const {
    const double at = log_y ? std::log10(value) : value;
    const double from = log_y ? std::log10(low) : low, to = log_y ? std::log10(high) : high;
    return height - bottom - (at - from) / (to - from) * (height - top - bottom);
  }
};

std::vector<double> log_ticks(double low, double high) {
  std::vector<double> ticks;
  const double decades = std::log10(high / low);
  const int step = std::max(1, static_cast<int>(decades / 6));
  for (int e = static_cast<int>(std::floor(std::log10(low))); e <= static_cast<int>(std::ceil(std::log10(high))); ++e)
    for (const double m : {1.0, 2.0, 5.0}) {
      const double value = m * std::pow(10.0, e);
      if ((decades > 2 && m != 1) || (decades > 2 && e % step != 0)) continue;
      if (value >= low * 0.9999 && value <= high * 1.0001) ticks.push_back(value);
    }
  return ticks;
}

/// Layers: 16 at most. Steps: 0 where it is shown, and powers of ten.
std::vector<int> x_ticks(const Axes& axes) {
  std::vector<int> ticks;
  if (axes.along == LineAxis::layers) {
    const int step = std::max(1, (axes.last - axes.first + 15) / 16);
    for (int layer = axes.first; layer <= axes.last; layer += step) ticks.push_back(layer);
    return ticks;
  }
  if (axes.first == 0) ticks.push_back(0);
  for (std::int64_t power = 1; power <= axes.last; power *= 10)
    if (power >= std::max(axes.first, axes.least_step)) ticks.push_back(static_cast<int>(power));
  return ticks;
}

void add_axes(Html& page, const Axes& axes, const LineChart& chart) {
  const double x_end = width - right, y_end = height - bottom;
  for (const double tick : axes.log_y ? log_ticks(axes.low, axes.high) : linear_ticks(axes.low, axes.high, 5)) {
    const std::string y = coordinate(axes.y(tick));
    page.empty("path", {{"class", "grid"}, {"d", "M" + coordinate(left) + " " + y + "H" + coordinate(x_end)}});
    page.leaf("text", tick_text(tick), {{"x", coordinate(left - 6)}, {"y", y}, {"class", "tick end mid"}});
  }
  for (const int at : x_ticks(axes))
    page.leaf("text", at == -1 ? "emb" : std::to_string(at),
              {{"x", coordinate(axes.x(at))},
               {"y", coordinate(y_end + 15)},
               // The last step's number is long, and the lines' labels begin beside it.
               {"class", axes.along == LineAxis::steps && at == axes.last ? "tick end" : "tick center"}});
  page.leaf("text", axes.along == LineAxis::layers ? "layer" : "training step",
            {{"x", coordinate((left + x_end) / 2)}, {"y", coordinate(height - 6)}, {"class", "axis center"}});
  page.leaf("text", chart.y_label,
            {{"transform", "translate(13 " + coordinate((top + y_end) / 2) + ") rotate(-90)"}, {"class", "axis center"}});
}

/// Labels at the lines' ends, moved apart; returns their heights in the order of `ends`.
std::vector<double> spread(const std::vector<double>& ends) {
  std::vector<std::size_t> order(ends.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return ends[a] < ends[b]; });
  std::vector<double> placed(ends.size());
  double next = top;
  for (const std::size_t i : order) {
    placed[i] = std::max(ends[i], next);
    next = placed[i] + label_height;
  }
  double lowest = std::max(height - bottom + 8, top + label_height * static_cast<double>(ends.size()));
  for (std::size_t k = order.size(); k-- > 0;) {
    placed[order[k]] = std::min(placed[order[k]], lowest);
    lowest = placed[order[k]] - label_height;
  }
  return placed;
}

void add_series(Html& page, const Axes& axes, const Series& series, double label_y) {
  std::vector<std::pair<double, double>> points;
  std::string markers;
  for (const auto& [layer, value] : series.points) {
    if (axes.log_y && !(value > 0)) continue;
    points.emplace_back(axes.x(layer), axes.y(value));
    if (series.style.index >= 0) markers += marker(series.style.index, points.back().first, points.back().second);
  }
  if (points.empty()) return;
  const std::string style = class_of(series.style), x = coordinate(width - right + 22);
  page.empty("path", {{"class", "line " + style}, {"d", path_of(points)}});
  if (!markers.empty()) page.empty("path", {{"class", "mark " + style}, {"d", markers}});
  page.empty("path", {{"class", "lead"}, {"d", path_of({points.back(), {width - right + 8, label_y}})}});
  if (series.style.index >= 0)
    page.empty("path", {{"class", "mark " + style}, {"d", marker(series.style.index, width - right + 14, label_y)}});
  else
    page.empty("path",
               {{"class", "line base"}, {"d", path_of({{width - right + 9, label_y}, {width - right + 19, label_y}})}});
  page.leaf("text", shortened(series.name), {{"x", x}, {"y", coordinate(label_y)}, {"class", "label mid"}});
}

}  // namespace

std::optional<std::pair<double, double>> value_range(const std::vector<Series>& series, bool log_y) {
  std::optional<std::pair<double, double>> range;
  for (const Series& one : series)
    for (const auto& [layer, value] : one.points) {
      if (!std::isfinite(value) || (log_y && !(value > 0))) continue;
      if (!range) range.emplace(value, value);
      range->first = std::min(range->first, value);
      range->second = std::max(range->second, value);
    }
  return range;
}

void add_line_chart(Html& page, const LineChart& chart) {
  const auto range = chart.y_range ? chart.y_range : value_range(chart.series, chart.log_y);
  if (!range || !value_range(chart.series, chart.log_y)) return;
  Axes axes{range->first, range->second, chart.log_y, 0, 0, chart.along};
  if (axes.log_y) {
    axes.low /= 1.15;
    axes.high *= 1.15;
  } else {
    const double margin = axes.high > axes.low ? 0.05 * (axes.high - axes.low) : std::max(1e-9, 0.1 * std::fabs(axes.high));
    axes.low = axes.low >= 0 && axes.low - margin < 0 ? 0 : axes.low - margin;
    axes.high += margin;
  }
  axes.first = axes.least_step = INT32_MAX;
  axes.last = INT32_MIN;
  std::vector<double> ends;
  std::vector<const Series*> shown;
  for (const Series& series : chart.series) {
    std::optional<double> end;
    for (const auto& [layer, value] : series.points) {
      axes.first = std::min(axes.first, layer);
      axes.last = std::max(axes.last, layer);
      if (layer > 0) axes.least_step = std::min(axes.least_step, layer);
      if (!axes.log_y || value > 0) end = axes.y(value);
    }
    if (!end) continue;
    ends.push_back(*end);
    shown.push_back(&series);
  }
  const double full = std::max(height, top + label_height * static_cast<double>(ends.size()) + 8);
  page.open("figure");
  if (const std::string caption = chart.caption.value_or(chart.title); !caption.empty()) page.leaf("figcaption", caption);
  page.open("div", {{"class", "scroll"}, {"tabindex", "0"}, {"role", "region"}, {"aria-label", chart.title}});
  page.open("svg", {{"class", "chart"}, {"role", "img"}, {"viewBox", "0 0 " + coordinate(width) + " " + coordinate(full)}});
  page.leaf("title", chart.title).leaf("desc", chart.description);
  add_axes(page, axes, chart);
  const std::vector<double> labels = spread(ends);
  for (std::size_t i = 0; i < shown.size(); ++i) add_series(page, axes, *shown[i], labels[i]);
  page.close().close().close();
}

std::vector<double> linear_ticks(double low, double high, int wanted) {
  std::vector<double> ticks;
  if (!(high > low) || !std::isfinite(high - low)) return ticks;
  const double rough = (high - low) / wanted, power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power;
  for (const double m : {1.0, 2.0, 5.0, 10.0})
    if (power * m <= rough * 1.5) step = power * m;
  const double first = std::ceil(low / step - 1e-9);  // far from 0, first + 1 may be first
  for (int i = 0; i <= 4 * wanted && (first + i) * step <= high + 1e-9 * step; ++i) ticks.push_back((first + i) * step);
  return ticks;
}

std::string tick_text(double value) {
  if (value == 0) return "0";
  const double size = std::fabs(value);
  if (size >= 1e-3 && size < 1e5) return std::format("{:.6g}", value);
  std::string text = std::format("{:.3g}", value);  // 1e-07 -> 1e-7
  if (const std::size_t zero = text.find("e-0"); zero != std::string::npos) text.erase(zero + 2, 1);
  if (const std::size_t zero = text.find("e+0"); zero != std::string::npos) text.replace(zero, 3, "e");
  return text;
}

}  // namespace qfid::eval
