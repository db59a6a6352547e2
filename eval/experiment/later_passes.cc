#include "eval/experiment/later_passes.h"

#include <algorithm>
#include <iterator>

#include "eval/experiment/budget_arms.h"
#include "eval/experiment/elapsed.h"
#include "eval/experiment/unit_content.h"
#include "eval/experiment/units.h"

namespace qfid::eval {

namespace {

std::size_t count_of(const std::vector<Window>& windows, std::int64_t asked) {
  return std::min(windows.size(), static_cast<std::size_t>(asked));
}

}  // namespace

void LaterPasses::run(const std::string& model, const DecoderWeights& weights, const std::vector<Window>& windows,
                      Arm& baseline, std::vector<Arm>& arms, const std::vector<SiteRanges>& ranges,
                      const ResourcesOn& resources_on) {
  if (!baseline.alive()) return;
  Timings& timings = record_.timings;
  if (spec_.metrics.noise_windows > 0)
    attempt_pass(noise_unit(model), "model " + model + ": no noise floor", timings.changes_seconds,
                 [&] { noise(model, weights, windows, baseline, resources_on); });
  if (!spec_.metrics.interventions.empty()) interventions(model, weights, windows, baseline, arms);
  for (std::size_t i = 0; spec_.metrics.budget_windows > 0 && i < arms.size(); ++i)
    if (arms[i].alive())
      attempt_pass(budget_unit(model, arms[i].target->name),
                   "model " + model + ", target " + arms[i].target->name + ": no error budget", timings.budget_seconds,
                   [&] { budget(model, weights, windows, arms[i], ranges[i]); });
}

void LaterPasses::attempt_pass(const std::string& unit, const std::string& what, double& seconds,
                               const std::function<void()>& work) {
  if (record_.interrupted) return;
  if (const auto known = units_.find(unit)) {
    seconds += replay_pass(unit, *known, record_);
    return;
  }
  if (stop_.load()) record_.interrupted = true;
  if (record_.interrupted || !units_.take(unit)) return;
  const Clock::time_point start = Clock::now();
  const PassLog log(record_);
  bool passing = false;
  try {
    work();
  } catch (const std::exception& error) {
    passing = quant::is_passing(error);
    record_.warnings.push_back(what + ": " + quant::message_of(error));
  }
  seconds += seconds_since(start);
  record_.unfinished = record_.unfinished || passing;
  if (passing || record_.interrupted || !units_.keeps()) return;
  if (!units_.keep(unit, log.content(seconds_since(start)), true)) record_.interrupted = true;
}

bool LaterPasses::go_on(const std::string& model, const std::string& pass, std::size_t done, std::size_t total,
                        std::int64_t tokens, double seconds) {
  if (progress_)
    progress_({model, pass, static_cast<std::int64_t>(done), static_cast<std::int64_t>(total), tokens, seconds});
  if (stop_.load() && done < total) record_.interrupted = true;
  return !record_.interrupted;
}

ScoredWindows LaterPasses::scored_windows(const std::string& model, const std::string& pass,
                                          const std::vector<Window>& windows, std::int64_t count, const Arm& baseline) {
  const std::size_t total = count_of(windows, count);
  const Clock::time_point start = Clock::now();
  return {windows, total, spec_.metrics.confidence, baseline.tokens.documents,
          [this, model, pass, total, start, tokens = std::int64_t{0}, &windows](std::size_t done) mutable {
            tokens += static_cast<std::int64_t>(windows[done - 1].input.size());
            return go_on(model, pass, done, total, tokens, seconds_since(start));
          }};
}

void LaterPasses::budget(const std::string& model, const DecoderWeights& weights, const std::vector<Window>& windows,
                         const Arm& arm, const SiteRanges& ranges) {
  const DecoderPrecision precision = precision_of(*arm.target, weights.config);
  if (is_full_precision(precision)) return;
  BudgetArms arms(budget_backend(backends_), weights, precision, ranges);
  const ScoredWindows scored =
      scored_windows(model, "error budget of " + arm.target->name, windows, spec_.metrics.budget_windows, arm);
  for (std::size_t w = 0; w < scored.count; ++w) {
    arms.add(chunk_of(windows, w, w + 1));
    if (!scored.done(w + 1)) return;
  }
  ErrorBudget budget = arms.sums();
  budget.model = model;
  budget.target = arm.target->name;
  compute_shares(budget, spec_.metrics.confidence);
  record_.budgets.push_back(std::move(budget));
}

void LaterPasses::noise(const std::string& model, const DecoderWeights& weights, const std::vector<Window>& windows,
                        Arm& baseline, const ResourcesOn& resources_on) {
  std::unique_ptr<Decoder> twin;
  if (kernels::Backend* const other = noise_twin(backends_, spec_.baseline))
    twin = std::make_unique<Decoder>(resources_on(*other), precision_of(spec_.baseline, weights.config), SiteRanges{});
  auto found = measure_noise(model, *baseline.decoder, twin.get(),
                             scored_windows(model, "noise floor", windows, spec_.metrics.noise_windows, baseline));
  if (found) std::move(found->begin(), found->end(), std::back_inserter(record_.noise));
}

void LaterPasses::interventions(const std::string& model, const DecoderWeights& weights, const std::vector<Window>& windows,
                                Arm& baseline, std::vector<Arm>& arms) {
  std::optional<std::vector<std::vector<double>>> means;  // made when first needed
  std::vector<Arm*> all{&baseline};
  for (Arm& arm : arms)
    if (arm.alive()) all.push_back(&arm);
  for (Arm* arm : all) {
    const std::size_t warnings = record_.warnings.size();
    attempt_pass(interventions_unit(model, arm->target->name), "model " + model + ": no interventions",
                 record_.timings.changes_seconds, [&] {
                   const ScoredWindows scored = scored_windows(model, "interventions on " + arm->target->name, windows,
                                                               spec_.metrics.intervention_windows, baseline);
                   if (!means) means = mean_gates(weights.config, *baseline.decoder, scored);
                   interventions_on(*arm, model, weights.config, *means, scored);
                 });
    if (record_.interrupted || record_.warnings.size() > warnings) return;  // what failed on one isn't tried on the next
  }
}

void LaterPasses::interventions_on(Arm& arm, const std::string& model, const ModelConfig& config,
                                   const std::vector<std::vector<double>>& means, const ScoredWindows& scored) {
  auto found = measure_interventions(spec_.metrics.interventions, model, arm.target->name, *arm.decoder, config.causal,
                                     means, scored);
  if (found) std::move(found->begin(), found->end(), std::back_inserter(record_.interventions));
}

}  // namespace qfid::eval
