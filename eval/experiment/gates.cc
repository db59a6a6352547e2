#include "eval/experiment/gates.h"

#include <algorithm>
#include <cmath>
#include <format>

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
  if (s.windows < min_windows_for_interval)
    return text + std::format("{} windows say nothing, at least {} are needed", s.windows, min_windows_for_interval);
  if (s.p_fail <= 1 - g.confidence)
    return text + std::format("beyond by itself, but not surely so among {} gates (Holm): more windows", tests);
  text += std::format("{} windows can't say", s.windows);
  if (s.detectable)
    text += metric.exponential ? std::format("; they show what is off by a factor of {} or more", digits(*s.detectable))
                               : std::format("; they show what is off by {} or more", digits(*s.detectable));
  return text + (s.windows_needed ? std::format("; about {} windows would settle it", *s.windows_needed)
                                  : "; it lies on the bound, no number of windows settles it");
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
        if (concerns(spec, run.model, run.target)) entries_.push_back({&spec, &run, {}, ""});
  }

  std::vector<GateRecord> run(const std::string& day) {
    for (Entry& entry : entries_) evaluate(entry);
    correct();
    std::vector<GateRecord> records;
    for (Entry& entry : entries_) {
      GateRecord& g = entry.gate;
      const GateMetric& metric = gate_metric(g.metric);
      if (metric.exponential) exponentiate(g.statistics);
      g.verdict = verdict_of(g, *entry.spec, day);
      g.words = words_of(g, metric, entry.why_not, entries_.size());
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
    std::string why_not;  ///< there was nothing to test
  };

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
    entry.why_not = sums_of(*entry.run, spec, sums);
    if (!entry.why_not.empty()) return;
    const GateMetric& metric = gate_metric(spec.metric);
    const GateBound bound{metric.exponential ? std::log(spec.bound) : spec.bound, spec.upper};
    g.statistics = evaluate_bound(sums, entry.run->windows.tokens, sum_kind(spec), bound, spec.confidence,
                                  resamples_for(entries_.size(), spec.confidence));
  }

  /// Why there are none, or "".
  std::string sums_of(const RunRecord& run, const GateSpec& spec, std::vector<double>& sums) const {
    if (run.status != RunStatus::ok)
      return std::string("the run was ") + to_string(run.status) + (run.message.empty() ? "" : ": " + run.message);
    const RunRecord& base = *record_.find(run.model, "baseline");
    const GateMetric& metric = gate_metric(spec.metric);
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

  std::string saved_sums(const RunRecord& run, const GateSpec& spec, const GateMetric& metric,
                         std::vector<double>& sums) const {
    const auto found = saved_.find(spec.relative_file);
    if (found == saved_.end())
      return spec.relative_file.string() + " isn't there yet: qfid baseline save RESULTS -o " + spec.relative_file.string();
    const SavedBaseline& saved = found->second;
    require_comparable(identity_of(record_.provenance), "this result", saved.data, saved.path);
    const SavedRun* reference = saved.find(run.model, run.target);
    if (reference == nullptr) return saved.path + " has no run " + run.model + " / " + run.target + ": qfid baseline update";
    for (const ModelRecord& model : record_.models)
      if (model.name == run.model) {
        ModelRecord other{run.model, "", "", reference->checkpoint, 0, "", {}, reference->vocabulary};
        require_same_model(model, "this result", other, saved.path);
      }
    const auto series = reference->sums.find(std::string(metric.sums));
    if (series == reference->sums.end())
      return saved.path + " has no " + std::string(metric.sums) + " of " + run.model + " / " + run.target +
             ": qfid baseline update";
    if (reference->tokens != run.windows.tokens)
      throw quant::Error(quant::ErrorKind::usage,
                         "this result and " + saved.path + " aren't comparable: tokens scored in each window differ");
    sums = series->second;
    return "";
  }

  /// A gate that fails alone, but not among all of this check, is inconclusive.
  void correct() {
    std::vector<FailTest> tests;
    for (const Entry& entry : entries_) tests.push_back({entry.gate.statistics.p_fail, 1 - entry.spec->confidence});
    const std::vector<bool> rejected = holm(tests);
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      GateOutcome& outcome = entries_[i].gate.statistics.outcome;
      if (outcome == GateOutcome::fail && !rejected[i]) outcome = GateOutcome::inconclusive;
    }
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

std::vector<GateRecord> evaluate_gates(const ExperimentRecord& record, const std::vector<GateSpec>& gates,
                                       const SavedBaselines& saved, const std::string& day) {
  return Evaluation(record, gates, saved).run(day);
}

}  // namespace qfid::eval
