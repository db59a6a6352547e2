// Small helpers every text report shares.
#pragma once

#include <algorithm>
#include <cmath>
#include <format>
#include <string>

#include "eval/experiment/record.h"

namespace qfid::eval {

/// About four significant digits; "-" for no value.
inline std::string short_number(std::optional<double> value) {
  if (!value) return "-";
  if (!std::isfinite(*value)) return std::isnan(*value) ? "nan" : "inf";
  const double magnitude = std::fabs(*value);
  if (magnitude == 0) return "0";
  if (magnitude < 1e-3 || magnitude >= 1e6) return std::format("{:.2e}", *value);
  if (magnitude < 1) return std::format("{:.4f}", *value);
  if (magnitude < 10) return std::format("{:.4f}", *value);
  return std::format("{:.2f}", *value);
}
inline std::string short_number(const Metric* metric) { return metric == nullptr ? "-" : short_number(metric->value); }
inline std::string interval_text(const Metric* metric) {
  if (metric == nullptr || !metric->ci) return "-";
  if (metric->name.starts_with("hidden.")) return short_number(metric->ci->low) + " .. " + short_number(metric->ci->high);
  return std::format("{:.4f} .. {:.4f}", metric->ci->low, metric->ci->high);
}
inline std::optional<double> column(const LayerRow& row, const std::string& name) {
  for (const auto& [key, value] : row.values)
    if (key == name) return value;
  return std::nullopt;
}
/// The row of least SQNR under `error` ("local" or "cumulative"), all heads pooled; null when there is none.
inline const LayerRow* worst_row(const RunRecord& run, const std::string& error) {
  const LayerRow* worst = nullptr;
  double least = 0;
  for (const LayerRow& row : run.layers) {
    if (row.error != error || row.head != -1) continue;
    const auto sqnr = column(row, "sqnr_db");
    if (sqnr && (worst == nullptr || *sqnr < least)) {
      worst = &row;
      least = *sqnr;
    }
  }
  return worst;
}
/// numerics.md: real against emulated, locally, per head.
inline constexpr double kernel_gain_limit = 1e-3;
/// Free text stays text: nothing in it is read as a table, markup or HTML, and it stays on one line.
inline std::string cell(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (std::string_view("\\|<`*[").find(c) != std::string_view::npos) out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out;
}
/// A line, broken at spaces so that none is longer than width; what follows is indented.
inline void add_wrapped(std::string& text, const std::string& line, std::size_t width) {
  std::string rest = line;
  while (rest.size() > width) {
    std::size_t cut = rest.rfind(' ', width);
    if (cut == std::string::npos || cut < 20) cut = width;
    text += rest.substr(0, cut) + "\n";
    rest = "    " + rest.substr(rest[cut] == ' ' ? cut + 1 : cut);
  }
  text += rest + "\n";
}
inline std::string clipped(const std::string& text, std::size_t width) {
  return text.size() <= width ? text : text.substr(0, width - 1) + "~";
}

}  // namespace qfid::eval
