// Results side by side, on the console: a paragraph for each pair of files, a line for each run and metric.
#include "eval/experiment/compare.h"

#include "eval/report/format.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

/// What the interval says, in a word.
std::string in_words(const ComparedRow& row) {
  if (!row.change.ci) return row.change.note;
  const double nothing = row.change.name == "ratio" ? 1 : 0;
  if (row.change.ci->low <= nothing && nothing <= row.change.ci->high) return "no difference shown";
  const bool higher_is_better = row.metric == "top1.agreement";
  return (*row.change.value > nothing) == higher_is_better ? "better" : "worse";
}

}  // namespace

std::string console_comparison(const std::vector<ComparedRow>& rows, double confidence) {
  std::string text, pair;
  for (const ComparedRow& row : rows) {
    if (row.a + "\n" + row.b != pair) {
      text += std::format("{}A = {}\nB = {}\nB against A, paired by window; {:.6g} % intervals (docs/gates.md)\n\n",
                          text.empty() ? "" : "\n", row.a, row.b, 100 * confidence);
      pair = row.a + "\n" + row.b;
    }
    if (!row.model.empty()) text += row.model + " / " + row.target + ", ";
    text += std::format("{}: {} -> {}, {} {}", row.metric, short_number(row.value_a), short_number(row.value_b),
                        row.change.name, std::format("{:.6g}", *row.change.value));
    if (row.change.ci) text += std::format(" ({:.6g} .. {:.6g})", row.change.ci->low, row.change.ci->high);
    text += ": " + in_words(row) + "\n";
  }
  return text;
}

}  // namespace qfid::eval
