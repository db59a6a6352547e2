// What runs share: the cache of --cache, and qfid cache ls and prune.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <format>
#include <iostream>
#include <map>
#include <utility>

#include "eval/cli/result_commands.h"
#include "eval/cli/run_parts.h"
#include "eval/experiment/part_cache.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace fs = std::filesystem;

namespace {

constexpr double gib = 1024.0 * 1024 * 1024;
constexpr double most_gib = 1e6;

std::string size_text(std::uint64_t bytes) {
  const auto size = static_cast<double>(bytes);
  return size >= gib ? std::format("{:.2f} GiB", size / gib) : std::format("{:.2f} MiB", size * 1024 / gib);
}

/// Below 0: the standard size.
std::uint64_t bytes_of(double size_in_gib) {
  return size_in_gib < 0 ? PartCache::standard_bytes : static_cast<std::uint64_t>(size_in_gib * gib);
}

fs::path directory_of(const std::string& named) { return named.empty() ? standard_cache_directory() : fs::path(named); }

void add_directory(CLI::App& command, std::string& directory) {
  command.add_option("--cache-dir", directory, "The cache (default $QFID_CACHE_DIR, $XDG_CACHE_HOME/qfid or ~/.cache/qfid)");
}

struct Row {
  std::int64_t chunks = 0;
  std::uint64_t bytes = 0;
  fs::file_time_type used = fs::file_time_type::min();
};

}  // namespace

void add_cache_options(CLI::App& run, CacheOptions& options) {
  CLI::Option* const on = run.add_flag(
      "--cache", options.on, "Take from the cache what runs measured alike, and keep there what is new (docs/long-runs.md)");
  run.add_option("--cache-dir", options.directory,
                 "That cache (default $QFID_CACHE_DIR, which switches it on, $XDG_CACHE_HOME/qfid or ~/.cache/qfid)");
  run.add_option("--cache-size", options.gib, "GiB that it may hold (default 4); what was used longest ago goes first")
      ->check(CLI::Range(0.001, most_gib));
  run.add_flag("--no-cache", options.off, "Measure everything, whatever is set")->excludes(on);
}

std::unique_ptr<PartCache> open_cache(const CacheOptions& options, const std::function<void(const std::string&)>& warn) {
  const char* const environment = std::getenv("QFID_CACHE_DIR");
  const bool set = environment != nullptr && *environment != '\0';
  if (options.off || !(options.on || !options.directory.empty() || set)) return nullptr;
  return std::make_unique<PartCache>(PartCache::Options{directory_of(options.directory), bytes_of(options.gib), warn});
}

void add_cache(CLI::App& command, CacheCommandOptions& options, std::function<int()>& work) {
  command.require_subcommand(1);
  CLI::App* const ls = command.add_subcommand("ls", "What the cache holds, by model and target");
  add_directory(*ls, options.directory);
  ls->callback([&] { work = [&] { return command_cache_ls(options); }; });
  CLI::App* const prune = command.add_subcommand("prune", "Remove what was used longest ago");
  add_directory(*prune, options.directory);
  CLI::Option* const size =
      prune->add_option("--to", options.gib, "GiB that are to be left")->check(CLI::Range(0.0, most_gib));
  prune->add_flag("--all", options.all, "Remove everything")->excludes(size);
  prune->callback([&] { work = [&] { return command_cache_prune(options); }; });
}

int command_cache_ls(const CacheCommandOptions& options) {
  const fs::path directory = directory_of(options.directory);
  std::map<std::pair<std::string, std::string>, Row> rows;
  std::uint64_t bytes = 0;
  std::int64_t parts = 0, damaged = 0;
  for (const CachedPart& part : cached_parts(directory)) {
    ++parts;
    bytes += part.bytes;
    const std::optional<PartKey> label = label_of(part);
    if (!label) {
      ++damaged;
      continue;
    }
    Row& row = rows[{label->model, label->target}];
    ++row.chunks;
    row.bytes += part.bytes;
    row.used = std::max(row.used, part.used);
  }
  std::cout << std::format("{}: {} parts, {}\n", printable(directory.string()), parts, size_text(bytes));
  if (damaged > 0) std::cout << std::format("{} of them aren't whole: runs leave them out and remove them\n", damaged);
  if (rows.empty()) return 0;
  std::cout << std::format("{:<24} {:<24} {:>6} {:>12}  {}\n", "model", "target", "chunks", "size", "last used (UTC)");
  for (const auto& [names, row] : rows)
    std::cout << std::format("{:<24} {:<24} {:>6} {:>12}  {:%F %T}\n", printable(names.first), printable(names.second),
                             row.chunks, size_text(row.bytes),
                             std::chrono::floor<std::chrono::seconds>(std::chrono::file_clock::to_sys(row.used)));
  return 0;
}

int command_cache_prune(const CacheCommandOptions& options) {
  const fs::path directory = directory_of(options.directory);
  const Pruned pruned = prune_cache(directory, options.all ? 0 : bytes_of(options.gib));
  std::cout << std::format("{}: {} parts removed, {}; {} left\n", printable(directory.string()), pruned.parts,
                           size_text(pruned.bytes), size_text(pruned.left));
  return 0;
}

}  // namespace qfid::eval
