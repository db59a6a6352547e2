// report: every form of a record again, from results.json and the token files beside it; nothing is run.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "eval/cli/result_commands.h"
#include "eval/experiment/record_reader.h"
#include "eval/report/report.h"
#include "quant/core/error.h"
#include "quant/core/nearest.h"

namespace qfid::eval {

namespace fs = std::filesystem;
using quant::Error;
using quant::ErrorKind;

namespace {

/// The summary of a CI step belongs to all of the step: it is added to, never replaced.
bool is_step_summary(const std::string& file) {
  const char* summary = std::getenv("GITHUB_STEP_SUMMARY");
  return summary != nullptr && *summary != '\0' && file == summary;
}

void append(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::app);
  file << text << std::flush;
  if (!file) throw Error(ErrorKind::input, path.string() + ": can't write");
}

/// Writes what was asked for; "-" is standard output.
void put(const std::string& file, const std::string& text) {
  if (file.empty()) return;
  if (file == "-") {
    std::cout << text;
    return;
  }
  write_file_atomically(file, text);
  std::cerr << "wrote " << file << "\n";
}

void put_lm_eval(const fs::path& dir, const ExperimentRecord& record) {
  for (const auto& [name, text] : lm_eval_files(record)) {
    const fs::path path = dir / name;
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    if (error)
      throw Error(ErrorKind::input, path.parent_path().string() + ": can't create the directory: " + error.message());
    put(path.string(), text);
  }
}

void choose_reference(ExperimentRecord& record, const std::string& group) {
  if (group.empty()) return;
  std::vector<std::string> groups;
  for (const ModelRecord& model : record.models)
    if (!model.group.empty() && std::find(groups.begin(), groups.end(), model.group) == groups.end())
      groups.push_back(model.group);
  if (std::find(groups.begin(), groups.end(), group) == groups.end())
    throw Error(ErrorKind::usage,
                "--reference " + group + ": no model is of this group" + quant::did_you_mean(group, groups));
  record.reference_group = group;
}

bool asks_for_something(const ReportOptions& o) {
  return o.annotations ||
         !(o.html + o.markdown + o.pull_request + o.openmetrics + o.lm_eval + o.junit + o.metrics + o.layers).empty();
}

}  // namespace

int command_report(const ReportOptions& given) {
  ReportOptions options = given;
  const fs::path results = results_path(options.results),
                 dir = results.has_parent_path() ? results.parent_path() : fs::path(".");
  ExperimentRecord record = read_whole_record(results);
  choose_reference(record, options.reference);
  if (!asks_for_something(options)) {
    options.html = (dir / "report.html").string();
    options.markdown = (dir / "report.md").string();
  }
  if (!options.html.empty()) {
    for (const fs::path& missing : read_token_files(record, dir))
      std::cerr << "qfid: " << printable(missing.string()) << " isn't there: the page has no distribution of tokens\n";
    put(options.html, html_report(record));
  }
  if (!options.markdown.empty()) put(options.markdown, markdown_report(record));
  if (is_step_summary(options.pull_request)) {
    append(options.pull_request, pull_request_markdown(record));
  } else if (!options.pull_request.empty()) {
    put(options.pull_request, pull_request_markdown(record));
  }
  if (!options.openmetrics.empty()) put(options.openmetrics, openmetrics_text(record));
  if (!options.junit.empty()) put(options.junit, junit_xml(record.gates, record.name));
  if (!options.metrics.empty()) put(options.metrics, metrics_csv(record));
  if (!options.layers.empty()) put(options.layers, layers_csv(record));
  if (!options.lm_eval.empty()) put_lm_eval(options.lm_eval, record);
  if (options.annotations) std::cout << annotations(record);
  return 0;
}

void add_report(CLI::App& command, ReportOptions& options, std::function<int()>& work) {
  command.add_option("RESULTS", options.results, "results.json of a run, or its directory")->required();
  command.add_option("--reference", options.reference,
                     "The group of models that claims over training seeds compare with (default: the first)");
  command.add_option("--html", options.html, "A page that needs nothing else (default, beside the results: report.html)");
  command.add_option("--markdown", options.markdown, "The same for a reader of text (default: report.md)");
  command.add_option(
      "--pr", options.pull_request,
      "Markdown for a pull request, worst rows first, below 900 KiB; added to when it is $GITHUB_STEP_SUMMARY");
  command.add_flag("--annotations", options.annotations,
                   "At most ten ::error and ::warning lines of GitHub Actions, on stdout");
  command.add_option("--openmetrics", options.openmetrics, "OpenMetrics text");
  command.add_option("--lm-eval", options.lm_eval,
                     "Directory for results as lm-evaluation-harness writes them, a file a run");
  command.add_option("--junit", options.junit, "The gates' verdicts as JUnit XML");
  command.add_option("--csv", options.metrics, "All metrics of all runs");
  command.add_option("--layers", options.layers, "layers.csv");
  command.footer("A file named - is standard output. Nothing is run, no gate is evaluated again (qfid check does).");
  command.callback([&] { work = [&] { return command_report(options); }; });
}

}  // namespace qfid::eval
