// One function a command; each returns its exit code and throws quant::Error for everything else.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qfid::eval {

/// What qfid run takes from other runs, and leaves for them (eval/experiment/part_cache.h).
struct CacheOptions {
  bool on = false, off = false;
  std::string directory;  ///< "" = the standard one; named, it switches the cache on
  double gib = -1;        ///< that it may hold; below 0: the standard size
};

struct RunOptions {
  std::string config, out;
  std::vector<std::string> sets, models, targets;
  std::string junit, dump;
  double dump_limit = 4;
  bool quiet = false;
  bool restart = false, no_timings = false;
  std::string shard;  ///< "I/N" or "slurm"; "" = the whole run
  CacheOptions cache;
};

int command_run(const RunOptions& options);  // run_parts.h has it with another way to execute
struct PlanOptions {
  std::string pilot;
  double time_budget = 0;  ///< seconds; 0 = none
};
struct MergeOptions {
  std::vector<std::string> directories;
  std::string out, junit;
  bool quiet = false;
};
int command_merge(const MergeOptions& options);
int command_plan(const RunOptions& options, const PlanOptions& plan);
int command_validate(const RunOptions& options);
int command_inspect(const std::string& model);
int command_backends();
int command_metrics();
int command_schema();
int command_completion(const std::string& shell);

struct TokenizeOptions {
  std::string text, tokenizer, out, protocol = "window", documents = "file";
  bool detokenize = false;
};
int command_tokenize(const TokenizeOptions& options);

/// Text that may quote file contents: control characters are shown as \xNN, never sent to a terminal.
std::string printable(std::string_view text);

/// Commands on results that are there already; nothing is run.
struct CheckOptions {
  std::string results, baseline, gates, junit, date;
};
int command_check(const CheckOptions& options);

struct BaselineOptions {
  std::string results, file, gates;
};
int command_baseline_save(const BaselineOptions& options);
int command_baseline_show(const std::string& file);
int command_baseline_update(const BaselineOptions& options);

struct ReportOptions {
  std::string results, html, markdown, pull_request, openmetrics, lm_eval, junit, metrics, layers, reference;
  bool annotations = false;
};
int command_report(const ReportOptions& options);

struct CacheCommandOptions {
  std::string directory;
  double gib = -1;  ///< to be left; below 0: the standard size
  bool all = false;
};
int command_cache_ls(const CacheCommandOptions& options);
int command_cache_prune(const CacheCommandOptions& options);

struct RecommendOptions {
  std::string results, gates, json, proposal, objective = "speed";
  std::vector<std::string> budgets;
};
int command_recommend(const RecommendOptions& options);

struct CompareOptions {
  std::vector<std::string> files;
  bool tokens = false;
  double confidence = 0.95;
};
int command_compare(const CompareOptions& options);

struct AttentionOptions {
  std::string file, problem, fill, gate_site = "output", targets, backend = "cpu", out, save_outputs;
  std::vector<std::string> presets;
  bool causal = false, no_twins = false, skip_unavailable = false;
  double scale = 0;  ///< 0 = the default
  std::uint64_t seed = 1;
  int threads = 0;
};
int command_attention(const AttentionOptions& options);

/// Command names with one line each: help and completion are made of this.
struct CommandInfo {
  const char* name;
  const char* summary;
};
const std::vector<CommandInfo>& command_list();

}  // namespace qfid::eval
