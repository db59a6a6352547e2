// Two shares of one whole, a row each: a bar with its interval, and beside it a diamond with its own.
#include <algorithm>
#include <cmath>
#include <format>

#include "eval/report/chart.h"

namespace qfid::eval {

namespace {

constexpr double names = 92, plot_end = 560, width = 760, row_height = 26, bar = 12;

struct Scale {
  double low = 0, high = 0.05;
  double x(double share) const { return names + (share - low) / (high - low) * (plot_end - names); }
};

void widen(Scale& scale, const Share& share) {
  for (const double value : {share.value, share.interval ? share.interval->first : share.value,
                             share.interval ? share.interval->second : share.value}) {
    scale.low = std::min(scale.low, value);
    scale.high = std::max(scale.high, value);
  }
}

std::string span(double from, double to, double y) {
  return "M" + coordinate(from) + " " + coordinate(y) + "H" + coordinate(to);
}

void add_row(Html& page, const Scale& scale, const ShareRow& row, double y) {
  page.leaf("text", row.name, {{"x", coordinate(names - 8)}, {"y", coordinate(y)}, {"class", "label end mid"}});
  const double zero = scale.x(0), end = scale.x(row.bar.value), x = scale.x(row.mark.value);
  page.empty("path", {{"class", "area"},
                      {"d", "M" + coordinate(zero) + " " + coordinate(y - bar / 2) + "H" + coordinate(end) + "v" +
                                coordinate(bar) + "H" + coordinate(zero) + "z"}});
  if (row.bar.interval)
    page.empty("path",
               {{"class", "range"}, {"d", span(scale.x(row.bar.interval->first), scale.x(row.bar.interval->second), y)}});
  if (row.mark.interval)
    page.empty("path", {{"class", "line c1"},
                        {"d", span(scale.x(row.mark.interval->first), scale.x(row.mark.interval->second), y + bar / 2)}});
  page.empty("path",
             {{"class", "mark c1"}, {"d", "M" + coordinate(x) + " " + coordinate(y + bar / 2 - 4) + "l4 4l-4 4l-4 -4z"}});
  page.leaf("text", std::format("{:.1f} %, {:.1f} %", 100 * row.bar.value, 100 * row.mark.value),
            {{"x", coordinate(plot_end + 10)}, {"y", coordinate(y)}, {"class", "mid"}});
}

}  // namespace

void add_share_chart(Html& page, const ShareChart& chart) {
  if (chart.rows.empty()) return;
  Scale scale;
  for (const ShareRow& row : chart.rows) {
    widen(scale, row.bar);
    widen(scale, row.mark);
  }
  const double height = row_height * static_cast<double>(chart.rows.size()) + 44;
  page.open("figure").leaf("figcaption", chart.title);
  page.open("div", {{"class", "scroll"}, {"tabindex", "0"}, {"role", "region"}, {"aria-label", chart.title}});
  page.open("svg",
            {{"class", "chart"}, {"role", "img"}, {"viewBox", "0 0 " + coordinate(width) + " " + coordinate(height)}});
  page.leaf("title", chart.title).leaf("desc", chart.description);
  for (const double tick : linear_ticks(scale.low, scale.high, 5)) {
    page.empty("path", {{"class", tick == 0 ? "frame" : "grid"},
                        {"d", "M" + coordinate(scale.x(tick)) + " 0V" + coordinate(height - 40)}});
    page.leaf("text", std::format("{:.4g} %", tick == 0 ? 0 : 100 * tick),
              {{"x", coordinate(scale.x(tick))}, {"y", coordinate(height - 26)}, {"class", "tick center"}});
  }
  for (std::size_t i = 0; i < chart.rows.size(); ++i)
    add_row(page, scale, chart.rows[i], row_height * (static_cast<double>(i) + 0.5));
  page.leaf("text", chart.x_label,
            {{"x", coordinate((names + plot_end) / 2)}, {"y", coordinate(height - 6)}, {"class", "axis center"}});
  page.close().close().close();
}

}  // namespace qfid::eval
