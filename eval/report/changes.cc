// Runs changed on purpose, in every form: what noise alone does to full precision, and interventions on sinks and gates.
#include <format>

#include "eval/report/format.h"
#include "eval/report/html_sections.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

const Metric* metric_of(const ScoredChange& change, const std::string& name) {
  for (const Metric& metric : change.metrics)
    if (metric.name == name) return &metric;
  return nullptr;
}

std::string value(const ScoredChange& change, const char* name) { return shown_number(metric_of(change, name)); }

std::string with_interval(const ScoredChange& change, const char* name) {
  const Metric* metric = metric_of(change, name);
  if (metric == nullptr || !metric->value) return "-";
  std::string text = std::format("{:.6g}", *metric->value);
  if (metric->ci) text += std::format(" ({:.6g} .. {:.6g})", metric->ci->low, metric->ci->high);
  return text;
}

/// Windows that a change was scored on.
std::size_t windows_of(const ExperimentRecord& record) {
  for (const ScoredChange& change : record.interventions)
    if (!change.tokens.empty()) return change.tokens.size();
  return 0;
}

}  // namespace

std::string intervention_in_words(const std::string& name) {
  return name == "mask_key_0"  ? "no query after the first sees key 0"
         : name == "zero_v_0"  ? "the value of position 0 is 0"
         : name == "gate_one"  ? "every gate is 1"
         : name == "gate_mean" ? "every gate is its mean in full precision"
                               : name;
}

std::string console_changes(const ExperimentRecord& record, const std::string& model, int width_in) {
  const auto width = static_cast<std::size_t>(std::max(width_in, 72));
  std::string text;
  for (const ScoredChange& noise : record.noise)
    if (noise.model == model)
      add_wrapped(text,
                  std::format("  noise floor, {}: ratio {}, KL {}, top-1 {} ({} windows)", noise.name,
                              with_interval(noise, "perplexity.ratio"), value(noise, "kl.mean"),
                              value(noise, "top1.agreement"), noise.tokens.size()),
                  width);
  bool any = false;
  for (const ScoredChange& change : record.interventions) {
    if (change.model != model) continue;
    if (!any) text += "  Interventions: NLL less that of the same run untouched (nats)\n";
    any = true;
    add_wrapped(text,
                std::format("    {}, {}: {}", change.target, change.name,
                            change.message.empty() ? with_interval(change, "nll.difference") : change.message),
                width);
  }
  return text;
}

std::string markdown_changes(const ExperimentRecord& record, const std::string& model) {
  std::string noise, changes;
  for (const ScoredChange& n : record.noise)
    if (n.model == model)
      noise += std::format("| {} | {} | {} | {} | {} |\n", cell(n.name), with_interval(n, "perplexity.ratio"),
                           with_interval(n, "kl.mean"), with_interval(n, "top1.agreement"), n.tokens.size());
  for (const ScoredChange& c : record.interventions)
    if (c.model == model)
      changes += c.message.empty()
                     ? std::format("| {} | {} | {} | {} | {} |\n", cell(c.target), cell(c.name), value(c, "perplexity"),
                                   with_interval(c, "nll.difference"), value(c, "kl.mean"))
                     : std::format("| {} | {} | {} | | |\n", cell(c.target), cell(c.name), cell(c.message));
  std::string text;
  if (!noise.empty())
    text +=
        "### Noise floor\n\nFull precision against itself: a bound below this says nothing about a target.\n\n| noise | "
        "ratio | "
        "KL (nats) | top-1 agreement | windows |\n|---|---|---|---|---|\n" +
        noise + "\n";
  if (!changes.empty())
    text +=
        "### Interventions\n\nAgainst the same run untouched, on the same windows.\n\n| target | intervention | perplexity "
        "| NLL "
        "difference (nats) | KL (nats) |\n|---|---|---|---|---|\n" +
        changes + "\n";
  return text;
}

void add_noise_rows(Html& page, const ExperimentRecord& record, const std::string& model) {
  for (const ScoredChange& noise : record.noise) {
    if (noise.model != model) continue;
    const Metric* ratio = metric_of(noise, "perplexity.ratio");
    page.open("tr").leaf("th", "noise floor", {{"scope", "row"}}).leaf("td", "").leaf("td", noise.name, {{"class", "wrap"}});
    for (const std::string& text :
         {value(noise, "perplexity"), value(noise, "perplexity.ratio"),
          ratio != nullptr && ratio->ci ? std::format("{:.4f} to {:.4f}", ratio->ci->low, ratio->ci->high)
                                        : std::string("-"),
          value(noise, "kl.mean"), value(noise, "top1.agreement"), std::string(), std::string()})
      page.leaf("td", text);
    page.close();
  }
}

void add_interventions(Html& page, const ExperimentRecord& record) {
  if (record.interventions.empty()) return;
  open_section(page, "interventions", "Interventions");
  page.leaf("p",
            std::format("What attention's first key and its gates are good for: each run against itself untouched, on the "
                        "first {} windows. NLL and KL in nats.",
                        windows_of(record)));
  open_table(page, "Interventions");
  page.open("thead").row("th", {"Model", "Target", "Intervention", "Perplexity", "NLL difference", "KL"});
  page.close().open("tbody");
  for (const ScoredChange& c : record.interventions) {
    page.open("tr").leaf("td", c.model).leaf("th", c.target, {{"scope", "row"}});
    page.leaf("td", intervention_in_words(c.name), {{"class", "wrap"}});
    if (c.message.empty()) {
      page.leaf("td", value(c, "perplexity")).leaf("td", with_interval(c, "nll.difference")).leaf("td", value(c, "kl.mean"));
    } else {
      page.leaf("td", c.message, {{"colspan", "3"}});
    }
    page.close();
  }
  page.close();
  close_table(page);
  page.close();
}

}  // namespace qfid::eval
