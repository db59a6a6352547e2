// run, plan and validate: everything that reads a configuration.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <format>
#include <iostream>
#include <optional>

#include "eval/cli/commands.h"
#include "eval/cli/result_commands.h"
#include "eval/cli/run_parts.h"
#include "eval/cli/surroundings.h"
#include "eval/experiment/gates.h"
#include "eval/experiment/journal.h"
#include "eval/experiment/noise_floor.h"
#include "eval/experiment/record_reader.h"
#include "eval/experiment/runner.h"
#include "eval/experiment/spec_reader.h"
#include "eval/model/checkpoint.h"
#include "eval/report/report.h"
#include "quant/core/byte_stream.h"
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

/// What a merge reads a shard's configuration with.
std::string origin_of(const RunOptions& options) {
  quant::ByteWriter to;
  to.text(options.config);
  for (const std::vector<std::string>* list : {&options.sets, &options.models, &options.targets}) {
    to.number<std::uint64_t>(list->size());
    for (const std::string& word : *list) to.text(word);
  }
  return to.take();
}

int exit_code_of(const ExperimentRecord& record) {
  if (record.interrupted) return 128 + (stop_signal() != 0 ? stop_signal() : SIGINT);
  if (record.unfinished) return 4;
  for (const RunRecord& run : record.runs)
    if (run.status == RunStatus::failed) return 5;
  for (const GateRecord& gate : record.gates)
    if (gate.blocks()) return 1;
  return 0;
}

/// Verdicts into the record. A mistake in the gates (another baseline's data, a bound within the noise) is for after the
/// results are written: hours of work stand all the same.
std::optional<quant::Error> judge(ExperimentRecord& record, const std::vector<GateSpec>& gates,
                                  const SavedBaselines& saved) {
  try {
    record.gates = evaluate_gates(record, gates, saved, today());
    require_above_noise(record, gates);
  } catch (const quant::Error& mistake) { return mistake; }
  return std::nullopt;
}

void complain_about(const ExperimentRecord& record, bool quiet) {
  for (const RunRecord& run : record.runs)
    if (run.status == RunStatus::failed)
      std::cerr << "qfid: " << run.model << " / " << run.target << " failed: " << run.message << "\n";
  if (record.unfinished) {
    for (const std::string& warning : record.warnings)
      if (warning.find(": no ") != std::string::npos) std::cerr << "qfid: " << warning << "\n";
    std::cerr << "qfid: what failed for want of memory or a device isn't finished: the same command tries it again\n";
  }
  if (!quiet) return;
  for (const GateRecord& gate : record.gates)
    if (gate.blocks())
      std::cerr << std::format("qfid: gate {} ({} / {}), {}: {}\n", gate.name, gate.model, gate.target,
                               to_string(gate.verdict), gate.words);
}

void note(const std::string& text) { std::cerr << "qfid: " << printable(text) << "\n"; }

/// A finished run is left alone; what it wrote says what there is to say.
int finished_already(const std::filesystem::path& out, const RunOutcome& outcome, const RunOptions& options) {
  if (!options.quiet) note(out.string() + ": finished already, nothing to do (--restart begins anew)");
  if (!options.junit.empty() && !outcome.results_hash.empty()) {
    const ExperimentRecord record = read_results(out / "results.json");
    write_file_atomically(options.junit, junit_xml(record.gates, record.name));
  }
  if (!outcome.message.empty()) note(outcome.message);
  return outcome.exit_code;
}

std::filesystem::path directory_of(const RunOptions& options, const Spec& spec, const std::optional<Shard>& shard) {
  if (!options.out.empty()) return options.out;
  const std::filesystem::path whole = std::filesystem::path("qfid-out") / spec.name;
  return shard ? whole / std::format("shard-{}-of-{}", shard->index + 1, shard->count) : whole;
}

int end_of_shard(Journal& journal, const Shard& shard, const ExperimentRecord& record, const std::filesystem::path& out,
                 bool quiet) {
  const int code = exit_code_of(record);
  if (!record.interrupted && !record.unfinished) journal.finish({code, "", ""});
  complain_about(record, quiet);
  if (!quiet)
    note(std::format("{}: shard {}/{} {}, {} units; qfid merge makes the run of all shards", out.string(), shard.index + 1,
                     shard.count,
                     record.interrupted  ? "interrupted"
                     : record.unfinished ? "unfinished"
                                         : "finished",
                     journal.kept()));
  return code;
}

}  // namespace

