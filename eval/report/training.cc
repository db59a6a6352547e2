// Over training: measures of checkpoints over their steps, one line a training, a chart for each precision on one axis; then
// what was reproduced of Guo et al.'s findings, by rule. Models say group, seed and step (models.*.step).
#include <cmath>
#include <format>

#include "eval/experiment/training_claims.h"
#include "eval/report/format.h"
#include "eval/report/html_sections.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

struct Curve {
  const char *metric, *title, *y_label;
  bool log_y;
};
constexpr Curve curves_drawn[] = {
    {"backcopy.excess_risk.bigram", "Excess risk, bigram part", "nats", true},
    {"backcopy.excess_risk.copy", "Excess risk, copy part", "nats", true},
    {"backcopy.attention_to_first.bigram", "Attention to <s>, queries that are no trigger", "share", false},
    {"backcopy.attention_to_first.copy", "Attention to <s>, triggers", "share", false},
    {"backcopy.delta_logit.bigram", "\xCE\x94logit of <s>, queries that are no trigger", "nats", false},
    {"backcopy.value_norm.first", "\xE2\x80\x96v\xE2\x80\x96 of <s>", "norm", true},
    {"backcopy.value_norm.ratio", "\xE2\x80\x96v\xE2\x80\x96 of <s> over the other tokens' mean", "ratio", true},
    {"backcopy.gated_value_norm.first", "\xE2\x80\x96g\xC2\xB7v\xE2\x80\x96 of <s>", "norm", true},
    {"backcopy.gated_value_norm.ratio", "\xE2\x80\x96g\xC2\xB7v\xE2\x80\x96 of <s> over the other tokens' mean", "ratio",
     true},
    {"backcopy.residual_norm.first", "Norm of the residual stream at <s>", "norm", true},
    {"backcopy.residual_norm.others", "Norm of the residual stream, other tokens", "norm", true},
    {"perplexity", "Perplexity", "perplexity", true},
    {"kl.mean", "KL from full precision", "nats", true},
};

std::vector<std::string> targets_of(const ExperimentRecord& record) {
  std::vector<std::string> names;
  for (const RunRecord& run : record.runs)
    if (std::find(names.begin(), names.end(), run.target) == names.end()) names.push_back(run.target);
  return names;
}

std::string precision_name(const std::string& target) { return target == "baseline" ? "full precision" : target; }

/// The group, and its seed where it has several.
std::string name_of(const Training& training, const std::vector<Training>& all) {
  const auto alike = std::count_if(all.begin(), all.end(), [&](const Training& t) { return t.group == training.group; });
  return alike > 1 ? std::format("{} s{}", training.group, training.seed) : training.group;
}

using Points = std::vector<std::pair<std::int64_t, double>>;

/// A title's chart for every precision, on one axis. `points_of(training, target)`.
template <class PointsOf>
void add_charts(Html& page, const ExperimentRecord& record, const std::vector<Training>& all, const std::string& title,
                const std::string& y_label, bool log_y, const PointsOf& points_of) {
  std::vector<std::pair<std::string, std::vector<Series>>> charts;
  std::optional<std::pair<double, double>> range;
  for (const std::string& target : targets_of(record)) {
    std::vector<Series> lines;
    for (std::size_t t = 0; t < all.size(); ++t) {
      Series series{name_of(all[t], all), {static_cast<int>(t)}, {}};
      for (const auto& [step, value] : points_of(all[t], target)) series.points.emplace_back(static_cast<int>(step), value);
      if (!series.points.empty()) lines.push_back(std::move(series));
    }
    const auto own = value_range(lines, log_y);
    if (own && range) range = {std::min(range->first, own->first), std::max(range->second, own->second)};
    if (own && !range) range = own;
    if (own) charts.emplace_back(target, std::move(lines));
  }
  if (charts.empty()) return;
  page.leaf("h3", title).open("div", {{"class", "charts"}});
  for (auto& [target, lines] : charts) {
    std::string description;
    for (const Series& line : lines)
      description += std::format("{}{}: {:.3g} at step {}, {:.3g} at step {}", description.empty() ? "" : "; ", line.name,
                                 line.points.front().second, line.points.front().first, line.points.back().second,
                                 line.points.back().first);
    add_line_chart(page, {title + ", " + precision_name(target), description, y_label, log_y, lines, range,
                          precision_name(target), LineAxis::steps});
  }
  page.close();
}

