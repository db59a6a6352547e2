// The error budgets of a record: as text, as Markdown, and as a section of report.html.
#include <algorithm>
#include <format>

#include "eval/report/format.h"
#include "eval/report/html_sections.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

/// One digit, and no "-0.0".
std::string tenth(double share) {
  const std::string text = std::format("{:.1f}", 100 * share);
  return text == "-0.0" ? "0.0" : text;
}

std::string percent(const Metric& share) { return share.value ? tenth(*share.value) + " %" : std::string("-"); }

std::string percent_interval(const Metric& share) {
  if (!share.ci) return percent(share);
  return std::format("{} ({} .. {})", percent(share), tenth(share.ci->low), tenth(share.ci->high));
}

/// Parts by what they do alone, the largest first.
std::vector<const BudgetEntry*> largest_first(const BudgetGroup& group) {
  std::vector<const BudgetEntry*> all;
  for (const BudgetEntry& entry : group.entries) all.push_back(&entry);
  std::stable_sort(all.begin(), all.end(), [](const BudgetEntry* a, const BudgetEntry* b) {
    return a->alone.value.value_or(0) > b->alone.value.value_or(0);
  });
  return all;
}

const BudgetEntry* largest(const BudgetGroup& group) {
  return group.entries.empty() ? nullptr : largest_first(group).front();
}

/// Whether the shares add up, as far as the interval (without one: 5 %) can tell.
std::string adds_up(const BudgetGroup& group) {
  const Metric& sum = group.alone;
  if (!sum.value) return "";
  const double low = sum.ci ? sum.ci->low : *sum.value - 0.05, high = sum.ci ? sum.ci->high : *sum.value + 0.05;
  return low > 1    ? "together they do less than one by one"
         : high < 1 ? "together they do more than one by one"
                    : "they add up";
}

constexpr std::size_t shown_parts = 6;

std::string title_of(const ErrorBudget& budget) {
  return std::format("{}: KL {} nats on {} windows", budget.target, short_number(budget.whole.value), budget.tokens.size());
}

}  // namespace

std::string console_budgets(const ExperimentRecord& record, const std::string& model, int width_in) {
  const auto width = static_cast<std::size_t>(std::max(width_in, 72));
  std::string text;
  for (const ErrorBudget& budget : record.budgets) {
    if (budget.model != model) continue;
    if (text.empty()) text += "  Where the KL comes from: quantized alone | all but it, what that saves\n";
    add_wrapped(text, "  " + title_of(budget), width);
    const std::vector<const BudgetEntry*> parts = largest_first(budget.parts);
    for (std::size_t i = 0; i < std::min(parts.size(), shown_parts); ++i)
      text += std::format("    {:<10} {:>26} | {:>26}\n", parts[i]->name, percent_interval(parts[i]->alone),
                          percent_interval(parts[i]->without));
    if (parts.size() > shown_parts) text += std::format("    and {} smaller ones\n", parts.size() - shown_parts);
    text += std::format("    {:<10} {:>26} | {:>26}\n", "all parts", percent_interval(budget.parts.alone),
                        percent_interval(budget.parts.without));
    const BudgetEntry* layer = largest(budget.layers);
    std::string says = "    " + adds_up(budget.parts);
    if (layer != nullptr) says += "; largest layer: " + layer->name + ", " + percent_interval(layer->alone);
    add_wrapped(text, says, width);
  }
  return text;
}

std::string markdown_budgets(const ExperimentRecord& record, const std::string& model) {
  std::string text;
  for (const ErrorBudget& budget : record.budgets) {
    if (budget.model != model) continue;
    if (text.empty())
      text +=
          "### Error budget\n\nEach part quantized alone, and everything but it, in mode emulated: shares of the whole's "
          "KL(baseline\\|\\|target). Shares that don't add up say that errors cancel or feed each other.\n\n";
    text += std::format("{} ({}).\n\n| part | alone | all but it, saves |\n|---|---|---|\n", cell(title_of(budget)),
                        adds_up(budget.parts));
    for (const BudgetEntry* entry : largest_first(budget.parts))
      text += std::format("| {} | {} | {} |\n", cell(entry->name), percent_interval(entry->alone),
                          percent_interval(entry->without));
    const auto sum = [&](const char* name, const BudgetGroup& group) {
      text += std::format("| *{}* | {} | {} |\n", name, percent_interval(group.alone), percent_interval(group.without));
    };
    sum("sum of the parts", budget.parts);
    for (const BudgetEntry& entry : budget.layers.entries)
      text += std::format("| {} | {} | {} |\n", cell(entry.name), percent_interval(entry.alone),
                          percent_interval(entry.without));
    sum("sum of the layers", budget.layers);
    text += "\n";
  }
  return text;
}

namespace {

Share share_of(const Metric& metric) {
  Share share{metric.value.value_or(0), std::nullopt};
  if (metric.ci) share.interval = {metric.ci->low, metric.ci->high};
  return share;
}

void add_chart(Html& page, const ErrorBudget& budget, const char* what, const std::vector<const BudgetEntry*>& entries) {
  ShareChart chart{std::format("{}: {}", budget.target, what), "", "share of the target's KL", {}};
  for (const BudgetEntry* entry : entries) {
    if (!entry->alone.value || !entry->without.value) continue;
    chart.rows.push_back({entry->name, share_of(entry->alone), share_of(entry->without)});
    chart.description += std::format("{}{}: alone {}, saved without it {}", chart.description.empty() ? "" : "; ",
                                     entry->name, percent(entry->alone), percent(entry->without));
  }
  add_share_chart(page, chart);
}

void add_numbers(Html& page, const ErrorBudget& budget) {
  page.open("details").leaf("summary", "The numbers of " + budget.target);
  open_table(page, "Error budget of " + budget.target);
  page.open("thead").row("th", {"Part", "Alone", "All but it, saves"}).close().open("tbody");
  for (const BudgetGroup* group : {&budget.parts, &budget.layers}) {
    for (const BudgetEntry& entry : group->entries)
      page.row("td", {entry.name, percent_interval(entry.alone), percent_interval(entry.without)});
    page.row("td", {group == &budget.parts ? "sum of the parts" : "sum of the layers", percent_interval(group->alone),
                    percent_interval(group->without)});
  }
  page.close();
  close_table(page);
  page.close();
}

}  // namespace

void add_budgets(Html& page, const ExperimentRecord& record) {
  if (record.budgets.empty()) return;
  open_section(page, "budget", "Where the KL comes from");
  page.leaf(
      "p",
      "Each part of a target is quantized alone (bar), and everything but the part (diamond: what leaving it in full "
      "precision saves), with dequantized codes and products in f32. Both are shares of the KL of the whole; the lines "
      "are their intervals. A part is an operand of attention, a kind of linear in all layers, or a layer.");
  for (const ErrorBudget& budget : record.budgets) {
    page.leaf("h3", (record.models.size() > 1 ? budget.model + ", " : "") + title_of(budget));
    page.leaf("p", std::format("Alone, the parts sum to {} of the whole, what leaving out each saves to {}: {}.",
                               percent_interval(budget.parts.alone), percent_interval(budget.parts.without),
                               adds_up(budget.parts)));
    page.open("div", {{"class", "charts"}});
    add_chart(page, budget, "operands and linears", largest_first(budget.parts));
    std::vector<const BudgetEntry*> layers;
    for (const BudgetEntry& entry : budget.layers.entries) layers.push_back(&entry);
    add_chart(page, budget, "layers", layers);
    page.close();
    add_numbers(page, budget);
  }
  page.close();
}

}  // namespace qfid::eval
