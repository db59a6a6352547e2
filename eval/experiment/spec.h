// The experiment as checked data: what a YAML configuration means once every error has been found. Pure values; the reader
// (spec_reader.h) makes them, the planner turns them into runs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "eval/data/corpus.h"
#include "eval/data/windows.h"
#include "eval/experiment/gate_spec.h"
#include "eval/model/precision.h"
#include "kernels/attention.h"

namespace qfid::eval {

struct ModelSpec {
  std::string name;
  std::filesystem::path path;  ///< absolute; as written in `written`
  std::string written;
  std::string group{};  ///< with a seed: the kind of model it is one draw of; "" without
  std::optional<std::int64_t> seed{};
  std::optional<std::int64_t> step{};  ///< of the training it is a checkpoint of; goes with group and seed
};

struct CalibrationSpec {
  std::int64_t first_token = 0, windows = 16;
};

struct DataSpec {
  std::filesystem::path tokens;   ///< a token file; empty where the data is text
  std::string written;            ///< the token file's or the text's path, as written
  std::filesystem::path targets;  ///< of protocol mlm; tokens and targets are 2-D
  std::string targets_written;
  TextSource text;  ///< empty paths where the data is tokens
  std::string tokenizer_written;
  std::optional<BackcopySource> backcopy;  ///< generated instead of read
  Protocol protocol = Protocol::window;
  std::int64_t first_token = 0;
  std::optional<std::int64_t> windows;                 ///< absent = all that fit
  std::optional<std::int64_t> context;                 ///< absent = standard_context(protocol)
  std::int64_t batch_windows = default_batch_windows;  ///< of outlier_free
  std::optional<CalibrationSpec> calibration;

  /// The protocol with its parameters, as records spell it.
  std::string protocol_spelling() const { return spelling(protocol, {batch_windows, text.detokenize}); }
};

/// Linear sites: q_proj k_proj v_proj out_proj fc1 fc2 (covered by `linear:`), gate_proj lm_head head_dense (by override
/// only). Module paths are "layers.3.q_proj", "layers.3.attention", "layers.3.gate_proj", "lm_head"; patterns use * and ?,
/// and number ranges in brackets: "layers.[0-2].*". Overrides apply in order, later ones win.
bool matches(std::string_view pattern, std::string_view text);

/// Whether a scheme, or any operand of attention, takes its ranges from calibration: static, and not fixed in its spelling.
bool needs_range(const quant::QuantScheme& scheme);
bool needs_range(const kernels::AttentionSchemes& schemes);

struct OverrideSpec {
  std::string match;
  std::optional<LinearSchemes> linear;
  std::optional<kernels::AttentionSchemes> attention;
};

/// A named deployment choice.
struct TargetSpec {
  std::string name;
  std::string backend = "cpu";
  int device = 0;              ///< of backend gpu
  bool device_chosen = false;  ///< by the configuration
  bool fast_accum = false;     ///< of FP8 products on backend gpu
  kernels::ExecutionMode mode = kernels::ExecutionMode::real;
  std::string preset;  ///< the preset's name, "" when none
  LinearSchemes linear;
  kernels::AttentionSchemes attention;
  std::vector<OverrideSpec> overrides;
  std::optional<SimulationSpec> simulated;  ///< rounded in f32, no schemes (eval/model/simulation.h)
  bool skip_when_unavailable = false;

  /// Schemes of the linear at `module` ("layers.0.fc1", "lm_head"), overrides applied.
  LinearSchemes linear_at(const std::string& module) const;
  /// Schemes of the attention at "layers.N.attention".
  kernels::AttentionSchemes attention_at(const std::string& module) const;
  bool needs_calibration() const;  ///< any static, not fixed, scheme anywhere, or simulated
};

struct MetricsSpec {
  std::int64_t local_windows = 16;         ///< windows on which local errors are measured; 0 = none
  std::int64_t kernel_windows = 1;         ///< of these, windows on which the kernel is told from the format; 0 = none
  std::int64_t sink_windows = 16;          ///< windows for attention-sink statistics and drains
  std::int64_t budget_windows = 0;         ///< windows on which each target's error budget is measured; 0 = none
  std::int64_t noise_windows = 0;          ///< windows on which the noise floor is measured; 0 = none
  std::vector<std::string> interventions;  ///< "mask_key_0", "zero_v_0", "gate_one", "gate_mean"
  std::int64_t intervention_windows = 16;
  double confidence = 0.95;
  double sink_threshold = 0.3;
};

/// Logits and taps as files (tensor_dump.h): asked for on the command line, never part of a configuration.
struct DumpSpec {
  std::filesystem::path directory;  ///< empty = none
  double limit_gib = 4;
};

struct RunSettings {
  std::optional<int> threads;      ///< absent = all cores this process may use
  std::int64_t chunk_windows = 4;  ///< windows per chunk; belongs to a run's identity
};

struct Spec {
  std::string name;
  std::filesystem::path file;  ///< the YAML file
  std::string text;            ///< verbatim, after no change; --set values are in `sets`
  std::vector<std::string> sets;
  std::vector<ModelSpec> models;
  DataSpec data;
  TargetSpec baseline;  ///< name "baseline", all f32
  std::vector<TargetSpec> targets;
  MetricsSpec metrics;
  RunSettings run;
  DumpSpec dump;
  std::vector<GateSpec> gates;
};

}  // namespace qfid::eval