void require_can_be_split(const Spec& spec, const std::string& by) {
  for (const GateSpec& gate : spec.gates)
    if (!gate.exact.empty())
      throw quant::Error(quant::ErrorKind::usage, spec.file.string() + ": gate \"" + gate.name +
                                                      "\" is exact: its hashes go over all windows in one chain, which " +
                                                      by + " can't split");
  if (!spec.dump.directory.empty())
    throw quant::Error(quant::ErrorKind::usage, "--dump writes files of whole tensors, which " + by + " can't split");
}

Spec spec_of(const RunOptions& options) {
  Spec spec = read_spec(options.config, options.sets);
  keep_named(spec.models, options.models, "model");
  keep_named(spec.targets, options.targets, "target");
  return spec;
}

RunOptions options_of(std::string_view origin) {
  quant::ByteReader from(origin);
  RunOptions options;
  options.config = from.text();
  for (std::vector<std::string>* list : {&options.sets, &options.models, &options.targets})
    for (auto left = from.number<std::uint64_t>(); left > 0; --left) list->push_back(from.text());
  return options;
}

void leave_out_timings(ExperimentRecord& record) {
  record.timings = {};
  for (RunRecord& run : record.runs) run.seconds = run.metric_seconds = run.local_seconds = 0;
}

RunOutcome deliver(ExperimentRecord& record, const std::vector<GateSpec>& gates, const SavedBaselines& saved,
                   const std::filesystem::path& out, const std::string& junit, bool quiet) {
  const std::optional<quant::Error> mistake = judge(record, gates, saved);
  // The table first: should the files fail, hours of work are still on the screen.
  if (!quiet) std::cout << console_report(record) << std::flush;
  auto written = write_reports(record, out);
  if (!junit.empty()) {
    write_file_atomically(junit, junit_xml(record.gates, record.name));
    written.emplace_back(junit);
  }
  complain_about(record, quiet);
  if (!quiet)
    for (const auto& path : written) std::cerr << "wrote " << path.string() << "\n";
  RunOutcome outcome{exit_code_of(record), file_hash(out / "results.json"), ""};
  if (mistake && outcome.exit_code <= 1) {
    outcome.exit_code = mistake->exit_code();
    outcome.message = mistake->what();
  }
  return outcome;
}

int command_run(const RunOptions& options) {
  const std::unique_ptr<PartCache> cache = open_cache(options.cache, note);
  const RunExecutor execute = [](const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop,
                                 Journal& journal) { return run_experiment(spec, progress, stop, journal); };
  const int code = command_run(options, execute, cache.get());
  if (cache && !options.quiet)
    note(std::format("{}: {} parts taken, {} kept", cache->directory().string(), cache->found(), cache->kept()));
  return code;
}

int command_run(const RunOptions& options, const RunExecutor& execute, PartCache* cache) {
  Spec spec = spec_of(options);
  spec.dump = {options.dump, options.dump_limit};
  const std::optional<Shard> shard = shard_of(options.shard);
  if (shard) require_can_be_split(spec, "--shard");
  const std::filesystem::path out = directory_of(options, spec, shard);
  const SavedBaselines saved = load_baselines(spec.gates);
  // Whether results can be written is known before hours are spent.
  require_writable(out);
  const std::atomic<bool>& stop = stop_on_signals();
  const auto say = [&](const std::string& text, bool always) {
    if (always || !options.quiet) note(text);
  };
  Journal journal(out, {options.restart, !options.dump.empty(), shard, origin_of(options), say, cache});
  ExperimentRecord record = execute(spec, progress_line(options.quiet, stop), stop, journal);
  if (journal.outcome()) return finished_already(out, *journal.outcome(), options);
  if (!journal.failure().empty()) {
    judge(record, spec.gates, saved);
    if (!options.quiet && !shard) std::cout << console_report(record) << std::flush;
    throw quant::Error(quant::ErrorKind::input, journal.failure());
  }
  if (shard) return end_of_shard(journal, *shard, record, out, options.quiet);
  if (options.no_timings) leave_out_timings(record);
  const RunOutcome outcome = deliver(record, spec.gates, saved, out, options.junit, options.quiet);
  if (!record.interrupted && !record.unfinished) {
    // Of an interruption in the first of several models, which named its tokens as those of the only one.
    std::error_code ignored;
    if (record.models.size() > 1) std::filesystem::remove(out / "tokens.npy", ignored);
    journal.finish(outcome);
  }
  if (!outcome.message.empty()) note(outcome.message);
  return outcome.exit_code;
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
  return plan.device_shortage.empty() ? 0 : 4;
}

int command_validate(const RunOptions& options) {
  const Spec spec = spec_of(options);
  std::cout << std::format("{}: valid, {} models x {} targets\n", options.config, spec.models.size(), spec.targets.size());
  return 0;
}

}  // namespace qfid::eval
