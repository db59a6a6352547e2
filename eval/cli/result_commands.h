// Options of the commands that read no configuration: check, baseline, report, recommend, compare, attention,
// cache.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <string>

#include "eval/cli/commands.h"

namespace qfid::eval {

struct ResultOptions {
  CheckOptions check;
  BaselineOptions baseline;
  ReportOptions report;
  RecommendOptions recommend;
  CompareOptions compare;
  AttentionOptions attention;
  CacheCommandOptions cache;
};
/// results.json itself, or a run's directory.
std::filesystem::path results_path(const std::string& argument);
/// The options of `qfid report`.
void add_report(CLI::App& command, ReportOptions& options, std::function<int()>& work);
/// The options of `qfid recommend`.
void add_recommend(CLI::App& command, RecommendOptions& options, std::function<int()>& work);
/// The options of `qfid attention`.
void add_attention(CLI::App& command, AttentionOptions& options, std::function<int()>& work);
/// Those of `qfid cache`, and of `qfid run` about the cache.
void add_cache(CLI::App& command, CacheCommandOptions& options, std::function<int()>& work);
void add_cache_options(CLI::App& run, CacheOptions& options);
/// Adds the options of `name` to `command`; false when it isn't one of these. `options` and `work` outlive the parsing.
bool add_result_command(CLI::App& command, const std::string& name, ResultOptions& options, std::function<int()>& work);

}  // namespace qfid::eval
