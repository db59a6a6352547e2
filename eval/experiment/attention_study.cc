#include "eval/experiment/attention_study.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <format>
#include <memory>

#include "eval/experiment/arm.h"
#include "eval/experiment/lockstep.h"
#include "eval/experiment/session.h"
#include "eval/experiment/target_precision.h"
#include "kernels/registry/registry.h"
#include "quant/core/error.h"

namespace qfid::eval {

using kernels::AttentionProblem;
using kernels::DeviceTensor;
using kernels::ExecutionMode;
using quant::Shape;
using quant::Tensor;

namespace {

using Clock = std::chrono::steady_clock;

/// The tensors on one backend; entry(b) is one batch entry of them.
struct Uploaded {
  Uploaded(kernels::Backend& on, const AttentionTensors& t) : backend(&on) {
    all.q = on.upload(t.q);
    all.k = on.upload(t.k);
    all.v = on.upload(t.v);
    if (!t.gate_logits.empty()) all.gate_logits = on.upload(t.gate_logits);
    if (!t.sink.empty()) all.sink = on.upload(t.sink);
    if (!t.bias.empty()) all.bias = on.upload(t.bias);
  }
  kernels::AttentionInputs entry(std::int64_t b) const {
    kernels::AttentionInputs one = all;
    one.q = backend->slice(all.q, b, b + 1);
    one.k = backend->slice(all.k, b, b + 1);
    one.v = backend->slice(all.v, b, b + 1);
    if (all.gate_logits.defined()) one.gate_logits = backend->slice(all.gate_logits, b, b + 1);
    if (all.bias.defined() && all.bias.shape[0] > 1) one.bias = backend->slice(all.bias, b, b + 1);
    return one;
  }
  kernels::Backend* backend;
  kernels::AttentionInputs all;
};

std::vector<quant::Range> range_of(const Tensor& x, const quant::QuantScheme& scheme) {
  if (!needs_range(scheme)) return {};
  return quant::ranges(x.view<float>(), scheme, quant::Role::activation);
}

/// V as the kernel quantizes it: behind a value-site gate.
Tensor gated_values(const AttentionTensors& t) {
  Tensor v = t.v.clone();
  if (t.gate_logits.empty() || t.gate_site != kernels::GateSite::value) return v;
  const std::int64_t d = v.shape()[3];
  const auto gate = t.gate_logits.view<float>();
  for (std::int64_t i = 0; i < gate.size(); ++i) {
    const float g = 1.0F / (1.0F + std::exp(-gate[i]));
    for (std::int64_t j = 0; j < d; ++j) v.view<float>()[i * d + j] *= g;
  }
  return v;
}

struct StudyArm {
  /// Each entry of the batch counts as a window.
  StudyArm(const TargetSpec& spec, const AttentionTensors& t, double sink_threshold)
      : target(&spec), tables(t.q.shape()[0], t.q.shape()[1]), sinks(1, static_cast<int>(t.q.shape()[2]), sink_threshold) {}

  bool alive() const { return status == RunStatus::ok; }
  void fail(RunStatus why, std::string what, bool may_pass = false) {
    status = why;
    message = std::move(what);
    passing = may_pass;
  }

  const TargetSpec* target;
  bool passing = false;
  Place place;
  kernels::Backend* backend = nullptr;
  kernels::Backend* twin_backend = nullptr;
  std::unique_ptr<kernels::PreparedAttention> kernel, twin;
  LayerTables tables;
  AttentionSinks sinks;
  RunStatus status = RunStatus::ok;
  std::string message;
  double seconds = 0;
  Tensor output;
};

class Study {
 public:
  Study(const AttentionTensors& tensors, const std::vector<TargetSpec>& targets, const AttentionStudyOptions& options)
      : t_(tensors), options_(options), problem_(tensors.problem()) {
    full_.name = "baseline";
    full_.backend = options.backend;
    full_.device = options.device;
    batch_ = t_.q.shape()[0];
    const std::int64_t bytes = 4 * t_.q.shape()[2] * t_.q.shape()[1] * t_.k.shape()[1];
    probs_ = bytes <= options.probs_limit;
    if (!probs_)
      record_.warnings.push_back(
          std::format("probabilities of one batch entry take {:.1f} GiB: what is measured on them is left out (limit {:.1f} "
                      "GiB)",
                      static_cast<double>(bytes) / (1 << 30), static_cast<double>(options.probs_limit) / (1 << 30)));
    arms_.push_back(arm_of(full_));
    if (arms_[0].status != RunStatus::ok)
      throw quant::Error(quant::ErrorKind::unavailable, "full precision on " + options.backend + ": " + arms_[0].message);
    for (const TargetSpec& target : targets) arms_.push_back(arm_of(target));
  }

