#include "eval/experiment/gates.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <numbers>
#include <numeric>

#include "eval/experiment/noise_floor.h"
#include "eval/metrics/interval.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

std::string digits(double value) { return std::format("{:.5g}", value); }

std::string words_of(const GateRecord& g, const GateMetric& metric, const std::string& why_not, std::size_t tests) {
  const GateStatistics& s = g.statistics;
  std::string text = g.metric;
  if (!g.relative_to.empty()) text += " relative to " + g.relative_to;
  if (s.effect) text += " is " + digits(*s.effect);
  if (s.limits)
    text += std::format(" ({} .. {} at {:.6g} % a side)", digits(s.limits->low), digits(s.limits->high), 100 * g.confidence);
  text += std::format(", {} {}: ", g.upper ? "max" : "min", digits(g.bound));
  if (!why_not.empty()) return text + why_not;
  if (s.outcome == GateOutcome::pass) return text + "shown to be within";
  if (s.outcome == GateOutcome::fail) return text + "shown to be beyond";
  const char* const units = by_documents(metric) ? "documents" : "windows";
  if (s.windows < min_windows_for_interval)
    return text + std::format("{} {} say nothing, at least {} are needed", s.windows, units, min_windows_for_interval);
  if (s.p_fail <= 1 - g.confidence)
    return text + std::format("beyond by itself, but not surely so among {} gates (Holm): more {}", tests, units);
  text += std::format("{} {} can't say", s.windows, units);
  if (s.detectable)
    text += metric.exponential ? std::format("; they show what is off by a factor of {} or more", digits(*s.detectable))
                               : std::format("; they show what is off by {} or more", digits(*s.detectable));
  return text + (s.windows_needed ? std::format("; about {} {} would settle it", *s.windows_needed, units)
                                  : std::format("; it lies on the bound, no number of {} settles it", units));
}

GateVerdict verdict_of(const GateRecord& g, const GateSpec& spec, const std::string& day) {
  if (spec.expected_failure) {
    if (day > spec.expected_failure->expires) return GateVerdict::expired;
    if (g.statistics.outcome == GateOutcome::fail) return GateVerdict::expected_failure;
    if (g.statistics.outcome == GateOutcome::pass) return GateVerdict::unexpected_pass;
  }
  if (g.statistics.outcome == GateOutcome::pass) return GateVerdict::pass;
  if (g.statistics.outcome == GateOutcome::fail) return GateVerdict::fail;
  return spec.warn_when_inconclusive ? GateVerdict::warning : GateVerdict::inconclusive;
}

class Evaluation {
 public:
  Evaluation(const ExperimentRecord& record, const std::vector<GateSpec>& gates, const SavedBaselines& saved)
      : record_(record), saved_(saved) {
    for (const GateSpec& spec : gates)
      for (const RunRecord& run : record.runs)
        if (concerns(spec, run.model, run.target)) entries_.push_back({&spec, &run, {}, "", ""});
  }

  std::vector<GateRecord> run(const std::string& day) {
    for (Entry& entry : entries_) evaluate(entry);
    correct();
    std::vector<GateRecord> records;
    for (Entry& entry : entries_) {
      GateRecord& g = entry.gate;
      const bool exact = !entry.spec->exact.empty();
      if (!exact && gate_metric(g.metric).exponential) exponentiate(g.statistics);
      g.verdict = verdict_of(g, *entry.spec, day);
      g.words = exact ? std::format("{} relative to {}: {}", g.metric, g.relative_to, entry.why_not + entry.exact_words)
                      : words_of(g, gate_metric(g.metric), entry.why_not, tests());
      if (!exact) add_noise(*entry.spec, g);
      if (entry.spec->expected_failure) {
        g.reason = entry.spec->expected_failure->reason;
        g.expires = entry.spec->expected_failure->expires;
        g.words += g.verdict == GateVerdict::expired           ? "; the failure was expected until " + g.expires
                   : g.verdict == GateVerdict::unexpected_pass ? "; it was expected to fail: remove expected_failure"
                                                               : "; expected to fail until " + g.expires;
        g.words += " (" + g.reason + ")";
      }
      records.push_back(std::move(g));
    }
    return records;
  }