void add_interventions_over_steps(Html& page, const ExperimentRecord& record, const std::vector<Training>& all) {
  std::vector<std::string> names;
  for (const ScoredChange& change : record.interventions)
    if (std::find(names.begin(), names.end(), change.name) == names.end()) names.push_back(change.name);
  for (const std::string& name : names)
    add_charts(page, record, all, "NLL once " + intervention_in_words(name) + ", less the NLL without", "nats", false,
               [&](const Training& training, const std::string& target) {
                 Points points;
                 for (const ModelRecord* model : training.checkpoints)
                   for (const ScoredChange& change : record.interventions)
                     if (change.model == model->name && change.target == target && change.name == name)
                       for (const Metric& metric : change.metrics)
                         if (metric.name == "nll.difference" && metric.value && std::isfinite(*metric.value))
                           points.emplace_back(*model->step, *metric.value);
                 return points;
               });
}

bool any_claim(const std::vector<TrainingClaim>& claims) {
  return std::any_of(claims.begin(), claims.end(), [](const TrainingClaim& c) { return c.value.has_value(); });
}

std::string claim_text(const TrainingClaim& claim) {
  if (!claim.value) return "-";
  std::string text = short_number(claim.value);
  text += claim.verdict == TrainingVerdict::reproduced       ? ": yes"
          : claim.verdict == TrainingVerdict::not_reproduced ? ": no"
                                                             : ": undecided";
  if (claim.verdict == TrainingVerdict::reproduced && claim.since) text += std::format(", from step {}", *claim.since);
  return text;
}

std::string heading_of(const TrainingBound& bound) {
  return std::format("{} {} {:g}", bound.heading, bound.below ? "<" : ">", bound.bound);
}

struct Row {
  std::string training, target;
  std::vector<TrainingClaim> claims;
};

std::vector<Row> rows_of(const ExperimentRecord& record) {
  std::vector<Row> rows;
  const std::vector<Training> all = trainings(record);
  for (const Training& training : all)
    for (const std::string& target : targets_of(record)) {
      Row row{name_of(training, all), target, training_claims(record, training, target)};
      if (any_claim(row.claims)) rows.push_back(std::move(row));
    }
  return rows;
}

const char* const explanation =
    "Held to what Guo et al. (2024, arXiv 2410.13835) describe on bigram-backcopy: a model that has learnt the task, whose "
    "queries that are no trigger attend to <s>, whose value is drained. Yes and no are of the last checkpoint, by its "
    "interval over sequences where it has one (undecided: the interval holds the bound); a step is the first from which "
    "every checkpoint keeps the bound. One training is one draw: no word here is about other seeds.";

std::string list_of(const Row& row, TrainingVerdict verdict) {
  std::string text;
  for (const TrainingClaim& claim : row.claims)
    if (claim.value && claim.verdict == verdict)
      text += std::format("{}{} {} (bound {:g})", text.empty() ? "" : "; ", claim.bound->words, short_number(claim.value),
                          claim.bound->bound);
  return text;
}

/// Which comes first, where both came to stay.
std::string order_of(const Row& row) {
  const TrainingClaim *sink = nullptr, *drain = nullptr;
  for (const TrainingClaim& claim : row.claims) {
    const std::string metric = claim.bound->metric;
    if (metric == "backcopy.attention_to_first.bigram") sink = &claim;
    if (metric == "backcopy.value_norm.ratio") drain = &claim;
  }
  if (sink == nullptr || drain == nullptr || !sink->since || !drain->since) return "";
  return std::format(" The value is drained from step {} on, the attention there from step {} on.", *drain->since,
                     *sink->since);
}

