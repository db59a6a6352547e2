// Results in the shape that lm-evaluation-harness 0.4 writes (results, configs, versions, n-shot, higher_is_better,
// n-samples, config, ...), so that tools which read a folder of its results_*.json read ours. One file a run, as there. The
// task is named after our protocol: our perplexity isn't that of its wikitext task, and never takes its name.
#include <chrono>
#include <cmath>
#include <ctime>
#include <format>
#include <nlohmann/json.hpp>

#include "eval/metrics/interval.h"
#include "eval/report/html.h"
#include "eval/report/quality.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

using nlohmann::ordered_json;

/// As lm-evaluation-harness makes a file name of a model's.
std::string sanitized(const std::string& name) {
  std::string out;
  bool last = false;
  for (const char c : utf8(name)) {
    const bool odd =
        static_cast<unsigned char>(c) < 0x20 || std::string_view("\"<>:/|\\?*[]").find(c) != std::string_view::npos;
    if (odd && !last) out += "__";
    if (!odd) out += c;
    last = odd;
  }
  return out;
}

/// Seconds since 1970 of "2026-01-02T03:04:05Z"; 0 where that isn't what it says.
double seconds_of(const std::string& started) {
  int y = 0, mo = 0, d = 0, h = 0, mi = 0, s = 0;
  if (std::sscanf(started.c_str(), "%d-%d-%dT%d:%d:%dZ", &y, &mo, &d, &h, &mi, &s) != 6) return 0;
  const std::chrono::year_month_day day{std::chrono::year(y), std::chrono::month(static_cast<unsigned>(mo)),
                                        std::chrono::day(static_cast<unsigned>(d))};
  if (!day.ok()) return 0;
  const auto days = std::chrono::sys_days(day).time_since_epoch().count();
  return static_cast<double>(days) * 86400 + h * 3600 + mi * 60 + s;
}

/// Higher is better: shares of agreement, correlations. Shifts and shares of flips aren't.
bool higher_is_better(const std::string& metric) {
  return metric == "top1.agreement" || metric == "nll.correlation" || metric == "hidden.sqnr" ||
         metric.starts_with("top5.overlap");
}

/// Half the interval over Student's quantile; "N/A", as there, where the metric has none or is no mean.
ordered_json standard_error(const Metric& metric, std::size_t windows, double confidence) {
  const bool transformed =
      metric.unit == "ratio" || metric.name == "bits_per_byte" || metric.name.find("perplexity") != std::string::npos;
  if (!metric.ci || transformed || windows < 2 || !std::isfinite(metric.ci->high - metric.ci->low)) return "N/A";
  const double t = student_t_quantile(0.5 + confidence / 2, static_cast<double>(windows - 1));
  return (metric.ci->high - metric.ci->low) / 2 / t;
}

ordered_json run_json(const ExperimentRecord& record, const RunRecord& run) {
  const Provenance& p = record.provenance;
  const std::string task = "qfid_" + p.protocol, name = run.model + "/" + run.target;
  ordered_json results{{"alias", task}}, better = ordered_json::object();
  for (const Metric& metric : run.metrics) {
    if (!metric.value || !std::isfinite(*metric.value)) continue;
    results[metric.name + ",none"] = *metric.value;
    results[metric.name + "_stderr,none"] = standard_error(metric, run.windows.tokens.size(), record.confidence);
    better[metric.name] = higher_is_better(metric.name);
  }
  const auto windows = static_cast<std::int64_t>(run.windows.tokens.size());
  ordered_json json{
      {"results", {{task, results}}},
      {"group_subtasks", {{task, ordered_json::array()}}},
      {"configs",
       {{task,
         {{"task", task},
          {"dataset_path", p.tokens_path},
          {"output_type", quality_of(record).ratio ? "loglikelihood_rolling" : "hidden_states"},
          {"num_fewshot", 0},
          {"metadata", {{"version", record_schema_version}, {"tokens_hash", p.tokens_hash}, {"context", p.context}}}}}}},
      {"versions", {{task, record_schema_version}}},
      {"n-shot", {{task, 0}}},
      {"higher_is_better", {{task, better}}},
      {"n-samples", {{task, {{"original", p.windows}, {"effective", windows}}}}},
      {"config",
       {{"model", "qfid"},
        {"model_args", std::format("backend={},mode={},{}", run.backend, run.mode, run.description)},
        {"batch_size", p.chunk_windows},
        {"device", p.device},
        {"limit", nullptr}}},
      {"git_hash", p.git_commit},
      {"date", seconds_of(record.timings.started)}};
  json["task_hashes"] = {{task, p.tokens_hash}};
  json["model_source"] = "qfid";
  json["model_name"] = name;
  json["model_name_sanitized"] = sanitized(name);
  json["total_evaluation_time_seconds"] = std::format("{}", run.seconds + run.metric_seconds + run.local_seconds);
  return json;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> lm_eval_files(const ExperimentRecord& record) {
  std::vector<std::pair<std::string, std::string>> files;
  std::string stamp = record.timings.started;
  for (char& c : stamp)
    if (!(c >= '0' && c <= '9') && c != 'T') c = '-';
  if (stamp.ends_with("-")) stamp.pop_back();
  for (const RunRecord& run : record.runs) {
    if (run.metrics.empty()) continue;
    files.emplace_back(sanitized(run.model + "/" + run.target) + "/results_" + stamp + ".json",
                       run_json(record, run).dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
  }
  return files;
}

}  // namespace qfid::eval