 private:
  struct Entry {
    const GateSpec* spec;
    const RunRecord* run;
    GateRecord gate;
    std::string why_not;      ///< there was nothing to test
    std::string exact_words;  ///< of an exact gate
  };

  /// Hashes against those of a saved baseline: the effect is how many tensors differ. Why they say nothing, or "".
  std::string compare_exactly(const RunRecord& run, const GateSpec& spec, GateRecord& g, std::string& words) const {
    const SavedRun* reference = nullptr;
    if (const std::string why_not = saved_run(run, spec, reference); !why_not.empty()) return why_not;
    const bool logits = spec.exact == "logits";
    const auto holds = [&](const std::optional<TensorHashes>& hashes) {
      return hashes && (logits || hashes->tensors.size() > 1);
    };
    if (!holds(run.hashes))
      return "these results hold no hashes of " + spec.exact + ": run with the gate in the configuration";
    const std::string name = spec.relative_file.string();
    if (!holds(reference->hashes)) return name + " holds no hashes of " + spec.exact + ": qfid baseline update";
    const HashComparison found = compare_hashes(*run.hashes, *reference->hashes, logits);
    if (!found.not_comparable.empty()) return "not comparable: " + found.not_comparable;
    g.statistics.windows = static_cast<int>(run.hashes->windows);
    g.statistics.effect = found.differing;
    g.statistics.outcome = found.differing == 0 ? GateOutcome::pass : GateOutcome::fail;
    words = found.differing == 0
                ? std::format("{} tensors of {} windows are the same, bit for bit", found.tensors, run.hashes->windows)
            : logits ? std::format("the logits of {} windows changed", run.hashes->windows)
                     : std::format(
                           "{} is the first of {} tensors (of {}) that changed: what comes before is the same, so "
                           "the operation that makes it isn't",
                           found.first, found.differing, found.tensors);
    return "";
  }

  void evaluate(Entry& entry) {
    const GateSpec& spec = *entry.spec;
    GateRecord& g = entry.gate;
    g = {spec.name,
         entry.run->model,
         entry.run->target,
         spec.metric,
         spec.bound,
         spec.upper,
         "",
         spec.confidence,
         {},
         GateVerdict::inconclusive,
         "",
         "",
         ""};
    if (!spec.relative_target.empty()) g.relative_to = "target " + spec.relative_target;
    if (!spec.relative_written.empty()) g.relative_to = "file " + spec.relative_written;
    std::vector<double> sums;
    if (!spec.exact.empty()) {
      entry.why_not = incomplete(*entry.run);
      if (entry.why_not.empty()) entry.why_not = compare_exactly(*entry.run, spec, g, entry.exact_words);
      return;
    }
    entry.why_not = sums_of(*entry.run, spec, sums);
    if (!entry.why_not.empty()) return;
    const GateMetric& metric = gate_metric(spec.metric);
    const std::optional<GateUnits> units = by_unit(*entry.run, metric, std::move(sums));
    if (!units) {
      entry.why_not = "these results hold no documents: words and bytes are counted under protocol lmeval";
      return;
    }
    const GateBound bound{metric.exponential ? std::log(spec.bound) : spec.bound, spec.upper};
    g.statistics = evaluate_bound(units->sums, units->counts, sum_kind(spec), bound, spec.confidence,
                                  resamples_for(tests(), spec.confidence));
  }

  static std::string incomplete(const RunRecord& run) {
    if (run.status == RunStatus::ok) return "";
    return std::string("the run was ") + to_string(run.status) + (run.message.empty() ? "" : ": " + run.message);
  }

