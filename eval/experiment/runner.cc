#include "eval/experiment/runner.h"

#include <algorithm>
#include <span>

#include "eval/experiment/backcopy_windows.h"
#include "eval/experiment/calibrate.h"
#include "eval/experiment/chunk_work.h"
#include "eval/experiment/device_memory.h"
#include "eval/experiment/elapsed.h"
#include "eval/experiment/gates.h"
#include "eval/experiment/identity.h"
#include "eval/experiment/known_parts.h"
#include "eval/experiment/later_passes.h"
#include "eval/experiment/lockstep.h"
#include "eval/experiment/process.h"
#include "eval/experiment/run_measures.h"
#include "eval/experiment/session.h"
#include "eval/experiment/target_precision.h"
#include "eval/experiment/tensor_dump.h"
#include "eval/experiment/unit_content.h"
#include "eval/experiment/units.h"
#include "eval/model/checkpoint.h"
#include "kernels/registry/registry.h"
#include "quant/core/error.h"

namespace qfid::eval {

using quant::Error;
using quant::ErrorKind;

namespace {

class Runner {
 public:
  Runner(const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop, Backends backends,
         UnitStore& store)
      : spec_(spec), progress_(progress), stop_(stop), backends_(std::move(backends)), store_(store) {}

  ExperimentRecord run() {
    const Clock::time_point start = Clock::now();
    record_.timings.started = utc_now();
    set_threads(spec_);
    require_threads(backends_.of(spec_.baseline).info().threads);
    corpus_ = load_corpus(spec_.data);
    prepare();
    head();
    if (!begin()) return std::move(record_);
    for (const ModelSpec& model : spec_.models)
      if (!record_.interrupted) run_model(model);
    record_.pairs = target_pairs(record_.runs, record_.confidence);
    record_.timings.total_seconds = seconds_since(start) + earlier_seconds_;
    record_.timings.peak_memory_bytes = peak_memory();
    return std::move(record_);
  }

 private:
  /// Everything that can be known to fail is known before anything runs.
  void prepare() {
    std::string unavailable;
    std::int64_t dumped = 0;
    const auto add = [&](const std::string& line) { unavailable += (unavailable.empty() ? "" : "\n") + line; };
    for (const ModelSpec& model : spec_.models) {
      const CheckedModel checked = check_model(spec_, model, corpus_);
      total_windows_ += checked.size.windows;
      plan(model, checked);
      if (!spec_.dump.directory.empty() && !(traits(spec_.data.protocol).one_length && corpus_.row == 0))
        throw Error(ErrorKind::usage, spec_.file.string() + ": --dump needs windows of one length, those of protocol " +
                                          std::string(to_string(spec_.data.protocol)) + (corpus_.row == 0 ? "" : ", rows,") +
                                          " may differ");
      const auto add_dump = [&](const TargetSpec& target) {
        dumped += dump_bytes(checked.config, spec_.metrics, target, checked.size.windows, checked.size.context);
      };
      add_dump(spec_.baseline);
      if (!store_.computes()) continue;
      if (const std::string why = unsupported_reason(spec_.baseline, checked.config, backends_.of(spec_.baseline));
          !why.empty())
        add("baseline, model " + model.name + ": " + why);
      for (const TargetSpec& target : spec_.targets) {
        const std::string why = unsupported_reason(target, checked.config, backends_.of(target));
        if (why.empty()) add_dump(target);
        if (!why.empty() && !target.skip_when_unavailable)
          add("target " + target.name + ", model " + model.name + ": " + why + " (when_unavailable: skip leaves it out)");
      }
      if (unavailable.empty()) unavailable = memory_reason(spec_, model, checked, backends_);
    }
    if (!unavailable.empty()) throw Error(ErrorKind::unavailable, unavailable);
    if (spec_.dump.directory.empty()) return;
    require_dump_fits(spec_.dump, dumped);
    dump_.emplace(spec_.dump.directory);
  }

