// merge, and which part of a run a shard is.
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <format>

#include "eval/cli/run_parts.h"
#include "eval/cli/surroundings.h"
#include "eval/experiment/merged_units.h"
#include "eval/experiment/runner.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

using quant::Error;
using quant::ErrorKind;

constexpr std::int64_t most_shards = 1'000'000;

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

/// One of Slurm's variables; `otherwise` where it may be missing.
std::int64_t slurm_number(const char* name, std::optional<std::int64_t> otherwise = std::nullopt) {
  const char* const text = std::getenv(name);
  if (text == nullptr && otherwise) return *otherwise;
  if (text == nullptr)
    throw Error(ErrorKind::usage, std::format("--shard slurm: {} isn't set, expected a task of a job array", name));
  const std::optional<std::int64_t> value = whole_number(text);
  if (!value) throw Error(ErrorKind::usage, std::format("--shard slurm: {} is \"{}\", expected a number", name, text));
  return *value;
}

Shard slurm_shard() {
  const std::int64_t id = slurm_number("SLURM_ARRAY_TASK_ID"), count = slurm_number("SLURM_ARRAY_TASK_COUNT"),
                     first = slurm_number("SLURM_ARRAY_TASK_MIN", 0), step = slurm_number("SLURM_ARRAY_TASK_STEP", 1);
  if (step < 1 || id < first || (id - first) % step != 0 || count < 1 || count > most_shards || (id - first) / step >= count)
    throw Error(ErrorKind::usage,
                std::format("--shard slurm: task {} of {} from {} in steps of {} has no place in its array, expected one "
                            "without gaps",
                            id, count, first, step));
  return {(id - first) / step, count};
}

}  // namespace

std::optional<Shard> shard_of(const std::string& written) {
  if (written.empty()) return std::nullopt;
  if (written == "slurm") return slurm_shard();
  const std::size_t slash = written.find('/');
  if (slash != std::string::npos) {
    const auto index = whole_number(std::string_view(written).substr(0, slash)),
               count = whole_number(std::string_view(written).substr(slash + 1));
    if (index && count && *index >= 1 && *index <= *count && *count <= most_shards) return Shard{*index - 1, *count};
  }
  throw Error(ErrorKind::usage,
              std::format("--shard \"{}\", expected I/N with 1 <= I <= N <= {}, or slurm", written, most_shards));
}

int command_merge(const MergeOptions& options) {
  MergedUnits units({options.directories.begin(), options.directories.end()});
  const Spec spec = spec_of(options_of(units.origin()));
  const SavedBaselines saved = load_baselines(spec.gates);
  require_writable(options.out);
  if (std::filesystem::exists(std::filesystem::path(options.out) / Journal::file_name))
    throw Error(ErrorKind::usage, options.out + ": holds a run's journal, expected another directory for merged results");
  const std::atomic<bool> never{false};
  ExperimentRecord record = run_experiment(spec, {}, never, units);
  units.require_complete();
  leave_out_timings(record);  // of several machines: they don't add up, and the bytes are those of any number of shards
  const RunOutcome outcome = deliver(record, spec.gates, saved, options.out, options.junit, options.quiet);
  if (!outcome.message.empty()) throw Error(static_cast<ErrorKind>(outcome.exit_code), outcome.message);
  return outcome.exit_code;
}

}  // namespace qfid::eval