  /// Why there are none, or "".
  std::string sums_of(const RunRecord& run, const GateSpec& spec, std::vector<double>& sums) const {
    if (const std::string why_not = incomplete(run); !why_not.empty()) return why_not;
    const RunRecord& base = *record_.find(run.model, "baseline");
    const GateMetric& metric = gate_metric(spec.metric);
    if (of_hidden_states(metric) == run.windows.nmse.empty())
      return of_hidden_states(metric) ? "these results hold no hidden states: those are compared under protocol hidden"
                                      : "these results hold no scored tokens: protocol hidden compares hidden states";
    sums = gate_sums(run, base, metric);
    std::vector<double> other;
    if (!spec.relative_target.empty()) {
      const RunRecord* reference = record_.find(run.model, spec.relative_target);
      if (reference == nullptr) return "target " + spec.relative_target + " wasn't run";
      if (reference->status != RunStatus::ok)
        return "target " + spec.relative_target + " was " + to_string(reference->status);
      other = gate_sums(*reference, base, metric);
    } else if (!spec.relative_written.empty()) {
      const std::string why_not = saved_sums(run, spec, metric, other);
      if (!why_not.empty()) return why_not;
    } else {
      return "";
    }
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] -= other[i];
    return "";
  }

  /// The run of a saved baseline that a gate compares with, of the same data; why there is none, or "".
  std::string saved_run(const RunRecord& run, const GateSpec& spec, const SavedRun*& reference) const {
    const auto found = saved_.find(spec.relative_file);
    if (found == saved_.end())
      return spec.relative_file.string() + " isn't there yet: qfid baseline save RESULTS -o " + spec.relative_file.string();
    const SavedBaseline& saved = found->second;
    require_comparable(identity_of(record_.provenance), "this result", saved.data, saved.path);
    reference = saved.find(run.model, run.target);
    if (reference == nullptr) return saved.path + " has no run " + run.model + " / " + run.target + ": qfid baseline update";
    for (const ModelRecord& model : record_.models)
      if (model.name == run.model) {
        ModelRecord other{run.model, "", "", reference->checkpoint, 0, "", {}, reference->vocabulary};
        require_same_model(model, "this result", other, saved.path);
      }
    if (reference->tokens != run.windows.tokens)
      throw quant::Error(quant::ErrorKind::usage,
                         "this result and " + saved.path + " aren't comparable: tokens scored in each window differ");
    return "";
  }

  std::string saved_sums(const RunRecord& run, const GateSpec& spec, const GateMetric& metric,
                         std::vector<double>& sums) const {
    const SavedRun* reference = nullptr;
    if (const std::string why_not = saved_run(run, spec, reference); !why_not.empty()) return why_not;
    const auto series = reference->sums.find(std::string(metric.sums));
    if (series == reference->sums.end())
      return spec.relative_file.string() + " has no " + std::string(metric.sums) + " of " + run.model + " / " + run.target +
             ": qfid baseline update";
    sums = series->second;
    return "";
  }

  void add_noise(const GateSpec& spec, GateRecord& g) const {
    const std::optional<NoiseFloor> floor = noise_floor(record_, g.model, gate_metric(g.metric));
    if (!floor) return;
    g.noise_floor = floor->shown;
    g.words += std::format("; noise floor {}", digits(floor->shown));
    if (within_noise(spec, *floor)) g.words += ", which the bound lies within: it tells nothing";
  }

  /// Gates that can be wrong by chance.
  std::size_t tests() const {
    return static_cast<std::size_t>(
        std::count_if(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.spec->exact.empty(); }));
  }

  /// A gate that fails alone, but not among all of this check, is inconclusive.
  void correct() {
    std::vector<FailTest> tests;
    std::vector<GateOutcome*> outcomes;
    for (Entry& entry : entries_) {
      if (!entry.spec->exact.empty()) continue;
      tests.push_back({entry.gate.statistics.p_fail, 1 - entry.spec->confidence});
      outcomes.push_back(&entry.gate.statistics.outcome);
    }
    const std::vector<bool> rejected = holm(tests);
    for (std::size_t i = 0; i < outcomes.size(); ++i)
      if (*outcomes[i] == GateOutcome::fail && !rejected[i]) *outcomes[i] = GateOutcome::inconclusive;
  }

  static void exponentiate(GateStatistics& s) {
    if (s.effect) s.effect = std::exp(*s.effect);
    if (s.limits) s.limits = Interval{std::exp(s.limits->low), std::exp(s.limits->high)};
    if (s.detectable) s.detectable = std::exp(*s.detectable);
  }

  const ExperimentRecord& record_;
  const SavedBaselines& saved_;
  std::vector<Entry> entries_;
};

}  // namespace