  void plan(const ModelSpec& model, const CheckedModel& checked) {
    const std::vector<Window> windows = evaluation_windows(spec_, checked.config, corpus_, checked.size);
    for (std::string& id : unit_ids(spec_, model.name, chunks_of(windows, spec_.run.chunk_windows)))
      planned_.push_back(std::move(id));
  }

  void head() {
    record_.name = spec_.name;
    record_.spec_file = spec_.file.string();
    record_.spec_text = spec_.text;
    record_.sets = spec_.sets;
    record_.confidence = spec_.metrics.confidence;
    record_.provenance = provenance_of(spec_, corpus_, backends_);
  }

  /// False when another process has finished all of it.
  bool begin() {
    if (!store_.identifies()) return true;
    for (const ModelSpec& model : spec_.models) model_hashes_[model.name] = Checkpoint::open(model.path).content_hash();
    identity_ = identity_of(spec_, record_.provenance, model_hashes_, backends_);
    identity_.started = record_.timings.started;
    store_.plan(planned_);
    const bool goes_on = store_.begin(identity_);
    record_.timings.started = identity_.started;
    take_machine(record_.provenance, identity_.machine);
    return goes_on;
  }

  /// What a cache has of chunks that are to be computed here.
  KnownParts known_parts(const ModelSpec& model, const ModelConfig& config, const std::vector<Window>& windows,
                         const std::vector<WindowRange>& chunks, const ModelUnits& units) {
    PartCache* const cache = corpus_.backcopy ? nullptr : store_.cache();
    if (cache == nullptr) return KnownParts(spec_.targets.size() + 1);
    std::int64_t at_once = backends_.of(spec_.baseline).logits_at_once();
    std::vector<KnownParts::Use> uses{KnownParts::Use::cached};
    for (const TargetSpec& target : spec_.targets) {
      at_once = std::min(at_once, backends_.of(target).logits_at_once());
      uses.push_back(!unsupported_reason(target, config, backends_.of(target)).empty() ? KnownParts::Use::none
                     : hashed_for(model, target)                                       ? KnownParts::Use::computed
                                                                                       : KnownParts::Use::cached);
    }
    KnownParts parts(*cache, {identity_, spec_, model.name, at_once}, windows, std::move(uses));
    parts.hold(chunks, units.left());
    return parts;
  }

  std::string content_hash(const std::string& model, const Checkpoint& checkpoint) const {
    const auto known = model_hashes_.find(model);
    return known == model_hashes_.end() ? checkpoint.content_hash() : known->second;
  }

