// What later passes leave in the record: PassLog and replay_pass of unit_content.h.
#include "eval/experiment/unit_content.h"

namespace qfid::eval {

using quant::ByteReader;
using quant::ByteWriter;

namespace {

void write(ByteWriter& to, const std::string& warning) { to.text(warning); }

void write(ByteWriter& to, const Metric& metric) {
  to.text(metric.name);
  to.number<std::uint8_t>(metric.value.has_value());
  to.number(metric.value.value_or(0));
  to.number<std::uint8_t>(metric.ci.has_value());
  to.number(metric.ci.value_or(Interval{}));
  to.text(metric.unit);
  to.text(metric.note);
}

Metric read_metric(ByteReader& from) {
  Metric metric;
  metric.name = from.text();
  const bool has_value = from.number<std::uint8_t>() != 0;
  const auto value = from.number<double>();
  if (has_value) metric.value = value;
  const bool has_interval = from.number<std::uint8_t>() != 0;
  const auto interval = from.number<Interval>();
  if (has_interval) metric.ci = interval;
  metric.unit = from.text();
  metric.note = from.text();
  return metric;
}

void write(ByteWriter& to, const ScoredChange& change) {
  for (const std::string* text : {&change.model, &change.target, &change.name, &change.message}) to.text(*text);
  to.list(change.tokens);
  to.list(change.nll_difference);
  to.list(change.kl);
  to.number<std::uint64_t>(change.metrics.size());
  for (const Metric& metric : change.metrics) write(to, metric);
}

ScoredChange read_change(ByteReader& from) {
  ScoredChange change;
  for (std::string* text : {&change.model, &change.target, &change.name, &change.message}) *text = from.text();
  change.tokens = from.list<std::int64_t>();
  change.nll_difference = from.list<double>();
  change.kl = from.list<double>();
  for (auto left = from.number<std::uint64_t>(); left > 0; --left) change.metrics.push_back(read_metric(from));
  return change;
}

void write(ByteWriter& to, const BudgetGroup& group) {
  to.number<std::uint64_t>(group.entries.size());
  for (const BudgetEntry& entry : group.entries) {
    to.text(entry.name);
    to.list(entry.alone_kl);
    to.list(entry.without_kl);
  }
}

BudgetGroup read_group(ByteReader& from, std::size_t windows) {
  BudgetGroup group;
  for (auto left = from.number<std::uint64_t>(); left > 0; --left) {
    BudgetEntry& entry = group.entries.emplace_back();
    entry.name = from.text();
    entry.alone_kl = from.list<double>();
    entry.without_kl = from.list<double>();
    ByteReader::check(entry.alone_kl.size() == windows && entry.without_kl.size() == windows);
  }
  return group;
}

void write(ByteWriter& to, const ErrorBudget& budget) {
  for (const std::string* text : {&budget.model, &budget.target, &budget.backend}) to.text(*text);
  to.list(budget.tokens);
  to.list(budget.whole_kl);
  write(to, budget.parts);
  write(to, budget.layers);
}

ErrorBudget read_budget(ByteReader& from, double confidence) {
  ErrorBudget budget;
  for (std::string* text : {&budget.model, &budget.target, &budget.backend}) *text = from.text();
  budget.tokens = from.list<std::int64_t>();
  budget.whole_kl = from.list<double>();
  ByteReader::check(budget.whole_kl.size() == budget.tokens.size());
  budget.parts = read_group(from, budget.tokens.size());
  budget.layers = read_group(from, budget.tokens.size());
  compute_shares(budget, confidence);
  return budget;
}

template <class T>
void write_from(ByteWriter& to, const std::vector<T>& all, std::size_t first) {
  to.number<std::uint64_t>(all.size() - first);
  for (std::size_t i = first; i < all.size(); ++i) write(to, all[i]);
}

template <class T, class Read>
void append(std::vector<T>& to, ByteReader& from, const Read& read) {
  for (auto left = from.number<std::uint64_t>(); left > 0; --left) to.push_back(read());
}

}  // namespace

PassLog::PassLog(const ExperimentRecord& record)
    : record_(record),
      noise_(record.noise.size()),
      interventions_(record.interventions.size()),
      budgets_(record.budgets.size()),
      warnings_(record.warnings.size()) {}

std::string PassLog::content(double seconds) const {
  ByteWriter to;
  to.number(seconds);
  write_from(to, record_.noise, noise_);
  write_from(to, record_.interventions, interventions_);
  write_from(to, record_.budgets, budgets_);
  write_from(to, record_.warnings, warnings_);
  return to.take();
}

double replay_pass(const std::string& unit, std::string_view content, ExperimentRecord& record) {
  try {
    ByteReader from(content);
    const auto seconds = from.number<double>();
    append(record.noise, from, [&] { return read_change(from); });
    append(record.interventions, from, [&] { return read_change(from); });
    append(record.budgets, from, [&] { return read_budget(from, record.confidence); });
    append(record.warnings, from, [&] { return from.text(); });
    ByteReader::check(from.done());
    return seconds;
  } catch (const quant::Error& error) {
    throw quant::Error(quant::ErrorKind::input, "journal, unit " + unit + ": " + error.what());
  }
}

}  // namespace qfid::eval
