// report.html: one file, no network, no script. The page's frame; its sections are in html_*.cc.
#include <algorithm>
#include <format>

#include "eval/experiment/training_claims.h"
#include "eval/report/format.h"
#include "eval/report/html_sections.h"
#include "eval/report/report.h"

namespace qfid::eval {

Style style_of(const ExperimentRecord& record, const std::string& target) {
  if (target == "baseline") return {-1};
  std::vector<std::string> names;
  for (const RunRecord& run : record.runs)
    if (run.target != "baseline" && std::find(names.begin(), names.end(), run.target) == names.end())
      names.push_back(run.target);
  return {static_cast<int>(std::find(names.begin(), names.end(), target) - names.begin())};
}

std::string shown_number(std::optional<double> value) { return value && std::isfinite(*value) ? short_number(value) : "-"; }

std::string shown_interval(const Metric* metric) {
  if (metric == nullptr || !metric->ci) return "-";
  if (metric->unit == "ratio") return std::format("{:.4f} to {:.4f}", metric->ci->low, metric->ci->high);
  return shown_number(metric->ci->low) + " to " + shown_number(metric->ci->high);
}

std::string shown_number(const Metric* metric) { return metric == nullptr ? "-" : shown_number(metric->value); }

void open_section(Html& page, const std::string& id, const std::string& title) {
  page.open("section", {{"id", id}, {"aria-labelledby", "h-" + id}}).leaf("h2", title, {{"id", "h-" + id}});
}

void open_table(Html& page, const std::string& caption) {
  page.open("div", {{"class", "scroll"}, {"tabindex", "0"}, {"role", "region"}, {"aria-label", caption}});
  page.open("table").leaf("caption", caption);
}

void close_table(Html& page) { page.close().close(); }

namespace {

void add_head(Html& page, const ExperimentRecord& record) {
  page.open("head").empty("meta", {{"charset", "utf-8"}});
  page.empty("meta", {{"name", "viewport"}, {"content", "width=device-width, initial-scale=1"}});
  page.empty("meta", {{"name", "color-scheme"}, {"content", "light dark"}});
  page.empty("meta",
             {{"http-equiv", "Content-Security-Policy"}, {"content", "default-src 'none'; style-src 'unsafe-inline'"}});
  page.leaf("title", record.name + ": quantization fidelity");
  page.open("style").trusted(html_style()).close().close();
}

void add_header(Html& page, const ExperimentRecord& record) {
  const Provenance& p = record.provenance;
  page.open("header").leaf("h1", record.name);
  page.leaf("p", std::format("{} windows of {} tokens (protocol {}) on {}, {}, {} threads; qfid {} ({})", p.windows,
                             p.context, p.protocol, p.device, p.isa, p.threads, p.tool_version, p.git_commit));
  if (record.interrupted)
    page.leaf("p", "Interrupted: the numbers cover the windows that were finished.", {{"class", "banner"}});
  for (const RunRecord& run : record.runs)
    if (run.status == RunStatus::failed || run.status == RunStatus::skipped)
      page.leaf("p",
                std::format("{} on {} {}: {}", run.target, run.model,
                            run.status == RunStatus::failed ? "failed" : "was skipped", run.message),
                {{"class", "banner"}});
  if (!record.warnings.empty())
    page.leaf(
        "p", std::format("{} warning{}, listed at the end.", record.warnings.size(), record.warnings.size() == 1 ? "" : "s"),
        {{"class", "small"}});
  page.close();
}

/// Links to the sections that are there.
void add_contents(Html& page, const std::string& body) {
  page.open("nav", {{"aria-label", "Sections"}}).open("ul");
  std::size_t at = 0;
  const std::string mark = "<section id=\"";
  while ((at = body.find(mark, at)) != std::string::npos) {
    at += mark.size();
    const std::string id = body.substr(at, body.find('"', at) - at);
    const std::size_t heading = body.find("<h2", at), from = body.find('>', heading) + 1;
    page.open("li").open("a", {{"href", "#" + id}}).trusted(body.substr(from, body.find('<', from) - from)).close().close();
  }
  page.close().close();
}

}  // namespace

std::string html_report(const ExperimentRecord& whole) {
  // Of checkpoints on the way of a training, one section shows all and the others the last.
  const std::optional<ExperimentRecord> last =
      has_trainings(whole) ? std::optional(without_earlier_checkpoints(whole)) : std::nullopt;
  const ExperimentRecord& record = last ? *last : whole;
  Html sections;
  add_seeds(sections, record);
  add_training(sections, whole);
  add_verdicts(sections, record);
  add_gates(sections, record);
  add_variants(sections, record);
  add_budgets(sections, record);
  add_heads(sections, record);
  add_error_curves(sections, record);
  add_error_parts(sections, record);
  add_outliers(sections, record);
  add_sinks(sections, record);
  add_interventions(sections, record);
  add_attention(sections, record);
  add_kl_distribution(sections, record);
  add_p_codes(sections, record);
  add_codes(sections, record);
  add_format_or_kernel(sections, record);
  add_all_metrics(sections, record);
  add_what_ran(sections, record);
  Html page;
  page.trusted("<!DOCTYPE html>\n").open("html", {{"lang", "en"}});
  add_head(page, record);
  page.open("body").leaf("a", "Skip to the targets", {{"class", "skip"}, {"href", "#targets"}});
  add_header(page, record);
  page.open("main");
  add_answer(page, record);
  add_contents(page, sections.str());
  page.trusted(sections.str()).close();
  page.leaf("footer", "How to read this page: docs/reading-a-report.md of qfid. Every number is in results.json beside it.");
  page.close().close().trusted("\n");
  return page.str();
}

}  // namespace qfid::eval
