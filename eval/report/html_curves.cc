// Curves over layers: errors, local and cumulative; outliers of the baseline beside the targets'.
#include <algorithm>
#include <cmath>
#include <format>
#include <functional>
#include <map>

#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/html_sections.h"

namespace qfid::eval {

namespace {

/// A number of a row for a curve; nothing: the row isn't part of it.
using Pick = std::function<std::optional<double>(const LayerRow&)>;

Pick column_of(std::string tap, std::string error, std::string name) {
  return [=](const LayerRow& row) -> std::optional<double> {
    return row.tap == tap && row.error == error && row.head == -1 ? column(row, name) : std::nullopt;
  };
}

/// One curve a run: in each layer the largest number picked.
std::vector<Series> curves(const ExperimentRecord& record, const std::string& model, const Pick& pick) {
  std::vector<Series> all;
  for (const RunRecord& run : record.runs) {
    if (run.model != model) continue;
    std::map<int, double> largest;
    for (const LayerRow& row : run.layers) {
      const std::optional<double> value = pick(row);
      if (!value || !std::isfinite(*value)) continue;
      const auto [at, fresh] = largest.try_emplace(row.layer, *value);
      if (!fresh) at->second = std::max(at->second, *value);
    }
    Series series{run.target, style_of(record, run.target), {}};
    series.points.assign(largest.begin(), largest.end());
    if (!series.points.empty()) all.push_back(std::move(series));
  }
  return all;
}

std::string described(const std::vector<Series>& all) {
  std::string text;
  for (const Series& series : all) {
    const auto worst = std::max_element(series.points.begin(), series.points.end(),
                                        [](const auto& a, const auto& b) { return a.second < b.second; });
    text +=
        std::format("{}{}: largest {:.3g} in layer {}", text.empty() ? "" : "; ", series.name, worst->second, worst->first);
  }
  return text;
}

/// The same chart for each model, on one axis.
void add_charts(Html& page, const ExperimentRecord& record, const std::string& title, const std::string& label, bool log_y,
                const Pick& pick) {
  std::vector<std::vector<Series>> all;
  std::optional<std::pair<double, double>> range;
  for (const ModelRecord& model : record.models) {
    all.push_back(curves(record, model.name, pick));
    const auto own = value_range(all.back(), log_y);
    if (own && range) range = {std::min(range->first, own->first), std::max(range->second, own->second)};
    if (own && !range) range = own;
  }
  if (!range) return;
  page.leaf("h3", title).open("div", {{"class", "charts"}});
  for (std::size_t m = 0; m < all.size(); ++m) {
    const std::string model = record.models.size() > 1 ? record.models[m].name : "";
    add_line_chart(page,
                   {title + (model.empty() ? "" : ", " + model), described(all[m]), label, log_y, all[m], range, model});
  }
  page.close();
}

bool has(const ExperimentRecord& record, const std::function<bool(const LayerRow&)>& wanted) {
  for (const RunRecord& run : record.runs)
    if (std::any_of(run.layers.begin(), run.layers.end(), wanted)) return true;
  return false;
}

}  // namespace

void add_error_curves(Html& page, const ExperimentRecord& record) {
  if (!has(record, [](const LayerRow& row) { return row.error == "cumulative" || row.error == "local"; })) return;
  open_section(page, "errors", "Errors over layers");
  page.leaf(
      "p",
      "NMSE: the error's energy over the signal's; up is worse, a factor of 10 is 10 dB. The local curve shows the worst "
      "operation of each layer alone; the cumulative one what has gathered in the residual stream by then.");
  add_charts(page, record, "Local error: the worst operation of each layer", "NMSE", true, [](const LayerRow& row) {
    return row.error == "local" && row.head == -1 ? column(row, "nmse") : std::nullopt;
  });
  add_charts(page, record, "Cumulative error of the residual stream", "NMSE", true,
             column_of("residual", "cumulative", "nmse"));
  page.close();
}

void add_outliers(Html& page, const ExperimentRecord& record) {
  if (!has(record, [](const LayerRow& row) { return row.tap == "residual" && row.error == "none"; })) return;
  open_section(page, "outliers", "Outliers over layers");
  page.leaf(
      "p",
      "In the residual stream, the embedding (emb) included; the thick grey line is full precision. Kurtosis is 3 for a "
      "normal distribution: the larger, the more of the energy sits in few channels.");
  const auto stream = [](std::string name) {
    return [name](const LayerRow& row) -> std::optional<double> {
      const bool wanted = (row.tap == "residual" || row.tap == "embedding") && row.error == "none" && row.head == -1;
      return wanted ? column(row, name) : std::nullopt;
    };
  };
  add_charts(page, record, "Largest absolute value (infinity norm)", "infinity norm", true, stream("inf_norm"));
  add_charts(page, record, "Kurtosis of token rows", "kurtosis", true, stream("kurtosis"));
  add_charts(page, record, "Largest magnitude over the median (massive above 1000, and above 100 in size)", "ratio", true,
             [&](const LayerRow& row) -> std::optional<double> {
               const std::optional<double> top = stream("magnitude_1")(row), median = stream("magnitude_median")(row);
               return top && median && *median > 0 ? std::optional(*top / *median) : std::nullopt;
             });
  page.close();
}

void add_codes(Html& page, const ExperimentRecord& record) {
  const bool zeros = has(record, [](const LayerRow& row) { return row.tap == "p_codes"; });
  const bool casts = has(record, [](const LayerRow& row) { return column(row, "flushed_share").has_value(); });
  if (!zeros && !casts) return;
  open_section(page, "codes", "What the codes lose");
  if (zeros) {
    page.leaf(
        "p",
        "Attention probabilities coded as 0, of all that aren't masked. Most are tiny; what counts is the probability that "
        "is lost with them.");
    add_charts(page, record, "Zero codes of attention probabilities", "share", false,
               column_of("p_codes", "none", "zero_share"));
    add_charts(page, record, "Full precision's probability on keys coded as 0, local", "share of a row", false,
               column_of("p_codes", "local", "flushed_mass"));
  }
  if (casts) {
    page.leaf(
        "p",
        "Inputs of linears and attention: saturated ones lie beyond the largest code, flushed ones aren't 0 but coded as 0. "
        "A curve shows the worst place of each layer.");
    const auto shares = [](std::string name) {
      return [name](const LayerRow& row) {
        return row.layer >= 0 && row.error == "none" && row.head == -1 ? column(row, name) : std::nullopt;
      };
    };
    const auto any_above = [&](const std::string& name) {
      return has(record, [&](const LayerRow& row) {
        return row.error == "none" && row.head == -1 && column(row, name).value_or(0) > 0;
      });
    };
    for (const auto& [name, title] : {std::pair{"flushed_share", "Flushed to zero, worst place of each layer"},
                                      std::pair{"saturated_share", "Saturated, worst place of each layer"}}) {
      if (any_above(name))
        add_charts(page, record, title, "share", false, shares(name));
      else
        page.leaf("p",
                  std::string(name == std::string("flushed_share") ? "Nothing was flushed to zero." : "Nothing saturated."));
    }
  }
  page.close();
}

}  // namespace qfid::eval