  AttentionStudy run(const std::function<void(std::int64_t, std::int64_t)>& progress, const std::atomic<bool>& stop) {
    const Clock::time_point start = Clock::now();
    for (std::int64_t b = 0; b < batch_ && !record_.interrupted; ++b) {
      if (stop.load()) {
        record_.interrupted = true;
        break;
      }
      entry(b);
      ++done_;
      if (progress) progress(done_, batch_);
    }
    record_.timings.total_seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return finish();
  }

 private:
  StudyArm arm_of(const TargetSpec& target) {
    StudyArm arm(target, t_, options_.sink_threshold);
    try {
      arm.backend = &backends_.get(target.backend, target.device);
      if (const kernels::Support here = arm.backend->available(); !here)
        throw quant::Error(quant::ErrorKind::unavailable, "backend " + target.backend + " is not available: " + here.reason);
      arm.kernel = prepared(*arm.backend, target, target.mode);
      const bool full = target.attention == kernels::AttentionSchemes{};
      if (options_.twins && !full && target.mode != ExecutionMode::emulated) {
        arm.twin_backend = &backends_.get("reference", 0);
        arm.twin = prepared(*arm.twin_backend, target, ExecutionMode::emulated);
      }
    } catch (const quant::Error& error) {
      arm.status = error.kind() == quant::ErrorKind::unavailable ? RunStatus::skipped : RunStatus::failed;
      arm.message = error.what();
    }
    return arm;
  }

  std::unique_ptr<kernels::PreparedAttention> prepared(kernels::Backend& on, const TargetSpec& target, ExecutionMode mode) {
    AttentionProblem p = problem_;
    p.schemes = target.attention;
    const bool full = p.schemes == kernels::AttentionSchemes{};
    p.mode = full ? ExecutionMode::real : mode;
    p.fast_accum = !full && target.fast_accum && mode != ExecutionMode::emulated;
    kernels::validate(p);
    if (const kernels::Support support = on.supports(p); !support)
      throw quant::Error(quant::ErrorKind::unavailable,
                         p.to_string() + " is not supported by backend " + on.info().name + ": " + support.reason);
    kernels::AttentionRanges ranges;
    ranges.q = range_of(t_.q, p.schemes.q);
    ranges.k = range_of(t_.k, p.schemes.k);
    if (needs_range(p.schemes.v)) ranges.v = range_of(gated_values(t_), p.schemes.v);
    if (needs_range(p.schemes.output))
      throw quant::Error(quant::ErrorKind::usage,
                         "a static range of the output needs a model's calibration, expected a "
                         "dynamic or fixed scheme");
    return on.prepare(p, ranges);
  }

  const Uploaded& on(kernels::Backend& backend) { return uploads_.try_emplace(&backend, backend, t_).first->second; }

  struct Output {
    DeviceTensor output, probs, v_gated;
    kernels::AttentionResult result;
  };
  Output attend(kernels::Backend& backend, kernels::PreparedAttention& kernel, std::int64_t b) {
    TapCollector taps({.probs = probs_, .v_gated = problem_.gate.has_value()});
    Output out;
    out.result = backend.attention(kernel, on(backend).entry(b), &taps);
    out.output = out.result.output;
    out.probs = taps.probs;
    out.v_gated = taps.v_gated;
    return out;
  }

  void entry(std::int64_t b) {
    const Output full = attended(arms_[0], b);
    for (std::size_t i = 1; i < arms_.size(); ++i) {
      StudyArm& arm = arms_[i];
      attempt(arm, [&] {
        const Output got = attended(arm, b);
        compare(arm, *arm.backend, "local", moved(full.output, arms_[0], *arm.backend), got.output,
                moved(full.probs, arms_[0], *arm.backend), got.probs);
        if (arm.twin) against_twin(arm, full, got, b);
      });
    }
  }

