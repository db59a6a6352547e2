// Gates' verdicts for people: on the console and in report.md, in words, what blocks first.
#include "eval/report/format.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

std::vector<const GateRecord*> blocking_first(const std::vector<GateRecord>& gates) {
  std::vector<const GateRecord*> sorted;
  for (const GateRecord& gate : gates) sorted.push_back(&gate);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const GateRecord* a, const GateRecord* b) { return a->blocks() && !b->blocks(); });
  return sorted;
}

/// "3 gates pass, 1 fails: don't ship."
std::string summary(const std::vector<GateRecord>& gates) {
  std::string counts;
  for (const GateVerdict verdict : {GateVerdict::pass, GateVerdict::fail, GateVerdict::inconclusive, GateVerdict::warning,
                                    GateVerdict::expected_failure, GateVerdict::unexpected_pass, GateVerdict::expired}) {
    const auto n = std::count_if(gates.begin(), gates.end(), [&](const GateRecord& g) { return g.verdict == verdict; });
    if (n > 0) counts += std::format("{}{} {}", counts.empty() ? "" : ", ", n, to_string(verdict));
  }
  const bool blocked = std::any_of(gates.begin(), gates.end(), [](const GateRecord& g) { return g.blocks(); });
  return counts + (blocked ? ": does not pass" : ": passes");
}

}  // namespace

std::string console_gates(const std::vector<GateRecord>& gates, int width_in) {
  if (gates.empty()) return "";
  const auto width = static_cast<std::size_t>(std::max(width_in, 72));
  std::string text = "Gates: " + summary(gates) + "\n";
  for (const GateRecord* gate : blocking_first(gates))
    add_wrapped(text,
                std::format("  {:<12} {} ({} / {}): {}", to_string(gate->verdict), gate->name, gate->model, gate->target,
                            gate->words),
                width);
  return text;
}

std::string markdown_gates(const std::vector<GateRecord>& gates) {
  if (gates.empty()) return "";
  std::string text =
      "## Gates: " + summary(gates) + "\n\n| verdict | gate | model | target | in words |\n|---|---|---|---|---|\n";
  for (const GateRecord* gate : blocking_first(gates))
    text +=
        std::format("| {}{}{} | {} | {} | {} | {} |\n", gate->blocks() ? "**" : "", to_string(gate->verdict),
                    gate->blocks() ? "**" : "", cell(gate->name), cell(gate->model), cell(gate->target), cell(gate->words));
  return text + "\n";
}

}  // namespace qfid::eval
