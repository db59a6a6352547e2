// Record -> text. One file per format; each is a pure function of the record.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "eval/experiment/compare.h"
#include "eval/experiment/pilot.h"
#include "eval/experiment/recommend.h"
#include "eval/experiment/record.h"
#include "eval/experiment/runner.h"

namespace qfid::eval {

/// The table a person sees after a run; no line longer than `width` columns (at least 72).
std::string console_report(const ExperimentRecord& record, int width = 80);
/// The same for attention alone (qfid attention).
std::string console_attention(const ExperimentRecord& record, int width = 80);
std::string console_plan(const Plan& plan);
/// What the planned windows can see (qfid plan --pilot), and how many windows fit a time budget.
std::string console_pilot(const std::vector<PilotEffect>& effects, int width = 80);
std::string console_time_budget(const Plan& plan, double seconds);
/// Shares of each target's parts in its KL, of one model; empty without budgets.
std::string console_budgets(const ExperimentRecord& record, const std::string& model, int width = 80);
std::string markdown_budgets(const ExperimentRecord& record, const std::string& model);
/// Several models under each target; empty with fewer than two.
std::string markdown_variants(const ExperimentRecord& record);
/// The noise floor and interventions of one model; empty where none were measured.
std::string console_changes(const ExperimentRecord& record, const std::string& model, int width = 80);
std::string markdown_changes(const ExperimentRecord& record, const std::string& model);
/// What groups of models show over their training seeds; empty where no models say theirs.
std::string console_seeds(const ExperimentRecord& record, int width = 80);
std::string markdown_seeds(const ExperimentRecord& record);
/// What became of models over their training steps; empty where no models say theirs, or the data isn't bigram-backcopy.
std::string console_training(const ExperimentRecord& record, int width = 80);
std::string markdown_training(const ExperimentRecord& record);
/// The verdicts in words, what blocks first; empty without gates.
std::string console_gates(const std::vector<GateRecord>& gates, int width = 80);
std::string markdown_gates(const std::vector<GateRecord>& gates);
/// JUnit XML: one case for each model, target and gate; `name` is the suite's.
std::string junit_xml(const std::vector<GateRecord>& gates, const std::string& name);
/// Results side by side (qfid compare).
std::string console_comparison(const std::vector<ComparedRow>& rows, double confidence);
/// Which target should ship (qfid recommend).
std::string console_recommendation(const ExperimentRecord& record, const std::vector<Recommendation>& all, int width = 80);
std::string recommendation_json(const std::vector<Recommendation>& all);
std::string markdown_report(const ExperimentRecord& record);
/// Every measure by its key, as Markdown (qfid metrics, docs/metrics-reference.md).
std::string metrics_reference();
/// One self-contained page: no script, nothing from the network; all text from outside is escaped.
std::string html_report(const ExperimentRecord& record);
/// results.json, schema_version first; everything that may differ between two equal runs is under "timings".
std::string results_json(const ExperimentRecord& record);
/// RFC 4180: model,target,error,layer,tap,head and the union of value columns.
std::string layers_csv(const ExperimentRecord& record);
/// RFC 4180: model,target,metric,value,low,high,unit,note; a row for each metric of each run,
/// then those of its error budget.
std::string metrics_csv(const ExperimentRecord& record);
/// For a pull request or a job's summary: the verdict, then the worst rows first; below `limit` bytes, and it says what it
/// left out. GitHub takes 1 MiB.
std::string pull_request_markdown(const ExperimentRecord& record, std::size_t limit = 900 << 10);
/// At most ten ::error and ::warning lines of GitHub Actions; empty when there is nothing to say.
std::string annotations(const ExperimentRecord& record);
/// OpenMetrics 1.0 text.
std::string openmetrics_text(const ExperimentRecord& record);
/// As lm-evaluation-harness writes results: MODEL__TARGET/results_DATE.json and its content, for each run with metrics.
std::vector<std::pair<std::string, std::string>> lm_eval_files(const ExperimentRecord& record);
/// Per model, a NumPy structured array [runs, tokens] of {nll f4, kl f4, top1 i4}; runs in record order, only those that
/// were scored. File names: tokens.npy for one model, tokens-MODEL.npy for several.
std::vector<std::pair<std::string, std::string>> token_files(const ExperimentRecord& record);
/// Those files back into the record's runs; `dir` is where results.json lies. Returns the ones that aren't there.
/// Error{input} for one that doesn't fit the record.
std::vector<std::filesystem::path> read_token_files(ExperimentRecord& record, const std::filesystem::path& dir);

/// Writes a temporary file, syncs, renames; Error{input} naming path and reason (disk full, read-only, ...).
void write_file_atomically(const std::filesystem::path& path, std::string_view content);
/// results.json, report.md, layers.csv and the token files into dir (created). Returns the paths written.
std::vector<std::filesystem::path> write_reports(const ExperimentRecord& record, const std::filesystem::path& dir);

}  // namespace qfid::eval