  /// One batch entry of one run, with everything that is measured on it alone.
  Output attended(StudyArm& arm, std::int64_t b) {
    const Clock::time_point start = Clock::now();
    Output out = attend(*arm.backend, *arm.kernel, b);
    arm.backend->synchronize();
    arm.seconds += std::chrono::duration<double>(Clock::now() - start).count();
    kernels::Reductions& reductions = arm.backend->reductions();
    const int heads = static_cast<int>(problem_.q_heads);
    const kernels::AttentionInputs in = on(*arm.backend).entry(b);
    if (&arm == &arms_[0])
      for (const auto& [tap, tensor] : {std::pair{"q", &in.q}, {"k", &in.k}, {"v", &in.v}})
        arm.tables.add_rows(0, tap, reductions.row_stats(*tensor));
    arm.tables.add_rows(0, "output", reductions.row_stats(out.output));
    arm.tables.add_prob_counts(0, out.result.probs, heads);
    const kernels::AttentionSchemes& schemes = arm.kernel->problem().schemes;
    if (quant::is_scaled(schemes.q.format)) arm.tables.add_codes(0, "attention.q", out.result.q);
    if (quant::is_scaled(schemes.k.format)) arm.tables.add_codes(0, "attention.k", out.result.k);
    if (quant::is_scaled(schemes.v.format)) arm.tables.add_codes(0, "attention.v", out.result.v);
    if (out.probs.defined()) sinks(arm, out, in);
    if (options_.keep_outputs) keep(arm, out.output, b);
    return out;
  }

  void sinks(StudyArm& arm, const Output& out, const kernels::AttentionInputs& in) {
    kernels::Reductions& reductions = arm.backend->reductions();
    const std::int64_t queries = out.probs.shape[2], keys = out.probs.shape[3];
    std::vector<double> q64, t64;
    if (queries == keys && queries > 64) q64 = reductions.mean_attention_to(out.probs, 0, 64, queries);
    if (queries == keys && queries >= 64) t64 = reductions.mean_attention_to(out.probs, 0, 0, 64);
    arm.sinks.add_attention(0, q64, t64);
    arm.sinks.add_summary(0, reductions.attention_summary(out.probs, problem_.causal));
    const std::vector<double> v = by_query_head(reductions.norms(in.v));
    arm.sinks.add_norms(0, v, out.v_gated.defined() ? by_query_head(reductions.norms(out.v_gated)) : v);
  }

  /// [tokens, kv_heads] -> [tokens, heads]: a head's values are those of its group. v_gated of the output site has as many
  /// heads as queries already.
  std::vector<double> by_query_head(const std::vector<double>& norms) const {
    const auto kv = static_cast<std::size_t>(problem_.kv_heads), heads = static_cast<std::size_t>(problem_.q_heads);
    const auto tokens = static_cast<std::size_t>(t_.k.shape()[1]);
    if (norms.size() == tokens * heads) return norms;
    std::vector<double> all;
    for (std::size_t token = 0; token < tokens; ++token)
      for (std::size_t h = 0; h < heads; ++h) all.push_back(norms[token * kv + h / (heads / kv)]);
    return all;
  }

  void keep(StudyArm& arm, const DeviceTensor& output, std::int64_t b) const {
    const Shape& s = output.shape;  // [1, q_len, heads, d_v]
    if (arm.output.empty()) arm.output = Tensor::zeros(quant::DType::f32, Shape{batch_, s[2], s[1], s[3]});
    const Tensor host = arm.backend->download(output);
    for (std::int64_t t = 0; t < s[1]; ++t)
      for (std::int64_t h = 0; h < s[2]; ++h)
        std::copy_n(host.view<float>().data() + (t * s[2] + h) * s[3], s[3],
                    arm.output.view<float>().data() + ((b * s[2] + h) * s[1] + t) * s[3]);
  }

  static DeviceTensor moved(const DeviceTensor& x, const StudyArm& from, kernels::Backend& to) {
    return transferred(x, *from.backend, to);
  }

