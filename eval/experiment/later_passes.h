// What runs after a model's evaluation, on its first windows and without measuring tensors: error budgets, the noise floor,
// interventions. What goes wrong in one of them is a warning: the runs themselves stand.
#pragma once

#include <atomic>
#include <functional>

#include "eval/experiment/arm.h"
#include "eval/experiment/runner.h"
#include "eval/experiment/scored_passes.h"
#include "eval/experiment/unit_store.h"

namespace qfid::eval {

class LaterPasses {
 public:
  using ResourcesOn = std::function<DecoderResources&(kernels::Backend&)>;

  LaterPasses(const Spec& spec, Backends& backends, const ProgressCallback& progress, const std::atomic<bool>& stop,
              ExperimentRecord& record, ModelUnits& units)
      : spec_(spec), backends_(backends), progress_(progress), stop_(stop), record_(record), units_(units) {}

  /// `ranges` are the arms'. Interrupted, it leaves record.interrupted true and what was finished.
  void run(const std::string& model, const DecoderWeights& weights, const std::vector<Window>& windows, Arm& baseline,
           std::vector<Arm>& arms, const std::vector<SiteRanges>& ranges, const ResourcesOn& resources_on);

 private:
  void budget(const std::string& model, const DecoderWeights& weights, const std::vector<Window>& windows, const Arm& arm,
              const SiteRanges& ranges);
  void noise(const std::string& model, const DecoderWeights& weights, const std::vector<Window>& windows, Arm& baseline,
             const ResourcesOn& resources_on);
  void interventions(const std::string& model, const DecoderWeights& weights, const std::vector<Window>& windows,
                     Arm& baseline, std::vector<Arm>& arms);
  void interventions_on(Arm& arm, const std::string& model, const ModelConfig& config,
                        const std::vector<std::vector<double>>& means, const ScoredWindows& scored);
  ScoredWindows scored_windows(const std::string& model, const std::string& pass, const std::vector<Window>& windows,
                               std::int64_t count, const Arm& baseline);
  /// Says how far a pass is; false, and record.interrupted true, when it is to stop.
  bool go_on(const std::string& model, const std::string& pass, std::size_t done, std::size_t total, std::int64_t tokens,
             double seconds);
  /// Runs one pass, a unit, unless it is finished or another process's; its failure is a warning.
  void attempt_pass(const std::string& unit, const std::string& what, double& seconds, const std::function<void()>& work);

  const Spec& spec_;
  Backends& backends_;
  const ProgressCallback& progress_;
  const std::atomic<bool>& stop_;
  ExperimentRecord& record_;
  ModelUnits& units_;
};

}  // namespace qfid::eval
