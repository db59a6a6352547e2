#include "eval/experiment/training_claims.h"
#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/quality.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

std::string target_line(const RunRecord& run, const Quality& quality, std::size_t name_width) {
  const std::string name = clipped(run.target, name_width);
  if (run.status == RunStatus::skipped || run.status == RunStatus::failed)
    return std::format("  {:<{}} {}: {}", name, name_width, to_string(run.status), run.message);
  const LayerRow* worst = worst_row(run, "local");
  const std::string where = worst == nullptr
                                ? "-"
                                : std::format("{} {:.1f}", clipped(std::format("{}.{}", worst->layer, worst->tap), 11),
                                              *column(*worst, "sqnr_db"));
  const Metric* agreement = find_metric(run, quality.agreement.metric);
  const bool share = agreement != nullptr && agreement->value && agreement->unit == "share";
  return std::format(
      "  {:<{}} {:>10} {:>8} {:>10} {:>7} {:>17}", name, name_width, short_number(find_metric(run, quality.level.metric)),
      short_number(find_metric(run, quality.headline.metric)), short_number(find_metric(run, quality.distance.metric)),
      share ? std::format("{:.2f}%", 100 * *agreement->value) : short_number(agreement), where);
}

void add_model(std::string& text, const ExperimentRecord& record, const ModelRecord& model, std::size_t width) {
  add_wrapped(
      text,
      std::format("{} ({}, {:.1f} M parameters)", model.name, model.variant, static_cast<double>(model.parameters) / 1e6),
      width);
  const std::size_t names = width - 60;
  const Quality& quality = quality_of(record);
  text +=
      std::format("  {:<{}} {:>10} {:>8} {:>10} {:>7} {:>17}\n", "target", names, quality.level.short_name,
                  quality.headline.short_name, quality.distance.short_name, quality.agreement.short_name, "worst local, dB");
  for (const RunRecord& run : record.runs)
    if (run.model == model.name) add_wrapped(text, target_line(run, quality, names), width);
  const RunRecord* base = record.find(model.name, "baseline");
  if (base == nullptr) return;
  std::string facts;
  for (const Metric& metric : base->metrics)
    if (metric.name.starts_with("sink_rate") || metric.name == "residual.inf_norm.max" || metric.name == "drain.v.sinks" ||
        metric.name == "drain.v_gated.sinks")
      facts += std::format(" {} {},", metric.name, short_number(metric.value));
  if (!facts.empty()) add_wrapped(text, "  baseline:" + facts.substr(0, facts.size() - 1), width);
  if (const std::string who = format_or_kernel(record, model.name); !who.empty()) add_wrapped(text, "  " + who, width);
  std::string damage;
  for (const RunRecord& run : record.runs)
    if (const std::string where = damage_in_words(run); run.model == model.name && !where.empty())
      add_wrapped(damage, std::format("    {:<{}} {}", clipped(run.target, names), names, where), width);
  if (!damage.empty()) text += "  where the damage sits (worst local error):\n" + damage;
  text += console_changes(record, model.name, static_cast<int>(width));
  text += console_budgets(record, model.name, static_cast<int>(width)) + "\n";
}

}  // namespace

std::string console_report(const ExperimentRecord& whole, int width_in) {
  const std::optional<ExperimentRecord> last =
      has_trainings(whole) ? std::optional(without_earlier_checkpoints(whole)) : std::nullopt;
  const ExperimentRecord& record = last ? *last : whole;
  const auto width = static_cast<std::size_t>(std::max(width_in, 72));
  const Provenance& p = record.provenance;
  std::string text;
  add_wrapped(text,
              std::format("{}: {} windows of {} tokens ({}), {}, {}, {} threads", record.name, p.windows, p.context,
                          p.protocol, p.device, p.isa, p.threads),
              width);
  if (record.interrupted) text += "INTERRUPTED: what follows covers the windows that were finished\n";
  text += "\n";
  for (const ModelRecord& model : record.models) add_model(text, record, model, width);
  std::string differences;
  for (const PairRecord& pair : record.pairs) {
    const Metric& d = pair.difference;
    if (!d.value || !d.ci || (d.ci->low <= 0 && d.ci->high >= 0)) continue;
    const bool a_better = *d.value > 0;
    add_wrapped(
        differences,
        std::format("  {}: {} is better than {} by {:.5f} {} ({:.5f} .. {:.5f})", pair.model, a_better ? pair.a : pair.b,
                    a_better ? pair.b : pair.a, std::fabs(*d.value), quality_of(record).ratio ? "nats" : "NMSE",
                    std::min(std::fabs(d.ci->low), std::fabs(d.ci->high)),
                    std::max(std::fabs(d.ci->low), std::fabs(d.ci->high))),
        width);
  }
  if (!differences.empty())
    text +=
        std::format("Paired differences whose {:.0f} % interval excludes zero:\n", 100 * record.confidence) + differences;
  text += console_seeds(record, width_in);
  text += console_training(whole, width_in);
  text += console_gates(record.gates, width_in);
  for (const std::string& warning : record.warnings) add_wrapped(text, "warning: " + warning, width);
  return text;
}

std::string console_plan(const Plan& plan) {
  std::string text =
      std::format("{} runs, about {:.0f} s at {:.0f} GFLOP/s (f32 linears, measured now), about {:.0f} MiB\n\n",
                  plan.runs.size(), plan.seconds, plan.assumed_gflops, static_cast<double>(plan.memory_bytes) / (1 << 20));
  for (const PlannedRun& run : plan.runs) {
    text += std::format("{} / {} on {}: ", run.model, run.target, run.backend);
    text += run.runs ? std::format("{} tokens, {:.1f} GFLOP, about {:.1f} s, {:.0f} MiB\n", run.tokens, run.gflop,
                                   run.seconds, static_cast<double>(run.memory_bytes) / (1 << 20))
                     : std::format("{}: {}\n", run.skipped ? "skipped" : "can't run", run.reason);
    text += "  " + run.description + "\n  " + run.repro + "\n";
  }
  if (!plan.device_shortage.empty()) text += "\ncan't run: " + plan.device_shortage + "\n";
  return text;
}

std::string console_pilot(const std::vector<PilotEffect>& effects, int width_in) {
  const auto width = static_cast<std::size_t>(std::max(width_in, 72));
  std::string text = "\nWhat the planned windows show 8 times of 10 when it is off a gate's bound by:\n";
  for (const PilotEffect& e : effects) {
    const std::string what = !e.least   ? e.why_not
                             : e.factor ? std::format("a factor of {:.5g}", *e.least)
                                        : std::format("{:.3g}", *e.least);
    std::string line = std::format("  {} ({} / {}", e.gate, e.model, e.target);
    if (e.gate != e.metric) line += ", " + e.metric;
    line += "): " + what;
    if (e.least) line += std::format(", {} windows, from a pilot of {}", e.windows, e.pilot_windows);
    add_wrapped(text, line, width);
  }
  return text;
}

std::string console_time_budget(const Plan& plan, double seconds) {
  std::int64_t windows = 0;
  for (const PlannedRun& run : plan.runs) windows = std::max(windows, run.windows);
  if (!(plan.seconds > 0)) return "";
  const auto fit = static_cast<std::int64_t>(static_cast<double>(windows) * seconds / plan.seconds);
  return std::format("\n{:.0f} s are about {} windows of each run (--windows {}); {} are planned\n", seconds, fit,
                     std::max<std::int64_t>(fit, 1), windows);
}

}  // namespace qfid::eval
