// What run and merge share.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/cli/commands.h"
#include "eval/experiment/gates.h"
#include "eval/experiment/journal.h"
#include "eval/experiment/part_cache.h"
#include "eval/experiment/record.h"
#include "eval/experiment/runner.h"
#include "eval/experiment/saved_baseline.h"
#include "eval/experiment/spec.h"

namespace qfid::eval {

/// The configuration with its overrides, and of its models and targets those that were asked for.
Spec spec_of(const RunOptions& options);
/// What a journal's origin says of a run's command line.
RunOptions options_of(std::string_view origin);

/// "I/N", or "slurm" for the place that SLURM_ARRAY_TASK_ID has in its job array; nothing for "". Error{usage}.
std::optional<Shard> shard_of(const std::string& written);

/// How a run's units come about: run_experiment() with `journal`, or what leaves in `journal` and returns the same.
/// `progress` isn't callable where none is wanted.
using RunExecutor = std::function<ExperimentRecord(const Spec& spec, const ProgressCallback& progress,
                                                   const std::atomic<bool>& stop, Journal& journal)>;
int command_run(const RunOptions& options, const RunExecutor& execute, PartCache* cache = nullptr);
/// The cache that a run's options and environment ask for; none when they don't. Error{usage}/{input}.
std::unique_ptr<PartCache> open_cache(const CacheOptions& options, const std::function<void(const std::string&)>& warn);
/// Error{usage} for what can't be computed in parts; `by`: what asks for parts.
void require_can_be_split(const Spec& spec, const std::string& by);

/// Everything that differs between two runs of the same thing.
void leave_out_timings(ExperimentRecord& record);

/// Judges, prints and writes a run's results: what it did for whoever asks later.
RunOutcome deliver(ExperimentRecord& record, const std::vector<GateSpec>& gates, const SavedBaselines& saved,
                   const std::filesystem::path& out, const std::string& junit, bool quiet);

}  // namespace qfid::eval