/// A sentence a training: what full precision shows, and where a target answers otherwise.
std::vector<std::string> sentences(const ExperimentRecord& record) {
  std::vector<std::string> all;
  const std::vector<Row> rows = rows_of(record);
  for (const Row& full : rows) {
    if (full.target != "baseline") continue;
    std::string text = full.training + ": ";
    const std::string yes = list_of(full, TrainingVerdict::reproduced), no = list_of(full, TrainingVerdict::not_reproduced),
                      open = list_of(full, TrainingVerdict::undecided);
    text += yes.empty() ? "nothing was reproduced" : "reproduced are " + yes;
    if (!no.empty()) text += ". Not reproduced: " + no;
    if (!open.empty()) text += ". Undecided: " + open;
    text += "." + order_of(full);
    for (const Row& row : rows) {
      if (row.training != full.training || row.target == "baseline") continue;
      std::string changed;
      for (std::size_t c = 0; c < row.claims.size(); ++c)
        if (row.claims[c].verdict != full.claims[c].verdict)
          changed +=
              std::format("{}{} is {}", changed.empty() ? "" : "; ", row.claims[c].bound->words, claim_text(row.claims[c]));
      text += " Under " + row.target + (changed.empty() ? " the same answers." : " otherwise: " + changed + ".");
    }
    all.push_back(std::move(text));
  }
  return all;
}

std::vector<std::string> headings() {
  std::vector<std::string> all{"Training", "Precision"};
  for (const TrainingBound& bound : training_bounds()) all.push_back(heading_of(bound));
  return all;
}

std::vector<std::string> cells_of(const Row& row) {
  std::vector<std::string> cells{row.training, precision_name(row.target)};
  for (const TrainingClaim& claim : row.claims) cells.push_back(claim_text(claim));
  return cells;
}

}  // namespace

void add_training(Html& page, const ExperimentRecord& record) {
  const std::vector<Training> all = trainings(record);
  if (all.empty()) return;
  open_section(page, "training", "Over training");
  page.leaf("p", std::format("{} checkpoints of {} training{}, each measured alone; steps on a logarithmic scale, step 0 at "
                             "the left. The other sections show the last checkpoint of each.",
                             std::count_if(record.models.begin(), record.models.end(),
                                           [](const ModelRecord& m) { return m.step.has_value(); }),
                             all.size(), all.size() == 1 ? "" : "s"));
  for (const Curve& curve : curves_drawn)
    add_charts(page, record, all, curve.title, curve.y_label, curve.log_y,
               [&](const Training& training, const std::string& target) {
                 return over_steps(record, training, target, curve.metric);
               });
  add_interventions_over_steps(page, record, all);
  if (const std::vector<Row> rows = rows_of(record); !rows.empty()) {
    page.leaf("h3", "What was reproduced").leaf("p", explanation);
    for (const std::string& sentence : sentences(record)) page.leaf("p", sentence);
    open_table(page, "What was reproduced");
    page.open("thead").row("th", headings()).close().open("tbody");
    for (const Row& row : rows) page.row("td", cells_of(row));
    page.close();
    close_table(page);
  }
  page.close();
}

std::string markdown_training(const ExperimentRecord& record) {
  const std::vector<Row> rows = rows_of(record);
  if (rows.empty()) return "";
  std::string text = "## Over training\n\n" + cell(explanation) + "\n\n";
  for (const std::string& sentence : sentences(record)) text += "- " + cell(sentence) + "\n";
  const auto line = [&](const std::vector<std::string>& cells) {
    for (const std::string& one : cells) text += "| " + cell(one) + " ";
    text += "|\n";
  };
  text += "\n";
  line(headings());
  for (std::size_t i = 0; i < headings().size(); ++i) text += "|---";
  text += "|\n";
  for (const Row& row : rows) line(cells_of(row));
  return text + "\n";
}

std::string console_training(const ExperimentRecord& record, int width_in) {
  const std::vector<std::string> all = sentences(record);
  if (all.empty()) return "";
  const auto width = static_cast<std::size_t>(std::max(width_in, 72));
  std::string text = "Over training\n";
  for (const std::string& sentence : all) add_wrapped(text, "  " + sentence, width);
  return text;
}

}  // namespace qfid::eval