  void run_model(const ModelSpec& model) {
    const Clock::time_point load_start = Clock::now();
    Checkpoint checkpoint = Checkpoint::open(model.path);
    ModelConfig known = read_config(model.path);
    known.has_head = has_head(checkpoint, known);
    const EvaluationSize size = evaluation_size(spec_, known, corpus_);
    const std::vector<Window> windows = evaluation_windows(spec_, known, corpus_, size);
    const std::vector<WindowRange> chunks = chunks_of(windows, spec_.run.chunk_windows);
    ModelUnits units(store_, unit_ids(spec_, model.name, chunks), next_unit_);
    KnownParts parts = known_parts(model, known, windows, chunks, units);
    const bool computes = units.compute_any() && !parts.holds_all();
    DecoderWeights weights;
    weights.config = known;
    if (computes)
      weights = load_weights(checkpoint, known);
    else
      weights.unused_tensors = check_weights(checkpoint, known);
    const ModelConfig& config = weights.config;
    record_.models.push_back({model.name, model.written, config.family, content_hash(model.name, checkpoint),
                              checkpoint.parameters(), variant_name(config), weights.unused_tensors, config.vocab_size,
                              model.group, model.seed, model.step});
    for (const std::string& name : weights.unused_tensors)
      record_.warnings.push_back("model " + model.name + ": tensor " + name + " is not used");
    record_.provenance.context = std::max(record_.provenance.context, size.context);
    record_.provenance.windows = std::max(record_.provenance.windows, size.windows);
    std::map<kernels::Backend*, DecoderResources> resources;
    const auto resources_on = [&](kernels::Backend& backend) -> DecoderResources& {
      return resources.try_emplace(&backend, backend, weights).first->second;
    };
    Arm baseline(spec_.baseline, backends_.of(spec_.baseline), config, spec_.metrics);
    baseline.tokens.is_baseline = true;
    baseline.tokens.documents = scored_documents(corpus_, size);
    dump_into(baseline, model);
    if (computes)
      baseline.decoder =
          std::make_unique<Decoder>(resources_on(*baseline.backend), precision_of(spec_.baseline, config), SiteRanges{});
    record_.timings.load_seconds += seconds_since(load_start);

    std::vector<SiteRanges> ranges(spec_.targets.size());
    baseline.place.at("calibration");
    if (computes) attempt(baseline, [&] { ranges = calibration(config, size.context, *baseline.decoder, parts); });
    std::vector<Arm> arms;
    arms.reserve(spec_.targets.size());
    for (std::size_t i = 0; i < spec_.targets.size(); ++i) {
      const TargetSpec& target = spec_.targets[i];
      Arm& arm = arms.emplace_back(target, backends_.of(target), config, spec_.metrics);
      arm.tokens.documents = baseline.tokens.documents;
      hash_for_gates(arm, model);
      dump_into(arm, model);
      if (!computes && !parts.holds_all()) continue;  // what is kept says how it fared
      const std::string why = unsupported_reason(target, config, *arm.backend);
      if (!why.empty()) {
        arm.fail(RunStatus::skipped, why);
        continue;
      }
      if (parts.holds(i + 1)) continue;
      arm.place.at("packing its weights");
      attempt(arm, [&] { pack(arm, weights, ranges[i], size.context, resources_on); });
    }
    if (corpus_.backcopy) task_ = backcopy_windows(*corpus_.backcopy, windows);
    evaluate(model, weights, windows, chunks, units, parts, baseline, arms);
    record_.unfinished = record_.unfinished || baseline.passing ||
                         std::any_of(arms.begin(), arms.end(), [](const Arm& arm) { return arm.passing; });
    if (!store_.computes() && partial_) return;
    if (partial_)
      note_failures(model, baseline, arms);
    else
      finish(model, baseline, arms);
    if (!record_.interrupted)
      LaterPasses(spec_, backends_, progress_, stop_, record_, units)
          .run(model.name, weights, windows, baseline, arms, ranges, resources_on);
  }

  /// Hashes of what exact gates look at; nothing without one.
  void hash_for_gates(Arm& arm, const ModelSpec& model) const {
    for (const GateSpec& gate : spec_.gates)
      if (!gate.exact.empty() && concerns(gate, model.name, arm.target->name) && (!arm.hasher || gate.exact == "taps"))
        arm.hasher.emplace(gate.exact == "taps");
  }
  bool hashed_for(const ModelSpec& model, const TargetSpec& target) const {
    return std::any_of(spec_.gates.begin(), spec_.gates.end(),
                       [&](const GateSpec& gate) { return !gate.exact.empty() && concerns(gate, model.name, target.name); });
  }

  void dump_into(Arm& arm, const ModelSpec& model) {
    if (dump_)
      arm.dump = [this, name = model.name, target = arm.target->name](
                     const std::string& tensor, const quant::Tensor& windows) { dump_->add(name, target, tensor, windows); };
  }

