// The record of an experiment: raw numbers and where they come from. Nothing else leaves a run; reports, comparisons and
// verdicts are computed from records. Everything but Timings is a pure function of the inputs, the binary, the machine's
// instruction set, the thread count and the chunk size.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/experiment/scored_change.h"
#include "eval/experiment/tensor_hashes.h"
#include "eval/metrics/attention_sketch.h"
#include "eval/metrics/error_budget.h"
#include "eval/metrics/gate.h"
#include "eval/metrics/metric.h"

namespace qfid::eval {

inline constexpr int record_schema_version = 1;

enum class RunStatus : std::uint8_t { ok, skipped, failed, interrupted };
constexpr const char* to_string(RunStatus status) {
  constexpr const char* names[] = {"ok", "skipped", "failed", "interrupted"};
  return names[static_cast<int>(status)];
}

struct RunRecord {
  std::string model, target, backend;
  std::string mode;         ///< "real", "emulated", "library"
  std::string description;  ///< the schemes in canonical spelling, one line
  RunStatus status = RunStatus::ok;
  std::string message;                                 ///< reason when not ok
  std::map<std::string, std::string> implementations;  ///< site kind ("q_proj", "attention", ...) -> what ran
  std::vector<Metric> metrics;
  std::vector<LayerRow> layers;
  std::vector<CodeHistogram> p_codes;  ///< of the sampled windows, layers whose P has codes of one byte
  WindowSums windows;
  std::vector<ScoredDocument> documents;  ///< of protocol lmeval
  std::optional<TensorHashes> hashes;     ///< where an exact gate asks for them
  TokenSeries tokens;
  std::string repro;          ///< one command line that runs this run alone
  double seconds = 0;         ///< timing, not part of the record's identity: forward of this run
  double metric_seconds = 0;  ///< timing: comparing taps and logits (cumulative)
  double local_seconds = 0;   ///< timing: local errors
};

/// Paired difference of two targets on the same tokens: mean over tokens of NLL_b - NLL_a (nats).
struct PairRecord {
  std::string model, a, b;
  Metric difference;
};

/// What a gate's outcome means for shipping.
enum class GateVerdict : std::uint8_t { pass, fail, inconclusive, warning, expected_failure, unexpected_pass, expired };
constexpr const char* to_string(GateVerdict verdict) {
  constexpr const char* names[] = {"pass",   "fail", "inconclusive", "warning", "expected failure", "unexpected pass",
                                   "expired"};
  return names[static_cast<int>(verdict)];
}

/// One gate on one model under one target. Numbers are on the metric's own scale.
struct GateRecord {
  std::string name, model, target, metric;
  double bound = 0;
  bool upper = true;
  std::string relative_to;  ///< "", "target NAME", "file NAME"
  double confidence = 0.99;
  GateStatistics statistics;  ///< `outcome` after Holm's correction
  GateVerdict verdict = GateVerdict::inconclusive;
  std::string words;                    ///< the verdict in a sentence
  std::string reason, expires;          ///< of an expected failure; "" without one
  std::optional<double> noise_floor{};  ///< the metric that noise alone makes, where it was measured

  bool blocks() const {
    return verdict != GateVerdict::pass && verdict != GateVerdict::warning && verdict != GateVerdict::expected_failure;
  }
};

/// Attention of one head in the first window, under every run that was scored: thousandths, as AttentionSketch.
struct AttentionHead {
  std::string model;
  int layer = 0, head = 0;
  std::string why;                                                          ///< what makes it worth a look
  std::int64_t block = 1;                                                   ///< queries a row
  std::vector<std::pair<std::string, std::vector<std::vector<int>>>> maps;  ///< target -> rows
};

inline constexpr std::int64_t most_step = 2'000'000'000;  ///< as models.*.step takes
inline constexpr std::int64_t most_seed = 1'000'000'000;  ///< as models.*.seed takes

struct ModelRecord {
  std::string name, path, family;
  std::string content_hash;
  std::int64_t parameters = 0;
  std::string variant;  ///< "softmax", "gate value->output", "learnable sink", ...
  std::vector<std::string> unused_tensors;
  std::int64_t vocabulary = 0;  ///< tokens it knows; 0 = not recorded
  std::string group{};          ///< with a seed: the kind of model it is one draw of
  std::optional<std::int64_t> seed{};
  std::optional<std::int64_t> step{};  ///< of the training it is a checkpoint of
};

struct Provenance {
  std::string tool_version, git_commit, compiler;
  std::map<std::string, std::string> libraries;
  std::string device, isa;
  int threads = 1;
  std::int64_t chunk_windows = 0;
  std::string tokens_path, tokens_hash, protocol;
  std::int64_t context = 0;  ///< largest over models
  std::int64_t first_token = 0, windows = 0;
  std::string tokenizer{}, tokenizer_hash{}, documents{};  ///< of text; "" where the data was tokens
  std::string targets_path{};                              ///< of protocol mlm; tokens_hash is of both files
};

/// What may differ between two runs of the same thing; kept in one place so that it can be left out of a comparison.
struct Timings {
  std::string started;  ///< ISO 8601, UTC
  double total_seconds = 0, baseline_seconds = 0, targets_seconds = 0, metrics_seconds = 0, local_seconds = 0,
         calibration_seconds = 0, load_seconds = 0, budget_seconds = 0, changes_seconds = 0;
  double peak_memory_bytes = 0;
};

struct ExperimentRecord {
  std::string name;
  std::string spec_file, spec_text;
  std::vector<std::string> sets;
  double confidence = 0.95;
  Provenance provenance;
  std::vector<ModelRecord> models;
  std::vector<RunRecord> runs;  ///< per model: the baseline (target "baseline") first, then the targets in order
  std::vector<PairRecord> pairs;
  std::vector<GateRecord> gates;
  std::vector<AttentionHead> attention;     ///< a few heads of each model
  std::vector<ErrorBudget> budgets;         ///< of targets that quantize something, where asked for
  std::vector<ScoredChange> noise;          ///< what noise alone does to full precision, where asked for
  std::vector<ScoredChange> interventions;  ///< of every run that was scored, where asked for
  std::vector<std::string> warnings;
  bool interrupted = false;
  bool unfinished = false;        ///< parts failed for want of memory or a device: another process may try them again
  std::string reference_group{};  ///< of claims over training seeds; "" = the first. A reader's choice, not in results.json
  Timings timings;

  const ErrorBudget* budget_of(const std::string& model, const std::string& target) const {
    for (const ErrorBudget& budget : budgets)
      if (budget.model == model && budget.target == target) return &budget;
    return nullptr;
  }
  const RunRecord* find(const std::string& model, const std::string& target) const {
    for (const RunRecord& run : runs)
      if (run.model == model && run.target == target) return &run;
    return nullptr;
  }
};

inline const Metric* find_metric(const RunRecord& run, const std::string& name) {
  for (const Metric& metric : run.metrics)
    if (metric.name == name) return &metric;
  return nullptr;
}

}  // namespace qfid::eval
