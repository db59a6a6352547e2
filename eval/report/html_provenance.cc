// Every number and where it comes from: all metrics as the record has them, what ran, and how to run it again.
#include <algorithm>
#include <format>
#include <map>

#include "eval/report/format.h"
#include "eval/report/html_sections.h"

namespace qfid::eval {

namespace {

/// Rows are whatever metrics the runs hold, so that a new metric needs no line here.
void add_model_metrics(Html& page, const ExperimentRecord& record, const ModelRecord& model) {
  std::vector<const RunRecord*> runs;
  std::vector<std::string> names;
  std::map<std::string, const Metric*> first;
  for (const RunRecord& run : record.runs) {
    if (run.model != model.name || run.metrics.empty()) continue;
    runs.push_back(&run);
    for (const Metric& metric : run.metrics)
      if (first.try_emplace(metric.name, &metric).second) names.push_back(metric.name);
  }
  if (runs.empty()) return;
  page.open("details").leaf("summary", "All metrics of " + model.name);
  open_table(page, "All metrics of " + model.name);
  std::vector<std::string> head{"Metric", "Unit"};
  for (const RunRecord* run : runs) head.push_back(run->target);
  page.open("thead").row("th", head).close().open("tbody");
  for (const std::string& name : names) {
    std::vector<std::string> cells{name, first[name]->unit};
    for (const RunRecord* run : runs) {
      const Metric* metric = find_metric(*run, name);
      std::string text = shown_number(metric);
      if (metric != nullptr && metric->ci)
        text += std::format(" ({} to {})", shown_number(metric->ci->low), shown_number(metric->ci->high));
      cells.push_back(text);
    }
    page.row("td", cells);
  }
  page.close();
  close_table(page);
  page.close();
}

/// "q_proj, k_proj, fc1: NAME", sites with the same implementation together.
std::vector<std::string> implementations_of(const RunRecord& run) {
  std::vector<std::pair<std::string, std::string>> by_name;  // implementation, sites
  for (const auto& [site, name] : run.implementations) {
    const auto at = std::find_if(by_name.begin(), by_name.end(), [&](const auto& entry) { return entry.first == name; });
    if (at == by_name.end())
      by_name.emplace_back(name, site);
    else
      at->second += ", " + site;
  }
  std::vector<std::string> lines;
  for (const auto& [name, sites] : by_name) lines.push_back(sites + ": " + name);
  return lines;
}

void add_runs(Html& page, const ExperimentRecord& record) {
  open_table(page, "What ran");
  page.open("thead").row("th", {"Model", "Target", "Backend", "Schemes", "Implementations that ran"}).close().open("tbody");
  for (const RunRecord& run : record.runs) {
    page.open("tr").leaf("th", run.model, {{"scope", "row"}}).leaf("td", run.target);
    page.leaf("td", run.backend + " (" + run.mode + ")").leaf("td", run.description, {{"class", "wrap"}});
    page.open("td", {{"class", "wrap"}});
    for (const std::string& line : implementations_of(run)) page.leaf("div", line);
    page.close().close();
  }
  page.close();
  close_table(page);
}

void add_facts(Html& page, const ExperimentRecord& record) {
  const Provenance& p = record.provenance;
  std::string libraries;
  for (const auto& [name, version] : p.libraries) libraries += (libraries.empty() ? "" : ", ") + name + " " + version;
  page.open("dl", {{"class", "facts"}});
  const auto fact = [&](const std::string& name, const std::string& text) { page.leaf("dt", name).leaf("dd", text); };
  fact("qfid", std::format("{} ({}), {}", p.tool_version, p.git_commit, p.compiler));
  fact("Libraries", libraries.empty() ? "none" : libraries);
  fact("Device", std::format("{}, {}, {} threads", p.device, p.isa, p.threads));
  fact("Tokens", std::format("{} (hash {}), protocol {}, {} windows of {} tokens from token {}, {} a chunk", p.tokens_path,
                             p.tokens_hash, p.protocol, p.windows, p.context, p.first_token, p.chunk_windows));
  if (!p.targets_path.empty()) fact("Targets", p.targets_path + " (the tokens' hash is of both files)");
  if (!p.tokenizer_hash.empty())
    fact("Tokenizer", std::format("{} (hash {}); a document is one of the text's {}", p.tokenizer, p.tokenizer_hash,
                                  p.documents == "file" ? "files" : "lines"));
  for (const ModelRecord& model : record.models)
    fact("Model " + model.name, std::format("{}, {}, {}, {} parameters, content {}", model.path, model.family, model.variant,
                                            model.parameters, model.content_hash));
  std::string sets;
  for (const std::string& set : record.sets) sets += " --set " + set;
  fact("Configuration", record.spec_file + sets);
  if (record.timings.total_seconds > 0)
    fact("Time",
         std::format("started {}; {:.1f} s in all: loading {:.1f}, calibration {:.1f}, baselines {:.1f}, targets {:.1f}, "
                     "comparisons {:.1f}, local errors {:.1f}, error budgets {:.1f}",
                     record.timings.started, record.timings.total_seconds, record.timings.load_seconds,
                     record.timings.calibration_seconds, record.timings.baseline_seconds, record.timings.targets_seconds,
                     record.timings.metrics_seconds, record.timings.local_seconds, record.timings.budget_seconds));
  page.close();
}

}  // namespace

void add_all_metrics(Html& page, const ExperimentRecord& record) {
  const bool any =
      std::any_of(record.runs.begin(), record.runs.end(), [](const RunRecord& run) { return !run.metrics.empty(); });
  if (!any) return;
  open_section(page, "metrics", "Every metric");
  for (const ModelRecord& model : record.models) add_model_metrics(page, record, model);
  page.close();
}

void add_what_ran(Html& page, const ExperimentRecord& record) {
  open_section(page, "provenance", "What ran, and how to run it again");
  add_runs(page, record);
  add_facts(page, record);
  if (!record.warnings.empty()) {
    page.leaf("h3", "Warnings").open("ul");
    for (const std::string& warning : record.warnings) page.leaf("li", warning);
    page.close();
  }
  page.leaf("h3", "Each run alone");
  std::string lines;
  for (const RunRecord& run : record.runs)
    if (!run.repro.empty()) lines += run.repro + "\n";
  page.open("pre", {{"tabindex", "0"}, {"role", "region"}, {"aria-label", "command lines"}}).leaf("code", lines).close();
  if (!record.spec_text.empty()) {
    page.open("details").leaf("summary", "The configuration");
    page.open("pre", {{"tabindex", "0"}, {"role", "region"}, {"aria-label", "configuration"}})
        .leaf("code", record.spec_text)
        .close();
    page.close();
  }
  page.close();
}

}  // namespace qfid::eval
