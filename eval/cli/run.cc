// run, plan and validate: everything that reads a configuration.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <format>
#include <iostream>

#include "eval/cli/commands.h"
#include "eval/cli/result_commands.h"
#include "eval/cli/surroundings.h"
#include "eval/experiment/gates.h"
#include "eval/experiment/noise_floor.h"
#include "eval/experiment/record_reader.h"
#include "eval/experiment/runner.h"
#include "eval/experiment/spec_reader.h"
#include "eval/report/report.h"
#include "quant/core/error.h"
#include "quant/core/nearest.h"

namespace qfid::eval {

namespace {

template <class T>
void keep_named(std::vector<T>& all, const std::vector<std::string>& names, const char* what) {
  if (names.empty()) return;
  std::vector<std::string> known;
  for (const T& entry : all) known.push_back(entry.name);
  for (const std::string& name : names)
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw quant::Error(quant::ErrorKind::usage, std::string("no ") + what + " \"" + name + "\" in the configuration" +
                                                      quant::did_you_mean(name, known));
  std::erase_if(all, [&](const T& entry) { return std::find(names.begin(), names.end(), entry.name) == names.end(); });
}

Spec spec_of(const RunOptions& options) {
  Spec spec = read_spec(options.config, options.sets);
  keep_named(spec.models, options.models, "model");
  keep_named(spec.targets, options.targets, "target");
  return spec;
}

ProgressCallback progress_line(bool quiet, const std::atomic<bool>& stop) {
  if (quiet || isatty(STDERR_FILENO) == 0) return {};
  return [&stop](const Progress& p) {
    const double rate = p.seconds > 0 ? static_cast<double>(p.done_tokens) / p.seconds : 0;
    const double left = p.done_windows > 0 ? p.seconds * static_cast<double>(p.total_windows - p.done_windows) /
                                                 static_cast<double>(p.done_windows)
                                           : 0;
    std::cerr << std::format("\r\033[K{}: {}{}/{} windows, {:.0f} tokens/s, {:.0f} s left", p.model,
                             p.pass.empty() ? "" : p.pass + ", ", p.done_windows, p.total_windows, rate, left)
              << (p.done_windows == p.total_windows ? "\r\033[K" : "") << std::flush;
    if (stop.load()) std::cerr << "\nqfid: interrupted, writing what is known\n";
  };
}

int exit_code_of(const ExperimentRecord& record) {
  if (record.interrupted) return 130;
  for (const RunRecord& run : record.runs)
    if (run.status == RunStatus::failed) return run.message.starts_with("out of memory") ? 4 : 5;
  for (const GateRecord& gate : record.gates)
    if (gate.blocks()) return 1;
  return 0;
}

/// Verdicts into the record. A mistake in the gates (another baseline's data, a bound within the noise) is for after the
/// results are written: hours of work stand all the same.
std::exception_ptr judge(ExperimentRecord& record, const std::vector<GateSpec>& gates, const SavedBaselines& saved) {
  try {
    record.gates = evaluate_gates(record, gates, saved, today());
    require_above_noise(record, gates);
  } catch (const quant::Error&) { return std::current_exception(); }
  return nullptr;
}

}  // namespace

int command_run(const RunOptions& options) {
  Spec spec = spec_of(options);
  spec.dump = {options.dump, options.dump_limit};
  const std::filesystem::path out =
      options.out.empty() ? std::filesystem::path("qfid-out") / spec.name : std::filesystem::path(options.out);
  const SavedBaselines saved = load_baselines(spec.gates);
  // Whether results can be written is known before hours are spent.
  require_writable(out);
  const std::atomic<bool>& stop = stop_on_signals();
  ExperimentRecord record = run_experiment(spec, progress_line(options.quiet, stop), stop);
  const std::exception_ptr mistake = judge(record, spec.gates, saved);
  // The table first: should the files fail, hours of work are still on the screen.
  if (!options.quiet) std::cout << console_report(record) << std::flush;
  auto written = write_reports(record, out);
  if (!options.junit.empty()) {
    write_file_atomically(options.junit, junit_xml(record.gates, record.name));
    written.emplace_back(options.junit);
  }
  for (const RunRecord& run : record.runs)
    if (run.status == RunStatus::failed)
      std::cerr << "qfid: " << run.model << " / " << run.target << " failed: " << run.message << "\n";
  if (options.quiet)
    for (const GateRecord& gate : record.gates)
      if (gate.blocks())
        std::cerr << std::format("qfid: gate {} ({} / {}), {}: {}\n", gate.name, gate.model, gate.target,
                                 to_string(gate.verdict), gate.words);
  if (!options.quiet)
    for (const auto& path : written) std::cerr << "wrote " << path.string() << "\n";
  const int code = exit_code_of(record);
  if (mistake && code <= 1) std::rethrow_exception(mistake);
  return code;
}

int command_plan(const RunOptions& options, const PlanOptions& more) {
  const Spec spec = spec_of(options);
  const Plan plan = make_plan(spec);
  std::cout << console_plan(plan);
  if (more.time_budget > 0) std::cout << console_time_budget(plan, more.time_budget);
  if (!more.pilot.empty())
    std::cout << console_pilot(effects_of_pilot(spec, plan, read_results(results_path(more.pilot)), more.pilot));
  for (const PlannedRun& run : plan.runs)
    if (!run.runs && !run.skipped) return 4;
  return 0;
}

int command_validate(const RunOptions& options) {
  const Spec spec = spec_of(options);
  std::cout << std::format("{}: valid, {} models x {} targets\n", options.config, spec.models.size(), spec.targets.size());
  return 0;
}

}  // namespace qfid::eval
