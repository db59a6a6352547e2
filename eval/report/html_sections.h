// The sections of report.html, in the page's order. Each is a function of the record and writes nothing when the record has
// nothing to show for it.
#pragma once

#include "eval/experiment/record.h"
#include "eval/report/chart.h"
#include "eval/report/html.h"

namespace qfid::eval {

/// The style sheet: light and dark by the reader's preference, for paper, for narrow screens.
std::string_view html_style();

void add_answer(Html& page, const ExperimentRecord& record);            // html_answer.cc
void add_verdicts(Html& page, const ExperimentRecord& record);          // html_verdicts.cc
void add_gates(Html& page, const ExperimentRecord& record);             // html_verdicts.cc
void add_variants(Html& page, const ExperimentRecord& record);          // variants.cc
void add_budgets(Html& page, const ExperimentRecord& record);           // budget.cc
void add_interventions(Html& page, const ExperimentRecord& record);     // changes.cc
void add_seeds(Html& page, const ExperimentRecord& record);             // seeds.cc
void add_training(Html& page, const ExperimentRecord& record);          // training.cc
void add_heads(Html& page, const ExperimentRecord& record);             // html_heads.cc
void add_error_curves(Html& page, const ExperimentRecord& record);      // html_curves.cc
void add_outliers(Html& page, const ExperimentRecord& record);          // html_curves.cc
void add_sinks(Html& page, const ExperimentRecord& record);             // html_heads.cc
void add_attention(Html& page, const ExperimentRecord& record);         // html_attention.cc
void add_kl_distribution(Html& page, const ExperimentRecord& record);   // html_tokens.cc
void add_p_codes(Html& page, const ExperimentRecord& record);           // html_p_codes.cc
void add_error_parts(Html& page, const ExperimentRecord& record);       // html_p_codes.cc
void add_codes(Html& page, const ExperimentRecord& record);             // html_curves.cc
void add_format_or_kernel(Html& page, const ExperimentRecord& record);  // html_answer.cc
void add_all_metrics(Html& page, const ExperimentRecord& record);       // html_provenance.cc
void add_what_ran(Html& page, const ExperimentRecord& record);          // html_provenance.cc

/// "no query after the first sees key 0" (changes.cc).
std::string intervention_in_words(const std::string& name);
/// The noise floor as rows of a table of targets (changes.cc).
void add_noise_rows(Html& page, const ExperimentRecord& record, const std::string& model);

/// short_number, but "-" for what isn't finite: results.json has null for it, and a page rendered again says the same.
std::string shown_number(std::optional<double> value);
std::string shown_number(const Metric* metric);
/// "LOW to HIGH"; ratios with four decimals. "-" where there is none.
std::string shown_interval(const Metric* metric);
/// A target's colour and marker: the same on the whole page, in every model.
Style style_of(const ExperimentRecord& record, const std::string& target);
/// Opens a section with a heading that can be linked to.
void open_section(Html& page, const std::string& id, const std::string& title);
/// A table that scrolls on its own where the page is narrow.
void open_table(Html& page, const std::string& caption);
void close_table(Html& page);

}  // namespace qfid::eval
