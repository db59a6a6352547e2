// The first screen: which target ships, what that costs, where the damage sits, and whether format or kernel did it. In
// words that say no more than the record does: without gates nothing passes, and an interrupted run decides nothing.
#include <algorithm>
#include <format>

#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/html_sections.h"
#include "eval/report/quality.h"

namespace qfid::eval {

namespace {

using Findings = std::vector<TargetFinding>;

std::vector<std::string> names_of(const Findings& findings, Shipping shipping) {
  std::vector<std::string> names;
  for (const TargetFinding& finding : findings)
    if (finding.shipping == shipping) names.push_back(finding.run->target);
  std::reverse(names.begin(), names.end());  // the best first
  return names;
}

/// "int8 (granularity: expected failure)", best first.
std::vector<std::string> excused_names(const Findings& findings) {
  std::vector<std::string> names;
  for (const TargetFinding& finding : findings) {
    if (finding.shipping != Shipping::passes || finding.excused().empty()) continue;
    std::string why;
    for (const GateRecord* gate : finding.excused())
      why += (why.empty() ? "" : ", ") + gate->name + ": " + to_string(gate->verdict);
    names.push_back(finding.run->target + " (" + why + ")");
  }
  std::reverse(names.begin(), names.end());
  return names;
}

/// Of those that pass, the one that took the least time; "" where that isn't known or there is no choice.
std::string fastest(const ExperimentRecord& record, const Findings& findings) {
  const RunRecord* best = nullptr;
  int passing = 0;
  for (const TargetFinding& finding : findings) {
    if (finding.shipping != Shipping::passes) continue;
    ++passing;
    const auto time = time_ratio(record, *finding.run);
    if (time && (best == nullptr || *time < *time_ratio(record, *best))) best = finding.run;
  }
  return passing < 2 || best == nullptr ? "" : std::format("The fastest that isn't blocked: {}.", best->target);
}

std::string ships(const Findings& findings) {
  const auto measured = [](const TargetFinding& f) { return f.shipping != Shipping::unmeasured; };
  const auto best = std::find_if(findings.rbegin(), findings.rend(), measured);
  if (best == findings.rend()) return "No target was measured, so nothing can be said.";
  std::vector<std::string> passing;
  for (auto it = findings.rbegin(); it != findings.rend(); ++it)
    if (it->shipping == Shipping::passes && it->excused().empty()) passing.push_back(it->run->target);
  const std::vector<std::string> excused = excused_names(findings), blocked = names_of(findings, Shipping::blocked),
                                 undecided = names_of(findings, Shipping::undecided),
                                 ungated = names_of(findings, Shipping::ungated);
  std::string text;
  if (passing.empty() && excused.empty() && blocked.empty() && undecided.empty()) {
    const auto worst = std::find_if(findings.begin(), findings.end(), measured);
    text = "No gates were set, so nothing passes or fails. ";
    return text + (worst->run == best->run
                       ? "The only target is " + best->run->target + "."
                       : std::format("Closest to full precision: {}; farthest: {}.", best->run->target, worst->run->target));
  }
  text = passing.empty() ? "None passes every gate."
                         : listed(passing) + (passing.size() == 1 ? " passes" : " pass") + " every gate.";
  if (!excused.empty()) text += " Not blocked, but excused: " + listed(excused) + ".";
  if (!blocked.empty()) text += " Blocked: " + listed(blocked) + ".";
  if (!undecided.empty()) text += " Undecided, this data can't say: " + listed(undecided) + ".";
  if (!ungated.empty()) text += " Without a gate: " + listed(ungated) + ".";
  return text;
}

/// Whose costs to tell: those that may ship, else the closest and the farthest.
std::vector<const RunRecord*> subjects(const Findings& findings) {
  std::vector<const RunRecord*> passing, measured;
  for (auto it = findings.rbegin(); it != findings.rend(); ++it) {
    if (it->shipping == Shipping::unmeasured) continue;
    if (it->shipping == Shipping::passes) passing.push_back(it->run);
    measured.push_back(it->run);
  }
  std::vector<const RunRecord*>& chosen = passing.empty() ? measured : passing;
  if (chosen.size() > 2) chosen = {chosen.front(), chosen.back()};
  return chosen;
}

std::string cost(const ExperimentRecord& record, const RunRecord& run) {
  const Quality& quality = quality_of(record);
  const Metric *headline = find_metric(run, quality.headline.metric), *distance = find_metric(run, quality.distance.metric);
  std::string text = (quality.ratio ? "perplexity \xC3\x97 " : "NMSE of hidden states ") + shown_number(headline);
  text +=
      headline != nullptr && headline->ci ? " (" + shown_interval(headline) + ")" : " (no interval: fewer than 16 windows)";
  text += quality.ratio ? ", KL " + shown_number(distance) + " nats" : ", cosine distance " + shown_number(distance);
  if (const auto time = time_ratio(record, run)) text += std::format(", forward time \xC3\x97 {:.2f}", *time);
  const RunRecord* base = record.find(run.model, "baseline");
  const Metric *weights = find_metric(run, "weights.bytes"),
               *full = base == nullptr ? nullptr : find_metric(*base, "weights.bytes");
  if (weights != nullptr && weights->value && full != nullptr && full->value && *full->value > 0)
    text += std::format(", weights \xC3\x97 {:.2f} ({:.3g} MB)", *weights->value / *full->value, *weights->value / 1e6);
  return text;
}

/// format_or_kernel without its leading words.
std::string culprit(const ExperimentRecord& record, const std::string& model) {
  const std::string text = format_or_kernel(record, model);
  if (text.empty())
    return "Not told apart: no target ran beside an emulated twin (metrics.kernel_windows), or every target is emulated or "
           "in "
           "full precision.";
  const std::string prefix = "format or kernel: ";
  std::string words = text.starts_with(prefix) ? text.substr(prefix.size()) : text;
  if (words.starts_with("the format")) words[0] = 'T';
  if (words.starts_with("suspect")) words[0] = 'S';
  return words + ".";
}

void add_fact(Html& page, const std::string& name) { page.leaf("dt", name).open("dd"); }

void add_model(Html& page, const ExperimentRecord& record, const ModelRecord& model) {
  const Findings findings = worst_first(record, model.name);
  const std::vector<const RunRecord*> told = subjects(findings);
  page.open("div", {{"class", "card"}});
  page.open("h2")
      .text(model.name)
      .leaf("small", std::format(" {}, {:.3g} M parameters", model.variant, static_cast<double>(model.parameters) / 1e6));
  page.close().open("dl");
  add_fact(page, "Ships?");
  if (record.interrupted) page.leaf("strong", "The run was interrupted: what follows decides nothing. ");
  page.leaf("strong", ships(findings)).close();
  if (!told.empty()) {
    add_fact(page, "At what cost?");
    for (const RunRecord* run : told) page.open("div").leaf("b", run->target).text(": " + cost(record, *run)).close();
    if (const std::string words = fastest(record, findings); !words.empty()) page.leaf("div", words);
    page.close();
    add_fact(page, "Where is the damage?");
    for (const RunRecord* run : told) {
      const std::string where = damage_in_words(*run);
      page.open("div").leaf("b", run->target);
      page.text(": " + (where.empty() ? "no local error was measured, or none was found" : "worst in " + where)).close();
    }
    page.close();
  }
  add_fact(page, "Format or kernel?");
  page.text(culprit(record, model.name)).close();
  page.close().close();
}

/// Targets by what their gates say over all models: a target ships where it passes on each.
std::string ships_everywhere(const ExperimentRecord& record) {
  if (record.gates.empty()) return "No gates were set, so nothing passes or fails.";
  std::vector<std::string> names, passing, rest;
  for (const RunRecord& run : record.runs)
    if (run.target != "baseline" && std::find(names.begin(), names.end(), run.target) == names.end())
      names.push_back(run.target);
  for (const std::string& name : names) {
    std::size_t good = 0;
    std::vector<std::string> blocked;
    for (const ModelRecord& model : record.models)
      for (const TargetFinding& finding : worst_first(record, model.name)) {
        if (finding.run->target != name) continue;
        good += finding.shipping == Shipping::passes ? 1 : 0;
        if (finding.shipping == Shipping::blocked) blocked.push_back(model.name);
      }
    if (good == record.models.size()) passing.push_back(name);
    if (!blocked.empty()) rest.push_back(name + " on " + listed(blocked));
  }
  return (passing.empty() ? "No target may ship on every model." : "On every model may ship: " + listed(passing) + ".") +
         (rest.empty() ? "" : " Blocked: " + listed(rest) + ".");
}

/// Many models: their cards go beyond the first screen, so the answer over all of them stands before.
void add_overview(Html& page, const ExperimentRecord& record) {
  const RunRecord *costliest = nullptr, *worst = nullptr;
  std::vector<std::string> suspects;
  for (const RunRecord& run : record.runs) {
    const auto above = [](const Metric* a, const Metric* b) {
      return a != nullptr && a->value && (b == nullptr || a->value > b->value);
    };
    const char* distance = quality_of(record).distance.metric;
    if (above(find_metric(run, distance), costliest == nullptr ? nullptr : find_metric(*costliest, distance)))
      costliest = &run;
    const auto place = worst_place(run, "local");
    if (place && (worst == nullptr || place->sqnr_db < worst_place(*worst, "local")->sqnr_db)) worst = &run;
    if (!kernel_suspicion(run).empty()) suspects.push_back(run.target + " on " + run.model);
  }
  page.open("div", {{"class", "card"}}).leaf("h2", std::format("All {} models", record.models.size())).open("dl");
  add_fact(page, "Ships?");
  page.leaf("strong", ships_everywhere(record)).close();
  if (costliest != nullptr) {
    add_fact(page, "What costs most?");
    page.leaf("b", costliest->target + " on " + costliest->model).text(": " + cost(record, *costliest)).close();
  }
  if (worst != nullptr) {
    add_fact(page, "Where is the damage worst?");
    page.leaf("b", worst->target + " on " + worst->model).text(": " + in_words(*worst_place(*worst, "local"))).close();
  }
  add_fact(page, "Format or kernel?");
  page.text(suspects.empty() ? "No kernel that ran beside its emulated twin is suspect."
                             : "Suspect the kernel: " + listed(suspects) + ".");
  page.close().close().close();
}

}  // namespace

void add_answer(Html& page, const ExperimentRecord& record) {
  if (record.models.size() > 2) add_overview(page, record);
  page.open("div", {{"class", "cards"}});
  for (const ModelRecord& model : record.models) add_model(page, record, model);
  page.close();
  bool timed = false;
  for (const RunRecord& run : record.runs) timed = timed || time_ratio(record, run).has_value();
  page.open("p", {{"class", "small"}});
  page.text(std::format(
      "Intervals hold the mean at {:.6g} %, windows being the unit. Damage is local: each operation fed with the "
      "full-precision run's inputs, its signal-to-noise ratio in dB (less is worse).",
      100 * record.confidence));
  if (timed)
    page.text(
        std::format(" Forward times are over the baseline's, measured once in this run and without repetition; the process "
                    "held at most {:.0f} MiB, all models and targets together.",
                    record.timings.peak_memory_bytes / (1 << 20)));
  page.close();
}

void add_format_or_kernel(Html& page, const ExperimentRecord& record) {
  const auto place = [](const std::optional<Place>& at) { return at ? in_words(*at) : std::string("exact"); };
  bool any = false;
  for (const RunRecord& run : record.runs) any = any || find_metric(run, "kernel.gain.deviation.max") != nullptr;
  if (!any) return;
  open_section(page, "format-or-kernel", "Format or kernel");
  page.leaf(
      "p",
      "Emulated against full precision is what the format costs; real against emulated is what the kernel adds. Both on the "
      "full-precision run's inputs. A kernel is suspect where its gain is off by more than 1e-3, or where it adds more than "
      "its accumulator explains.");
  open_table(page, "Format or kernel, by target");
  page.open("thead").row("th", {"Model", "Target", "Format's worst place", "Kernel's worst place", "Kernel's gain off by",
                                "Kernel error / format error", "Says"});
  page.close().open("tbody");
  for (const RunRecord& run : record.runs) {
    const Metric* deviation = find_metric(run, "kernel.gain.deviation.max");
    if (deviation == nullptr) continue;
    const std::string suspicion = kernel_suspicion(run);
    page.row("td", {run.model, run.target, place(worst_place(run, "format")), place(worst_place(run, "kernel")),
                    shown_number(deviation), shown_number(find_metric(run, "kernel.damage.share.max")),
                    suspicion.empty() ? "the format" : "suspect the kernel: " + suspicion});
  }
  page.close();
  close_table(page);
  page.close();
}

}  // namespace qfid::eval
