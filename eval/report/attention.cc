// The table of `qfid attention`: one line a target, then who is to blame and what the tensors are like.
#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

const LayerRow* find_row(const RunRecord& run, const std::string& tap, const std::string& error) {
  for (const LayerRow& row : run.layers)
    if (row.tap == tap && row.error == error && row.head == -1) return &row;
  return nullptr;
}

std::optional<double> number(const RunRecord& run, const char* tap, const char* error, const char* name) {
  const LayerRow* row = find_row(run, tap, error);
  return row == nullptr ? std::nullopt : column(*row, name);
}

/// Distortion in dB; exact outputs have no ratio.
std::string decibels(const RunRecord& run, const char* error) {
  const LayerRow* row = find_row(run, "output", error);
  if (row == nullptr) return "-";
  const auto sqnr = column(*row, "sqnr_db");
  return sqnr ? std::format("{:.1f}", *sqnr) : "exact";
}

std::string share(std::optional<double> value) { return value ? std::format("{:.2f}%", 100 * *value) : "-"; }

void add_target(std::string& text, const RunRecord& run, std::size_t names, std::size_t width) {
  const std::string name = clipped(run.target, names);
  if (run.status == RunStatus::skipped || run.status == RunStatus::failed)
    return add_wrapped(text, std::format("  {:<{}} {}: {}", name, names, to_string(run.status), run.message), width);
  add_wrapped(
      text,
      std::format("  {:<{}} {:>8} {:>9} {:>9} {:>9} {:>8} {:>8}", name, names, decibels(run, "local"),
                  short_number(number(run, "output", "local", "gain")),
                  short_number(number(run, "output", "local", "max_abs")), short_number(number(run, "probs", "local", "kl")),
                  share(number(run, "p_codes", "none", "zero_share")), decibels(run, "kernel")),
      width);
}

}  // namespace

std::string console_attention(const ExperimentRecord& record, int width_in) {
  const auto width = static_cast<std::size_t>(std::max(width_in, 72));
  const Provenance& p = record.provenance;
  std::string text;
  add_wrapped(text,
              std::format("{}: {}, batch {}, {}, {}, {} threads", record.name,
                          record.models.empty() ? "" : record.models[0].variant, p.windows, p.device, p.isa, p.threads),
              width);
  if (record.interrupted) text += "INTERRUPTED: what follows covers the batch entries that were finished\n";
  const std::size_t names = width - 60;
  text += std::format("\n  {:<{}} {:>8} {:>9} {:>9} {:>9} {:>8} {:>8}\n", "target", names, "SQNR, dB", "gain", "max error",
                      "KL (nats)", "zero P", "kernel*");
  for (const RunRecord& run : record.runs)
    if (run.target != "baseline") add_target(text, run, names, width);
  text += "  * SQNR of the real kernel against the emulated twin on the same inputs, dB\n";
  if (!record.models.empty())
    if (const std::string who = format_or_kernel(record, record.models[0].name); !who.empty())
      add_wrapped(text, "  " + who, width);
  const RunRecord* base = record.runs.empty() ? nullptr : &record.runs[0];
  std::string facts;
  for (const char* tap : {"q", "k", "v", "output"})
    if (base != nullptr && find_row(*base, tap, "none") != nullptr)
      facts += std::format(" {} max {} kurtosis {},", tap, short_number(number(*base, tap, "none", "inf_norm")),
                           short_number(number(*base, tap, "none", "kurtosis")));
  for (const Metric& metric : base == nullptr ? std::vector<Metric>{} : base->metrics)
    if (metric.name.starts_with("sink_rate") || metric.name == "drain.v" || metric.name == "drain.v_gated" ||
        metric.name == "attention.entropy" || metric.name == "attention.top_key_share")
      facts += std::format(" {} {},", metric.name, short_number(metric.value));
  if (!facts.empty()) add_wrapped(text, "  full precision:" + facts.substr(0, facts.size() - 1), width);
  for (const std::string& warning : record.warnings) add_wrapped(text, "warning: " + warning, width);
  return text;
}

}  // namespace qfid::eval
