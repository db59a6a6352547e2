// Claims over training seeds, in every report: per target and measure what each group shows and how it stands to the
// reference. An interval that holds zero is said as plainly as one that doesn't.
#include <cmath>
#include <format>

#include "eval/experiment/seed_claims.h"
#include "eval/report/format.h"
#include "eval/report/html_sections.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

std::string explanation(const SeedClaims& claims) {
  return std::format(
      "The training seed is the unit: means over seeds, not over windows. Of ratios, perplexities and divergences the mean "
      "is "
      "geometric and the SD that of the logarithm. A mean's interval is at {:.4g} %. Groups are compared with {} seed by "
      "seed; "
      "these intervals hold for all groups of one measure and target together, not for all rows of the table together.",
      100 * claims.confidence, claims.reference);
}

std::string mean_text(const SeedRow& row) {
  return short_number(row.logarithmic ? std::exp(row.level.mean) : row.level.mean);
}

std::string deviation_text(const SeedRow& row) { return short_number(row.level.deviation); }

std::string interval_of(const SeedRow& row) {
  if (!row.level.interval) return "-";
  const Interval& i = *row.level.interval;
  return row.logarithmic ? std::format("{} .. {}", short_number(std::exp(i.low)), short_number(std::exp(i.high)))
                         : std::format("{} .. {}", short_number(i.low), short_number(i.high));
}

std::string words_of(const SeedRow& row, const SeedClaims& claims) {
  const std::string words = in_words(row, claims.reference);
  return words.empty() ? "reference" : words;
}

}  // namespace

std::string console_seeds(const ExperimentRecord& record, int width_in) {
  const std::optional<SeedClaims> claims = seed_claims(record);
  if (!claims) return "";
  const auto width = static_cast<std::size_t>(std::max(width_in, 72));
  std::string text = "Claims over training seeds\n", heading;
  add_wrapped(text, "  " + explanation(*claims), width);
  for (const SeedRow& row : claims->rows) {
    const std::string here = row.target + ", " + row.metric;
    if (here != heading) text += "  " + here + "\n";
    heading = here;
    add_wrapped(text,
                std::format("    {:<12} {:>9} SD {:>9}, {} seed{}; {}", clipped(row.group, 12), mean_text(row),
                            deviation_text(row), row.level.seeds, row.level.seeds == 1 ? "" : "s", words_of(row, *claims)),
                width);
  }
  return text;
}

std::string markdown_seeds(const ExperimentRecord& record) {
  const std::optional<SeedClaims> claims = seed_claims(record);
  if (!claims) return "";
  std::string text = "## Claims over training seeds\n\n" + cell(explanation(*claims)) + "\n\n";
  text += "| target | measure | group | seeds | mean | SD | interval of the mean | against " + cell(claims->reference) +
          " |\n|---|---|---|---|---|---|---|---|\n";
  for (const SeedRow& row : claims->rows)
    text +=
        std::format("| {} | {} | {} | {} | {} | {} | {} | {} |\n", cell(row.target), row.metric, cell(row.group),
                    row.level.seeds, mean_text(row), deviation_text(row), interval_of(row), cell(words_of(row, *claims)));
  return text + "\n";
}

void add_seeds(Html& page, const ExperimentRecord& record) {
  const std::optional<SeedClaims> claims = seed_claims(record);
  if (!claims) return;
  open_section(page, "seeds", "Claims over training seeds");
  page.leaf("p", explanation(*claims));
  std::string heading;
  for (const SeedRow& row : claims->rows) {
    const std::string here = row.target + ", " + row.metric;
    if (here != heading) {
      if (!heading.empty()) {
        page.close();
        close_table(page);
      }
      page.leaf("h3", here);  // captions of tables are for screen readers
      open_table(page, here);
      page.open("thead").row("th", {"Group", "Seeds", "Mean", "SD", "Interval of the mean", "Against " + claims->reference});
      page.close().open("tbody");
    }
    heading = here;
    page.row("td", {row.group, std::to_string(row.level.seeds), mean_text(row), deviation_text(row), interval_of(row),
                    words_of(row, *claims)});
  }
  if (!heading.empty()) {
    page.close();
    close_table(page);
  }
  page.close();
}

}  // namespace qfid::eval