const std::vector<GateMetric>& gate_metrics() {
  static const std::vector<GateMetric> all{
      {"perplexity.ratio", "nll.difference", SumKind::real, true},
      {"nll.difference", "nll.difference", SumKind::real, false},
      {"kl.mean", "kl", SumKind::real, false},
      {"kl_reverse.mean", "kl_reverse", SumKind::real, false},
      {"top1.agreement", "top1.agreement", SumKind::events, false},
      {"top1.flips", "top1.flips", SumKind::events, false},
      {"word_perplexity.ratio", "nll.difference", SumKind::real, true, GateUnit::word},
      {"byte_perplexity.ratio", "nll.difference", SumKind::real, true, GateUnit::byte},
      {"bits_per_byte.difference", "nll.difference", SumKind::real, false, GateUnit::byte, std::numbers::log2e},
      {"hidden.nmse.mean", "hidden.nmse", SumKind::real, false},
      {"hidden.cosine_distance.mean", "hidden.cosine_distance", SumKind::real, false},
      {"hidden.pooled.cosine_distance.mean", "hidden.pooled.cosine_distance", SumKind::real, false, GateUnit::window},
  };
  return all;
}

const GateMetric& gate_metric(std::string_view name) {
  for (const GateMetric& metric : gate_metrics())
    if (metric.name == name) return metric;
  throw quant::Error(quant::ErrorKind::internal, "no gate metric " + std::string(name));
}

bool concerns(const GateSpec& gate, const std::string& model, const std::string& target) {
  return target != "baseline" && target != gate.relative_target && matches(gate.models, model) &&
         matches(gate.targets, target);
}

SumKind sum_kind(const GateSpec& gate) {
  const SumKind kind = gate_metric(gate.metric).kind;
  const bool relative = !gate.relative_target.empty() || !gate.relative_written.empty();
  return relative && kind == SumKind::events ? SumKind::event_differences : kind;
}

std::vector<double> gate_sums(const RunRecord& run, const RunRecord& baseline, const GateMetric& metric) {
  const WindowSums& w = run.windows;
  quant::require(w.tokens == baseline.windows.tokens, "gate_sums: the runs scored different windows");
  if (metric.sums == "hidden.nmse") return w.nmse;
  if (metric.sums == "hidden.cosine_distance") return w.cosine_distance;
  if (metric.sums == "hidden.pooled.cosine_distance") return w.pooled_cosine_distance;
  if (metric.sums == "kl") return w.kl;
  if (metric.sums == "kl_reverse") return w.kl_reverse;
  std::vector<double> sums;
  for (std::size_t i = 0; i < w.tokens.size(); ++i) {
    const auto agree = static_cast<double>(w.top1_agree[i]);
    sums.push_back(metric.sums == "nll.difference"   ? w.nll[i] - baseline.windows.nll[i]
                   : metric.sums == "top1.agreement" ? agree
                                                     : static_cast<double>(w.tokens[i]) - agree);
  }
  return sums;
}

std::optional<GateUnits> by_unit(const RunRecord& run, const GateMetric& metric, std::vector<double> window_sums) {
  if (metric.unit == GateUnit::token) return GateUnits{std::move(window_sums), run.windows.tokens};
  if (metric.unit == GateUnit::window) {
    std::vector<std::int64_t> one(window_sums.size(), 1);
    return GateUnits{std::move(window_sums), std::move(one)};
  }
  GateUnits units;
  std::size_t next = 0;
  for (const ScoredDocument& document : run.documents) {
    const auto windows = static_cast<std::size_t>(document.windows);
    if (windows > window_sums.size() - next) return std::nullopt;
    const auto from = window_sums.begin() + static_cast<std::ptrdiff_t>(next);
    units.sums.push_back(metric.scale * std::accumulate(from, from + document.windows, 0.0));
    units.counts.push_back(metric.unit == GateUnit::word ? document.words : document.bytes);
    next += windows;
  }
  const bool any = std::any_of(units.counts.begin(), units.counts.end(), [](std::int64_t n) { return n > 0; });
  return any && next == window_sums.size() ? std::optional(std::move(units)) : std::nullopt;
}

std::vector<GateRecord> evaluate_gates(const ExperimentRecord& record, const std::vector<GateSpec>& gates,
                                       const SavedBaselines& saved, const std::string& day) {
  return Evaluation(record, gates, saved).run(day);
}

}  // namespace qfid::eval
