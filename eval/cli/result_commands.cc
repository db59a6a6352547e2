#include "eval/cli/result_commands.h"

#include <algorithm>
#include <filesystem>
#include <format>
#include <iostream>

#include "eval/experiment/gates.h"
#include "eval/experiment/noise_floor.h"
#include "eval/experiment/record_reader.h"
#include "eval/experiment/spec_reader.h"
#include "eval/report/report.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace fs = std::filesystem;
using quant::Error;
using quant::ErrorKind;

namespace {

constexpr const char* results_help = "results.json of a run, or its directory";

/// Those of `file`, or those the results were run with.
std::vector<GateSpec> gates_for(const ExperimentRecord& record, const std::string& file) {
  return file.empty() ? read_gates(record.spec_file, record.spec_text, record.sets) : read_gates(file);
}

/// Gates for what is saved: all metrics where the results have no gates and none are named.
std::vector<GateSpec> gates_to_save(const ExperimentRecord& record, const std::string& file) {
  if (!file.empty()) return read_gates(file);
  try {
    return gates_for(record, "");
  } catch (const Error&) { return {}; }
}

void print_baseline(const SavedBaseline& saved) {
  const DataIdentity& d = saved.data;
  std::cout << std::format("{}: {} windows of {} tokens from {} ({}), tokens {}, chunks of {}\n", saved.path, d.windows,
                           d.context, d.first_token, d.protocol, d.tokens_hash, d.chunk_windows);
  for (const auto& [what, version] : saved.made_with) std::cout << "  " << what << ": " << version << "\n";
  for (const SavedRun& run : saved.runs) {
    std::cout << std::format("{} / {}, checkpoint {}\n  {}\n", run.model, run.target, run.checkpoint, run.schemes);
    double tokens = 0;
    for (const std::int64_t count : run.tokens) tokens += static_cast<double>(count);
    for (const auto& [name, sums] : run.sums) {
      double total = 0;
      for (const double sum : sums) total += sum;
      std::cout << std::format("  {:<16} mean {:.6g}\n", name, total / tokens);
    }
    if (run.hashes)
      std::cout << std::format("  hashes of {} tensors, {} windows, instruction set {}\n", run.hashes->tensors.size(),
                               run.hashes->windows, run.hashes->key.at("instruction set"));
  }
}

void add_baseline(CLI::App& command, BaselineOptions& options, std::function<int()>& work) {
  command.require_subcommand(1);
  CLI::App* save = command.add_subcommand("save", "Save the gated metrics of results; never overwrites");
  save->add_option("RESULTS", options.results, results_help)->required();
  save->add_option("-o,--out", options.file, "The file to write")->required();
  save->add_option("--gates", options.gates,
                   "YAML with the gates whose metrics are saved (default: the results' own, or all)");
  save->callback([&] { work = [&] { return command_baseline_save(options); }; });
  CLI::App* show = command.add_subcommand("show", "What a baseline holds");
  show->add_option("FILE", options.file, "A saved baseline")->required();
  show->callback([&] { work = [&] { return command_baseline_show(options.file); }; });
  CLI::App* update = command.add_subcommand("update", "Replace the runs that results hold; says what changes");
  update->add_option("RESULTS", options.results, results_help)->required();
  update->add_option("FILE", options.file, "The saved baseline")->required();
  update->add_option("--gates", options.gates, "As for save");
  update->callback([&] { work = [&] { return command_baseline_update(options); }; });
}

}  // namespace

fs::path results_path(const std::string& argument) {
  std::error_code error;
  return fs::is_directory(argument, error) ? fs::path(argument) / "results.json" : fs::path(argument);
}

int command_check(const CheckOptions& options) {
  if (!options.date.empty() && !is_date(options.date))
    throw Error(ErrorKind::usage, "--date \"" + options.date + "\", expected YYYY-MM-DD");
  const ExperimentRecord record = read_results(results_path(options.results));
  const std::vector<GateSpec> gates = gates_for(record, options.gates);
  if (!options.baseline.empty() &&
      std::none_of(gates.begin(), gates.end(), [](const GateSpec& g) { return !g.relative_written.empty(); }))
    throw Error(ErrorKind::usage, "--baseline: no gate has relative_to: {file: ...}");
  const std::vector<GateRecord> verdicts =
      evaluate_gates(record, gates, load_baselines(gates, options.baseline), options.date.empty() ? today() : options.date);
  for (const GateSpec& gate : gates)
    if (std::none_of(verdicts.begin(), verdicts.end(), [&](const GateRecord& g) { return g.name == gate.name; }))
      throw Error(ErrorKind::usage, std::format("gate \"{}\" matches no run of {} (models {}, targets {})", gate.name,
                                                options.results, gate.models, gate.targets));
  std::cout << console_gates(verdicts);
  require_above_noise(record, gates);
  if (!options.junit.empty()) write_file_atomically(options.junit, junit_xml(verdicts, record.name));
  return std::any_of(verdicts.begin(), verdicts.end(), [](const GateRecord& g) { return g.blocks(); }) ? 1 : 0;
}