  /// The target's decoder, and its emulated twin where format and kernel are told apart.
  template <class ResourcesOn>
  void pack(Arm& arm, const DecoderWeights& weights, const SiteRanges& ranges, std::int64_t context,
            const ResourcesOn& resources_on) {
    if (arm.target->simulated) return simulate(arm, weights, context);
    DecoderPrecision precision = precision_of(*arm.target, weights.config);
    arm.decoder = std::make_unique<Decoder>(resources_on(*arm.backend), precision, ranges);
    if (spec_.metrics.kernel_windows == 0 || spec_.metrics.local_windows == 0 ||
        precision.mode == kernels::ExecutionMode::emulated || is_full_precision(precision))
      return;
    precision.mode = kernels::ExecutionMode::emulated;
    arm.emulated =
        std::make_unique<Decoder>(resources_on(backends_.get("reference", 0)), precision, ranges, Packing::by_layer);
  }

  void simulate(Arm& arm, const DecoderWeights& weights, std::int64_t context) {
    const Clock::time_point start = Clock::now();
    arm.simulated = std::make_unique<SimulatedModel>(*arm.backend, weights, *arm.target->simulated,
                                                     calibration_windows(spec_, weights.config, corpus_, context));
    arm.decoder = arm.simulated->decoder();
    record_.timings.calibration_seconds += seconds_since(start);
  }

  std::vector<SiteRanges> calibration(const ModelConfig& config, std::int64_t context, Decoder& baseline,
                                      const KnownParts& parts) {
    std::vector<SiteRanges> none(spec_.targets.size());
    // A simulated target finds its ranges itself, with its quantizers on.
    bool needed = false;
    for (std::size_t i = 0; i < none.size(); ++i)
      needed = needed || (spec_.targets[i].needs_calibration() && !spec_.targets[i].simulated && !parts.holds(i + 1));
    if (!needed) return none;
    const Clock::time_point start = Clock::now();
    const std::vector<Window> windows = calibration_windows(spec_, config, corpus_, context);
    std::vector<DecoderPrecision> precisions;
    for (const TargetSpec& target : spec_.targets) precisions.push_back(precision_of(target, config));
    const quant::Tensor ids = ids_of(windows, 0, windows.size(), &Window::input);
    std::vector<SiteRanges> ranges = calibrate(baseline, config, precisions, ids);
    record_.timings.calibration_seconds += seconds_since(start);
    return ranges;
  }

  void evaluate(const ModelSpec& model, const DecoderWeights& weights, const std::vector<Window>& windows,
                const std::vector<WindowRange>& chunks, ModelUnits& units, KnownParts& parts, Arm& baseline,
                std::vector<Arm>& arms) {
    Lockstep lockstep(weights, spec_.metrics, spec_.data.protocol, baseline, arms, corpus_.backcopy ? &task_ : nullptr);
    for (const WindowRange& chunk : chunks) {
      const std::string unit = chunk_unit(model.name, chunk);
      if (stop_.load()) {
        record_.interrupted = true;
        return;
      }
      if (const auto known = units.find(unit); known && (units.whole(unit) || serves(*known, arms)))
        earlier_seconds_ += replay_chunk(unit, *known, chunk.end - chunk.begin, baseline, arms);
      else if (units.take(unit))
        record_.interrupted = !compute_chunk(windows, chunk, lockstep, {unit, units, parts}, baseline, arms);
      else
        partial_ = true;
      if (record_.interrupted) return;
      if (!baseline.alive()) {
        for (Arm& arm : arms)
          if (arm.alive()) arm.fail(RunStatus::failed, "the baseline failed: " + baseline.message, baseline.passing);
        return;
      }
      done_windows_ += static_cast<std::int64_t>(chunk.end - chunk.begin);
      done_tokens_ += static_cast<std::int64_t>((chunk.end - chunk.begin) * windows[chunk.begin].input.size());
      if (progress_) progress_({model.name, "", done_windows_, total_windows_, done_tokens_, seconds_since(start_)});
    }
  }

  void finish(const ModelSpec& model, Arm& baseline, std::vector<Arm>& arms) {
    const std::vector<bool> sinks = baseline.sinks.sink_heads();
    record_.runs.push_back(record_of(model, baseline, sinks));
    record_.timings.baseline_seconds += baseline.forward_seconds;
    record_.timings.metrics_seconds += baseline.metric_seconds;
    for (Arm& arm : arms) {
      record_.runs.push_back(record_of(model, arm, sinks));
      record_.timings.targets_seconds += arm.forward_seconds;
      record_.timings.metrics_seconds += arm.metric_seconds;
      record_.timings.local_seconds += arm.local_seconds;
    }
    keep_attention(model, baseline, arms);
  }

