// What would run: support, work, memory and a rough time, from configurations, headers and tokens alone. The speed it
// assumes is measured on the spot with a small f32 linear on each backend.
#include <chrono>

#include "eval/experiment/budget_arms.h"
#include "eval/experiment/device_memory.h"
#include "eval/experiment/runner.h"
#include "eval/experiment/scored_passes.h"
#include "eval/experiment/session.h"
#include "eval/experiment/target_precision.h"
#include "eval/model/decoder.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

/// GFLOP/s of an f32 linear of 256 rows, 512 x 512.
double probe_speed(kernels::Backend& backend) {
  const quant::Tensor weight = quant::Tensor::zeros(quant::DType::f32, quant::Shape{512, 512});
  const auto linear = backend.prepare(kernels::LinearProblem{512, 512, {}, {}, kernels::ExecutionMode::real},
                                      {weight.view<float>(), {}, {}});
  quant::Tensor input(quant::DType::f32, quant::Shape{1, 256, 512});
  for (float& x : input.view<float>().span()) x = 0.5F;
  const kernels::DeviceTensor src = backend.upload(input);
  backend.linear(*linear, src, nullptr);
  backend.synchronize();
  const auto start = std::chrono::steady_clock::now();
  double seconds = 0;
  int calls = 0;
  while (seconds < 0.05 && calls < 50) {
    backend.linear(*linear, src, nullptr);
    backend.synchronize();
    ++calls;
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return 2.0 * 256 * 512 * 512 * calls / seconds / 1e9;
}

struct Work {
  double gflop;
  std::int64_t weights, chunk;
};

Work work_of(const ModelConfig& c, std::int64_t context, std::int64_t windows, std::int64_t chunk_windows) {
  const double H = static_cast<double>(c.hidden_size), F = static_cast<double>(c.ffn_dim),
               L = static_cast<double>(c.num_hidden_layers), V = static_cast<double>(c.vocab_size),
               T = static_cast<double>(context);
  const double per_token = 2 * (L * (4 * H * H + 2 * H * F + 2 * T * H) + H * V);
  const double chunk = static_cast<double>(chunk_windows) * T * (13 * H + 2 * F) * 4 + T * V * 8;
  return {per_token * T * static_cast<double>(windows) / 1e9,
          static_cast<std::int64_t>(4 * (L * (4 * H * H + 2 * H * F) + 2 * H * V)), static_cast<std::int64_t>(chunk)};
}

/// One target's arms at a time: weights in f32 and as the target rounds them, and two runs' hidden states of a window.
std::int64_t budget_bytes(const ModelConfig& config, std::int64_t context, std::int64_t weights) {
  return 2 * weights + 2 * (config.num_hidden_layers + 1) * context * config.hidden_size * 4;
}

/// The arms of a target's error budget, where one is asked for.
double budget_seconds(const Spec& spec, const TargetSpec& target, const ModelConfig& config, std::int64_t windows,
                      double gflop, std::map<std::string, double>& speeds, Backends& backends) {
  const DecoderPrecision precision = precision_of(target, config);
  if (spec.metrics.budget_windows == 0 || is_full_precision(precision)) return 0;
  kernels::Backend& backend = budget_backend(backends);
  const std::string name = backend.info().name;
  if (!speeds.contains(name)) speeds[name] = probe_speed(backend);
  const double share = static_cast<double>(std::min(windows, spec.metrics.budget_windows)) / static_cast<double>(windows);
  return 1.6 * budget_forwards(precision, config.gate.has_value()) * share * gflop / speeds[name];
}

/// The forward passes of a run's noise floor and interventions, where they are asked for; `speeds` knows the run's backend.
double change_seconds(const Spec& spec, const TargetSpec& target, const ModelConfig& config, std::int64_t windows,
                      double gflop, std::map<std::string, double>& speeds, Backends& backends) {
  const auto passes = [&](double forwards, std::int64_t asked, const std::string& backend) {
    const double share = static_cast<double>(std::min(windows, asked)) / static_cast<double>(windows);
    return 1.6 * forwards * share * gflop / speeds[backend];
  };
  const bool baseline = target.name == "baseline";
  double seconds = 0;
  if (!spec.metrics.interventions.empty()) {
    const double means = baseline && config.gate ? 1 : 0;
    seconds += passes(1 + means + static_cast<double>(spec.metrics.interventions.size()), spec.metrics.intervention_windows,
                      target.backend);
  }
  if (spec.metrics.noise_windows == 0 || !baseline) return seconds;
  seconds += passes(2, spec.metrics.noise_windows, target.backend);
  if (kernels::Backend* const twin = noise_twin(backends, target)) {
    const std::string name = twin->info().name;
    if (!speeds.contains(name)) speeds[name] = probe_speed(*twin);
    seconds += passes(1, spec.metrics.noise_windows, name);
  }
  return seconds;
}

}  // namespace

Plan make_plan(const Spec& spec) { return make_plan(spec, Backends()); }

Plan make_plan(const Spec& spec, Backends backends) {
  Plan plan;
  std::map<std::string, double> speeds;
  const Corpus corpus = load_corpus(spec.data);
  for (const ModelSpec& model : spec.models) {
    const CheckedModel checked = check_model(spec, model, corpus);
    const auto& [config, size] = checked;
    const Work work = work_of(config, size.context, size.windows, spec.run.chunk_windows);
    std::vector<const TargetSpec*> targets{&spec.baseline};
    for (const TargetSpec& target : spec.targets) targets.push_back(&target);
    std::int64_t memory = 0;
    for (const TargetSpec* target : targets) {
      kernels::Backend& backend = backends.of(*target);
      PlannedRun run{model.name,
                     target->name,
                     target->backend,
                     true,
                     false,
                     unsupported_reason(*target, config, backend),
                     describe(*target),
                     size.windows,
                     size.context * size.windows,
                     work.gflop,
                     work.weights + work.chunk,
                     0,
                     repro_line(spec, model.name, target->name)};
      run.runs = run.reason.empty();
      run.skipped = !run.runs && target->skip_when_unavailable;
      if (run.runs) {
        if (!speeds.contains(target->backend)) speeds[target->backend] = probe_speed(backend);
        // Attention, norms and measures run below a plain linear's speed; 1.6 is what whole evaluations were seen to take.
        run.seconds = 1.6 * run.gflop / speeds[target->backend];
        memory += run.memory_bytes;
        run.seconds += change_seconds(spec, *target, config, size.windows, run.gflop, speeds, backends);
        run.seconds += budget_seconds(spec, *target, config, size.windows, run.gflop, speeds, backends);
        plan.seconds += run.seconds;
      }
      plan.runs.push_back(std::move(run));
    }
    if (spec.metrics.noise_windows > 0 && noise_twin(backends, spec.baseline) != nullptr) memory += work.weights;
    if (spec.metrics.budget_windows > 0) memory += budget_bytes(config, size.context, work.weights);
    plan.memory_bytes = std::max(plan.memory_bytes, memory);
    if (plan.device_shortage.empty()) plan.device_shortage = memory_reason(spec, model, checked, backends);
  }
  plan.assumed_gflops = speeds.contains(spec.baseline.backend) ? speeds[spec.baseline.backend] : 0;
  return plan;
}

}  // namespace qfid::eval