  void compare(StudyArm& arm, kernels::Backend& on_backend, const std::string& error, const DeviceTensor& base,
               const DeviceTensor& test, const DeviceTensor& base_probs, const DeviceTensor& test_probs) {
    const int heads = static_cast<int>(problem_.q_heads);
    arm.tables.add_distortion(0, "output", error, on_backend.reductions().distortion(base, test), heads);
    if (base_probs.defined() && test_probs.defined())
      arm.tables.samples().add_divergence(
          0, error, on_backend.reductions().row_divergence(base_probs, test_probs, problem_.learnable_sink),
          base_probs.shape[0], heads);
  }

  void against_twin(StudyArm& arm, const Output& full, const Output& got, std::int64_t b) {
    kernels::Backend& twin_on = *arm.twin_backend;
    const Output twin = attend(twin_on, *arm.twin, b);
    compare(arm, twin_on, "format", moved(full.output, arms_[0], twin_on), twin.output, moved(full.probs, arms_[0], twin_on),
            twin.probs);
    compare(arm, twin_on, "kernel", twin.output, moved(got.output, arm, twin_on), twin.probs,
            moved(got.probs, arm, twin_on));
  }

  AttentionStudy finish() {
    AttentionStudy study;
    provenance();
    const std::vector<bool> sinks = arms_[0].sinks.sink_heads();
    for (StudyArm& arm : arms_) {
      record_.runs.push_back(record_of(arm, sinks));
      record_.unfinished = record_.unfinished || arm.passing;
      if (!arm.output.empty()) study.outputs[arm.target->name] = std::move(arm.output);
    }
    study.record = std::move(record_);
    return study;
  }

  void provenance() {
    record_.name = t_.name;
    Provenance& p = record_.provenance = provenance_of(*arms_[0].backend);
    for (const StudyArm& arm : arms_)
      if (arm.backend != nullptr && arm.backend->available()) p.libraries.merge(arm.backend->info().libraries);
    p.tokens_path = t_.name;
    p.tokens_hash = t_.content_hash;
    p.protocol = "attention";
    p.chunk_windows = 1;
    p.context = t_.k.shape()[1];
    p.windows = done_;
    std::string variant = problem_.to_string();
    variant.erase(variant.find(" q=f32"));  // schemes are the targets'
    record_.models.push_back({t_.name, t_.name, "attention", t_.content_hash, 0, variant, {}});
  }

  RunRecord record_of(const StudyArm& arm, const std::vector<bool>& sinks) const {
    RunRecord run;
    run.model = t_.name;
    run.target = arm.target->name;
    run.backend = arm.target->backend;
    run.mode = kernels::to_string(arm.target->mode);
    run.description = describe(*arm.target);
    run.status = arm.status == RunStatus::ok && record_.interrupted ? RunStatus::interrupted : arm.status;
    run.message = arm.message;
    run.seconds = arm.seconds;
    if (arm.kernel) run.implementations["attention"] = arm.kernel->implementation();
    if (arm.status != RunStatus::ok || done_ == 0) return run;
    for (const Metric& metric : arm.tables.summary())
      if (metric.name.starts_with("kernel.") || metric.name.starts_with("p_codes.") || metric.name.starts_with("codes."))
        run.metrics.push_back(metric);
    for (Metric& metric : arm.sinks.metrics(sinks)) run.metrics.push_back(std::move(metric));
    run.layers = arm.tables.rows();
    for (LayerRow& row : arm.sinks.rows()) run.layers.push_back(std::move(row));
    return run;
  }

  const AttentionTensors& t_;
  AttentionStudyOptions options_;
  AttentionProblem problem_;
  TargetSpec full_;
  Backends backends_;
  std::map<kernels::Backend*, Uploaded> uploads_;
  std::vector<StudyArm> arms_;
  std::int64_t batch_ = 0, done_ = 0;
  bool probs_ = true;
  ExperimentRecord record_;
};

}  // namespace

AttentionStudy study_attention(const AttentionTensors& tensors, const std::vector<TargetSpec>& targets,
                               const AttentionStudyOptions& options,
                               const std::function<void(std::int64_t, std::int64_t)>& progress,
                               const std::atomic<bool>& stop) {
  return Study(tensors, targets, options).run(progress, stop);
}

}  // namespace qfid::eval