int command_baseline_save(const BaselineOptions& options) {
  std::error_code error;
  if (fs::exists(options.file, error))
    throw Error(ErrorKind::usage, options.file + " exists: qfid baseline update replaces runs, or choose another file");
  const ExperimentRecord record = read_results(results_path(options.results));
  const SavedBaseline saved = baseline_of(record, gates_to_save(record, options.gates));
  write_file_atomically(options.file, baseline_json(saved));
  std::cerr << "wrote " << options.file << " (" << saved.runs.size() << " runs)\n";
  return 0;
}

int command_baseline_show(const std::string& file) {
  print_baseline(read_baseline(fs::path(file)));
  return 0;
}

int command_baseline_update(const BaselineOptions& options) {
  SavedBaseline saved = read_baseline(fs::path(options.file));
  const ExperimentRecord record = read_results(results_path(options.results));
  const SavedBaseline fresh = baseline_of(record, gates_to_save(record, options.gates));
  require_comparable(fresh.data, options.results, saved.data, saved.path);
  for (const SavedRun& run : fresh.runs) {
    const auto old = std::find_if(saved.runs.begin(), saved.runs.end(), [&](const SavedRun& other) {
      return other.model == run.model && other.target == run.target;
    });
    if (old == saved.runs.end()) {
      std::cout << run.model << " / " << run.target << ": new\n";
      saved.runs.push_back(run);
      continue;
    }
    const bool same =
        old->sums == run.sums && old->checkpoint == run.checkpoint && old->tokens == run.tokens && old->hashes == run.hashes;
    std::cout << run.model << " / " << run.target << ": " << (same ? "unchanged" : "replaced")
              << (old->checkpoint == run.checkpoint ? "" : ", another checkpoint")
              << (old->schemes == run.schemes ? "" : ", other schemes") << "\n";
    *old = run;
  }
  saved.made_with = fresh.made_with;
  write_file_atomically(options.file, baseline_json(saved));
  return 0;
}

int command_compare(const CompareOptions& options) {
  if (options.files.size() < 2) throw Error(ErrorKind::usage, "compare needs two files or more");
  if (!(options.confidence >= 0.5 && options.confidence <= 0.9999))
    throw Error(ErrorKind::usage, "--confidence, expected 0.5..0.9999");
  std::vector<ComparedRow> rows;
  if (options.tokens) {
    std::vector<NamedTokens> files;
    for (const std::string& file : options.files) files.push_back({file, read_token_csv(file)});
    rows = compare_tokens(files, options.confidence);
  } else {
    std::vector<NamedRecord> records;
    for (const std::string& file : options.files) records.push_back({file, read_results(results_path(file))});
    rows = compare_records(records, options.confidence);
  }
  std::cout << console_comparison(rows, options.confidence);
  return 0;
}

bool add_result_command(CLI::App& command, const std::string& name, ResultOptions& options, std::function<int()>& work) {
  if (name == "check") {
    command.add_option("RESULTS", options.check.results, results_help)->required();
    command.add_option("--gates", options.check.gates, "YAML with gates: (default: those the results were run with)");
    command.add_option("--baseline", options.check.baseline, "Stands for every relative_to: {file: ...}");
    command.add_option("--junit", options.check.junit, "Also write the verdicts as JUnit XML");
    command.add_option("--date", options.check.date,
                       "The day on which expected failures expire or not (default: today, UTC)");
    command.callback([&] { work = [&] { return command_check(options.check); }; });
  } else if (name == "baseline") {
    add_baseline(command, options.baseline, work);
  } else if (name == "cache") {
    add_cache(command, options.cache, work);
  } else if (name == "attention") {
    add_attention(command, options.attention, work);
  } else if (name == "recommend") {
    add_recommend(command, options.recommend, work);
  } else if (name == "report") {
    add_report(command, options.report, work);
  } else if (name == "compare") {
    command.add_option("FILES", options.compare.files, "Two results or more; with --tokens, CSV files with window,nll[,kl]")
        ->required();
    command.add_flag("--tokens", options.compare.tokens, "Per-token CSV files of any engine");
    command.add_option("--confidence", options.compare.confidence, "Of the intervals (0.95)");
    command.callback([&] { work = [&] { return command_compare(options.compare); }; });
  } else {
    return false;
  }
  return true;
}

}  // namespace qfid::eval
