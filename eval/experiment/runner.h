// Spec -> plan -> record. The plan says what would run; the runner runs it in lockstep: for each model, for each chunk of
// windows, the baseline's layer l, then each target's layer l; taps are compared and freed before layer l + 1.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "eval/experiment/record.h"
#include "eval/experiment/session.h"
#include "eval/experiment/spec.h"
#include "eval/experiment/unit_store.h"

namespace qfid::eval {

struct PlannedRun {
  std::string model, target, backend;
  bool runs = true;
  bool skipped = false;           ///< not runs, and the spec says when_unavailable: skip
  std::string reason;             ///< why not
  std::string description;        ///< schemes in canonical spelling
  std::int64_t windows = 0;       ///< windows to evaluate
  std::int64_t tokens = 0;        ///< tokens to evaluate
  double gflop = 0;               ///< forward multiply-adds * 2 / 1e9 of the whole run
  std::int64_t memory_bytes = 0;  ///< weights + activations + taps, this run's share
  double seconds = 0;             ///< rough estimate at `assumed_gflops`
  std::string repro;
};
struct Plan {
  std::vector<PlannedRun> runs;   ///< baseline first, per model
  std::int64_t memory_bytes = 0;  ///< peak estimate of the process
  double seconds = 0;
  double assumed_gflops = 0;
  std::string device_shortage;  ///< why a device's free memory can't hold the run; empty if nothing speaks against it
};
/// Reads configurations, headers of checkpoints and tokens, no weights. Errors as run_experiment.
Plan make_plan(const Spec& spec);
/// The same on backends of the caller's making.
Plan make_plan(const Spec& spec, Backends backends);

struct Progress {
  std::string model;
  std::string pass;  ///< "" = the evaluation; "error budget of int8", "noise floor", ...: counts are of that pass alone
  std::int64_t done_windows = 0, total_windows = 0;  ///< over all models
  std::int64_t done_tokens = 0;
  double seconds = 0;
};
using ProgressCallback = std::function<void(const Progress&)>;

/// Throws quant::Error{input} for a bad checkpoint or token file, {unavailable} when a target's backend isn't there (unless
/// it is to be skipped) - before anything runs. A run that fails midway is recorded as failed; the others go on. When `stop`
/// becomes true the current chunk is finished and the record returns with interrupted = true.
ExperimentRecord run_experiment(const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop);
/// The same with finished units in `store`, whose errors are thrown too: what it has isn't computed, what is computed is
/// kept. Where the store says that the run is finished, or that others compute parts of it, the record isn't whole.
ExperimentRecord run_experiment(const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop,
                                UnitStore& store);
/// The same on backends of the caller's making: tests plant faults in them.
ExperimentRecord run_experiment(const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop,
                                const BackendMaker& make);
ExperimentRecord run_experiment(const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop,
                                UnitStore& store, const BackendMaker& make);

}  // namespace qfid::eval
