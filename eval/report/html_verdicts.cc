// Every target of every model, worst first, with its interval on one axis; and the gates in words.
#include <algorithm>
#include <cmath>
#include <format>

#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/html_sections.h"
#include "eval/report/quality.h"

namespace qfid::eval {

namespace {

/// Gates that bound a target's headline number itself.
bool bounds_headline(const Quality& quality, const GateRecord& gate) {
  return gate.metric == quality.headline.metric && gate.relative_to.empty();
}

/// Of numbers that are never below 0: from the least to the largest.
ForestAxis axis_of_errors(const ExperimentRecord& record, const Quality& quality) {
  double low = 1e300, high = 0;
  const auto add = [&](double value) {
    if (!std::isfinite(value) || value <= 0) return;
    low = std::min(low, value);
    high = std::max(high, value);
  };
  for (const RunRecord& run : record.runs)
    if (const Metric* error = find_metric(run, quality.headline.metric); error != nullptr && error->value) {
      add(*error->value);
      if (error->ci) add(error->ci->low), add(error->ci->high);
    }
  for (const GateRecord& gate : record.gates)
    if (bounds_headline(quality, gate)) add(gate.bound);
  if (high == 0) low = high = 1;
  return {low / 1.5, high * 1.5, std::nullopt, quality.headline.name, ""};
}

/// One axis for all models. A target that is far worse than most is drawn at its edge, so that the others can be told apart.
ForestAxis axis_of(const ExperimentRecord& record) {
  const Quality& quality = quality_of(record);
  if (!quality.ratio) return axis_of_errors(record, quality);
  std::vector<double> sizes;
  const auto add = [&](double ratio) {
    if (std::isfinite(ratio) && ratio > 0) sizes.push_back(std::fabs(std::log(ratio)));
  };
  for (const RunRecord& run : record.runs) {
    const Metric* ratio = find_metric(run, quality.headline.metric);
    if (ratio == nullptr || !ratio->value) continue;
    add(ratio->ci ? ratio->ci->high : *ratio->value);
    add(ratio->ci ? ratio->ci->low : *ratio->value);
  }
  if (sizes.empty()) return {};
  std::sort(sizes.begin(), sizes.end());
  double reach = std::clamp(sizes.back(), 1e-4, std::max(1e-4, 12 * sizes[sizes.size() / 2]));
  double low = 0;
  for (const GateRecord& gate : record.gates)
    if (bounds_headline(quality, gate) && gate.bound > 0) reach = std::max(reach, std::fabs(std::log(gate.bound)));
  for (const RunRecord& run : record.runs)
    if (const Metric* ratio = find_metric(run, quality.headline.metric);
        ratio != nullptr && ratio->value && *ratio->value > 0)
      low = std::min(low, std::log(ratio->ci && ratio->ci->low > 0 ? ratio->ci->low : *ratio->value));
  return {std::exp(std::max(low, -reach) - 0.04 * reach), std::exp(1.04 * reach)};
}

void add_forest_cell(Html& page, const Quality& quality, const ForestAxis& axis, const TargetFinding& finding) {
  const Metric* ratio = find_metric(*finding.run, quality.headline.metric);
  page.open("td", {{"class", "plot"}});
  if (ratio != nullptr && ratio->value && *ratio->value > 0) {
    ForestRow row{std::format("{}: {} {:.6g}", finding.run->target, axis.name, *ratio->value), *ratio->value, {}, {}, {}};
    if (ratio->ci) {
      row.interval.emplace(ratio->ci->low, ratio->ci->high);
      row.description += std::format(", interval {:.6g} to {:.6g}", ratio->ci->low, ratio->ci->high);
    }
    for (const GateRecord* gate : finding.gates)
      if (bounds_headline(quality, *gate)) {
        (gate->upper ? row.upper_bounds : row.lower_bounds).push_back(gate->bound);
        row.description += std::format(", gate's {} {:.6g}", gate->upper ? "max" : "min", gate->bound);
      }
    add_forest_row(page, axis, row);
  }
  page.close();
}

std::string sign_of(Shipping shipping) {
  constexpr const char* signs[] = {"\xE2\x9C\x95 ", "\xE2\x80\x93 ", "? ", "", "\xE2\x9C\x93 "};
  return signs[static_cast<int>(shipping)] + std::string(to_string(shipping));
}

void add_target(Html& page, const ExperimentRecord& record, const ForestAxis& axis, const TargetFinding& finding) {
  const RunRecord& run = *finding.run;
  page.open("tr").leaf("th", run.target, {{"scope", "row"}});
  page.open("td").leaf("span", sign_of(finding.shipping),
                       {{"class", std::format("verdict v{}", static_cast<int>(finding.shipping))}});
  if (run.metrics.empty()) {
    page.close();
    page.leaf("td", std::string(to_string(run.status)) + (run.message.empty() ? "" : ": " + run.message),
              {{"colspan", "8"}, {"class", "wrap"}});
    page.close();
    return;
  }
  if (!finding.excused().empty()) page.text(std::format(", {} excused", finding.excused().size()));
  if (run.status != RunStatus::ok) page.text(" " + std::string(to_string(run.status)));
  page.close();
  const Quality& quality = quality_of(record);
  const Metric* headline = find_metric(run, quality.headline.metric);
  add_forest_cell(page, quality, axis, finding);
  const auto place = worst_place(run, "local");
  const auto time = time_ratio(record, run);
  for (const std::string& text :
       {shown_number(find_metric(run, quality.level.metric)), shown_number(headline), shown_interval(headline),
        shown_number(find_metric(run, quality.distance.metric)), shown_number(find_metric(run, quality.agreement.metric)),
        place ? in_words(*place) : std::string("-"), time ? std::format("\xC3\x97 {:.2f}", *time) : std::string("-")})
    page.leaf("td", text);
  page.close();
}

}  // namespace

void add_verdicts(Html& page, const ExperimentRecord& record) {
  open_section(page, "targets", "Targets, worst first");
  const ForestAxis axis = axis_of(record);
  const Quality& quality = quality_of(record);
  for (const ModelRecord& model : record.models) {
    const std::vector<TargetFinding> findings = worst_first(record, model.name);
    const RunRecord* base = record.find(model.name, "baseline");
    page.leaf("h3", model.name);
    open_table(page, "Targets of " + model.name + ", worst first");
    page.open("thead").open("tr");
    for (const char* name : {"Target", "Verdict"}) page.leaf("th", name, {{"scope", "col"}});
    page.open("th", {{"scope", "col"}, {"class", "plot"}})
        .text(quality.ratio ? "Perplexity over the baseline's" : quality.headline.name);
    add_forest_axis(page, axis);
    page.close();
    for (const char* name : {quality.level.name, quality.headline.name, "Interval", quality.distance.name,
                             quality.agreement.name, "Worst local place", "Time"})
      page.leaf("th", name, {{"scope", "col"}});
    page.close().close().open("tbody");
    for (const TargetFinding& finding : findings) add_target(page, record, axis, finding);
    if (base != nullptr) {
      page.open("tr")
          .leaf("th", "baseline", {{"scope", "row"}})
          .leaf("td", base->metrics.empty() ? to_string(base->status) : "");
      page.leaf("td", base->message, {{"class", "wrap"}}).leaf("td", shown_number(find_metric(*base, quality.level.metric)));
      for (int i = 0; i < 6; ++i) page.leaf("td", "");
      page.close();
    }
    add_noise_rows(page, record, model.name);
    page.close();
    close_table(page);
  }
  page.leaf("p",
            std::string(quality.ratio ? "Dots are ratios, bars their intervals, the dashed line the baseline, solid lines a "
                                        "gate's bound; an arrow is beyond the axis. Top-1 is the share of tokens with the "
                                        "baseline's prediction. "
                                      : "Dots are errors, bars their intervals, solid lines a gate's bound. Pooled: of the "
                                        "mean over a window's tokens. ") +
                "Blocked: a gate fails; undecided: this data can't tell.",
            {{"class", "small"}});
  bool any = false;
  for (const PairRecord& pair : record.pairs) any = any || pair.difference.value.has_value();
  if (any) {
    page.open("details").leaf("summary", "Target against target, paired");
    page.leaf("p", quality.difference_in_words);
    open_table(page, "Target against target");
    page.open("thead").row("th", {"Model", "A", "B", "Difference", "Interval"}).close().open("tbody");
    for (const PairRecord& pair : record.pairs)
      page.row("td", {pair.model, pair.a, pair.b, shown_number(pair.difference.value),
                      pair.difference.ci ? std::format("{:.6f} to {:.6f}", pair.difference.ci->low, pair.difference.ci->high)
                                         : pair.difference.note});
    page.close();
    close_table(page);
    page.close();
  }
  page.close();
}

void add_gates(Html& page, const ExperimentRecord& record) {
  if (record.gates.empty()) return;
  open_section(page, "gates", "Gates");
  open_table(page, "Gates, what blocks first");
  page.open("thead").row("th", {"Verdict", "Gate", "Model", "Target", "In words"}).close().open("tbody");
  for (const bool blocking : {true, false})
    for (const GateRecord& gate : record.gates) {
      if (gate.blocks() != blocking) continue;
      page.open("tr").open("td");
      const bool pass = gate.verdict == GateVerdict::pass, undecided = gate.verdict == GateVerdict::inconclusive;
      page.leaf("span",
                std::string(pass        ? "\xE2\x9C\x93 "
                            : undecided ? "? "
                            : blocking  ? "\xE2\x9C\x95 "
                                        : "! ") +
                    to_string(gate.verdict) + (undecided && blocking ? ", blocks" : ""),
                {{"class", pass                     ? "verdict v4"
                           : blocking && !undecided ? "verdict v0"
                                                    : "verdict v2"}});
      page.close().leaf("th", gate.name, {{"scope", "row"}}).leaf("td", gate.model).leaf("td", gate.target);
      page.leaf("td", gate.words, {{"class", "wrap"}}).close();
    }
  page.close();
  close_table(page);
  page.close();
}

}  // namespace qfid::eval