  /// Of a part of a run nothing else is known.
  void note_failures(const ModelSpec& model, Arm& baseline, std::vector<Arm>& arms) {
    if (baseline.status == RunStatus::failed) record_.runs.push_back(record_of(model, baseline, {}));
    for (Arm& arm : arms)
      if (arm.status == RunStatus::failed) record_.runs.push_back(record_of(model, arm, {}));
  }

  void keep_attention(const ModelSpec& model, const Arm& baseline, const std::vector<Arm>& arms) {
    std::vector<const RunRecord*> runs;
    for (const RunRecord& run : record_.runs)
      if (run.model == model.name) runs.push_back(&run);
    std::vector<const AttentionSketches*> sketches{&baseline.sketches};
    for (const Arm& arm : arms) sketches.push_back(&arm.sketches);
    for (AttentionHead& head : attention_heads(runs, sketches)) record_.attention.push_back(std::move(head));
  }

  RunRecord record_of(const ModelSpec& model, Arm& arm, const std::vector<bool>& sinks) const {
    RunRecord run;
    run.model = model.name;
    run.target = arm.target->name;
    run.backend = arm.target->backend;
    run.mode = mode_of(*arm.target);
    run.description = describe(*arm.target);
    if (arm.target->needs_calibration()) run.description += "; conditional on one calibration";
    run.status = arm.alive() && record_.interrupted ? RunStatus::interrupted : arm.status;
    run.message = arm.message;
    run.repro = repro_line(spec_, model.name, arm.target->name);
    run.seconds = arm.forward_seconds;
    run.metric_seconds = arm.metric_seconds;
    run.local_seconds = arm.local_seconds;
    // Of the chunks, which may all be another process's: this one's decoder has run nothing then.
    if (arm.alive()) run.implementations = arm.implementations;
    add_measures(run, arm, sinks,
                 {spec_.data.protocol, corpus_, task_,
                  arm.target == &spec_.baseline ? nullptr : record_.find(model.name, "baseline")});
    return run;
  }

  const Spec& spec_;
  const ProgressCallback& progress_;
  const std::atomic<bool>& stop_;
  Clock::time_point start_ = Clock::now();
  std::optional<TensorDump> dump_;
  Backends backends_;
  UnitStore& store_;
  std::map<std::string, std::string> model_hashes_;  ///< where a store asks for them
  RunIdentity identity_;                             ///< likewise
  std::vector<std::string> planned_;                 ///< units of all models
  std::int64_t next_unit_ = 0;
  bool partial_ = false;        ///< chunks are another process's: there is nothing to make runs of
  double earlier_seconds_ = 0;  ///< of units that other processes computed
  Corpus corpus_;
  std::vector<BackcopyWindow> task_;  ///< of the model under way, where the data is bigram-backcopy
  std::int64_t total_windows_ = 0, done_windows_ = 0, done_tokens_ = 0;
  ExperimentRecord record_;
};

}  // namespace

ExperimentRecord run_experiment(const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop) {
  NoStore nowhere;
  return run_experiment(spec, progress, stop, nowhere);
}

ExperimentRecord run_experiment(const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop,
                                UnitStore& store) {
  return Runner(spec, progress, stop, Backends(), store).run();
}

ExperimentRecord run_experiment(const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop,
                                const BackendMaker& make) {
  NoStore nowhere;
  return run_experiment(spec, progress, stop, nowhere, make);
}

ExperimentRecord run_experiment(const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop,
                                UnitStore& store, const BackendMaker& make) {
  return Runner(spec, progress, stop, Backends(make), store).run();
}

}  // namespace qfid::eval
