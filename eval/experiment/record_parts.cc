#include "eval/experiment/record_parts.h"

#include <charconv>
#include <initializer_list>

#include "eval/experiment/metric_json.h"

namespace qfid::eval {

namespace {

constexpr std::int64_t most_windows = 1'000'000'000'000, most_codes = 1'000'000'000'000'000;

/// One of an enumeration's values, by its spelling.
template <class E, class Spelling>
E one_of(const JsonCursor& at, std::initializer_list<E> all, Spelling spelling) {
  const std::string text = at.text();
  std::string expected;
  for (const E value : all) {
    if (text == spelling(value)) return value;
    expected += (expected.empty() ? "one of " : ", ") + std::string(spelling(value));
  }
  at.fail(expected);
}

LayerRow layer_of(const JsonCursor& at) {
  LayerRow row;
  row.layer = static_cast<int>(at.at("layer").integer(-1, 1'000'000));
  row.tap = at.at("tap").text();
  row.head = at.at("head").is_null() ? -1 : static_cast<int>(at.at("head").integer(0, 1'000'000));
  row.error = at.at("error").text();
  for (const auto& [name, value] : at.entries())
    if (name != "layer" && name != "tap" && name != "head" && name != "error")
      row.values.emplace_back(name, value.number_or_null());
  return row;
}

GateRecord gate_of(const JsonCursor& at) {
  GateRecord gate;
  gate.name = at.at("name").text();
  gate.model = at.at("model").text();
  gate.target = at.at("target").text();
  gate.metric = at.at("metric").text();
  gate.upper = at.has("max");
  gate.bound = at.at(gate.upper ? "max" : "min").number();
  gate.relative_to = at.at("relative_to").text();
  gate.confidence = at.at("confidence").number();
  GateStatistics& s = gate.statistics;
  s.windows = static_cast<int>(at.at("windows").integer(0, INT32_MAX));
  s.effect = at.at("effect").number_or_null();
  s.limits = interval_of(at, "limits");
  s.outcome = one_of(at.at("outcome"), {GateOutcome::pass, GateOutcome::fail, GateOutcome::inconclusive},
                     [](GateOutcome o) { return to_string(o); });
  gate.verdict = one_of(at.at("verdict"),
                        {GateVerdict::pass, GateVerdict::fail, GateVerdict::inconclusive, GateVerdict::warning,
                         GateVerdict::expected_failure, GateVerdict::unexpected_pass, GateVerdict::expired},
                        [](GateVerdict v) { return to_string(v); });
  if (at.at("blocks").boolean() != gate.blocks()) at.at("blocks").fail(gate.blocks() ? "true" : "false");
  gate.words = at.at("words").text();
  if (at.has("detectable")) s.detectable = at.at("detectable").number_or_null();
  if (at.has("windows_needed")) s.windows_needed = at.at("windows_needed").integer(0, most_windows);
  if (at.has("noise_floor")) gate.noise_floor = at.at("noise_floor").number_or_null();
  if (at.has("expected_failure")) {
    gate.reason = at.at("expected_failure").at("reason").text();
    gate.expires = at.at("expected_failure").at("expires").text();
  }
  return gate;
}

/// "620 380": at most `most` whole numbers from 0 to `largest`, a space between.
template <class Number>
std::vector<Number> numbers_in(const JsonCursor& at, Number largest, std::size_t most, const char* expected) {
  const std::string text = at.text();
  const char* const last = text.data() + text.size();
  std::vector<Number> row;
  for (const char* next = text.data();; ++next) {
    Number value = -1;
    const auto [end, error] = std::from_chars(next, last, value);
    const bool good = error == std::errc() && value >= 0 && value <= largest && row.size() < most;
    if (!good || (end != last && *end != ' ')) at.fail(expected);
    row.push_back(value);
    next = end;
    if (next == last) return row;
  }
}

CodeHistogram histogram_of(const JsonCursor& at) {
  constexpr const char* expected = "256 counts with a space between";
  CodeHistogram histogram;
  histogram.layer = static_cast<int>(at.at("layer").integer(0, 1'000'000));
  histogram.format = at.at("format").text();
  histogram.p_scale = at.at("p_scale").number();
  if (!(histogram.p_scale > 0)) at.at("p_scale").fail("a number above 0");
  histogram.counts = numbers_in<std::int64_t>(at.at("counts"), most_codes, 256, expected);
  if (histogram.counts.size() != 256) at.at("counts").fail(expected);
  return histogram;
}

AttentionHead attention_of(const JsonCursor& at) {
  AttentionHead head;
  head.model = at.at("model").text();
  head.layer = static_cast<int>(at.at("layer").integer(0, 1'000'000));
  head.head = static_cast<int>(at.at("head").integer(0, 1'000'000));
  head.why = at.at("why").text();
  head.block = at.at("block").integer(1, 1'000'000'000);
  for (const JsonCursor& map : at.at("maps").items()) {
    std::vector<std::vector<int>> rows;
    for (const JsonCursor& row : map.at("rows").items())
      rows.push_back(numbers_in(row, 1000, most_sketch_rows + 1, "numbers from 0 to 1000 with a space between"));
    if (rows.size() > most_sketch_rows) map.at("rows").fail("at most 32 rows");
    head.maps.emplace_back(map.at("target").text(), std::move(rows));
  }
  return head;
}

std::vector<double> window_kl(const JsonCursor& list, std::size_t windows) {
  std::vector<double> sums;
  for (const JsonCursor& item : list.items()) sums.push_back(item.number());
  if (sums.size() != windows) list.fail("a list of " + std::to_string(windows) + " numbers, one a window");
  return sums;
}

BudgetGroup group_of(const JsonCursor& at, const std::string& name, std::size_t windows) {
  BudgetGroup group;
  group.alone = metric_of("budget." + name + ".alone", at.at("alone"));
  group.without = metric_of("budget." + name + ".without", at.at("without"));
  for (const JsonCursor& item : at.at("entries").items()) {
    const std::string part = item.at("name").text();
    group.entries.push_back({part, window_kl(item.at("alone_kl"), windows), window_kl(item.at("without_kl"), windows),
                             metric_of("budget.alone." + part, item.at("alone")),
                             metric_of("budget.without." + part, item.at("without"))});
  }
  return group;
}

ErrorBudget budget_of(const JsonCursor& at) {
  ErrorBudget budget;
  budget.model = at.at("model").text();
  budget.target = at.at("target").text();
  budget.backend = at.at("backend").text();
  for (const JsonCursor& item : at.at("tokens").items()) budget.tokens.push_back(item.integer(1, most_windows));
  budget.whole = metric_of("budget.kl", at.at("whole"));
  budget.whole_kl = window_kl(at.at("whole_kl"), budget.tokens.size());
  budget.parts = group_of(at.at("parts"), "parts", budget.tokens.size());
  budget.layers = group_of(at.at("layers"), "layers", budget.tokens.size());
  return budget;
}

void add_timings(ExperimentRecord& record, const JsonCursor& at) {
  Timings& t = record.timings;
  t.started = at.at("started").text();
  t.total_seconds = at.at("total_seconds").number();
  t.load_seconds = at.at("load_seconds").number();
  t.calibration_seconds = at.at("calibration_seconds").number();
  t.baseline_seconds = at.at("baseline_seconds").number();
  t.targets_seconds = at.at("targets_seconds").number();
  t.metrics_seconds = at.at("metrics_seconds").number();
  t.local_seconds = at.at("local_seconds").number();
  if (at.has("budget_seconds")) t.budget_seconds = at.at("budget_seconds").number();     // added to version 1 later
  if (at.has("changes_seconds")) t.changes_seconds = at.at("changes_seconds").number();  // the same
  t.peak_memory_bytes = at.at("peak_memory_bytes").number();
  for (const JsonCursor& entry : at.at("runs").items())
    for (RunRecord& run : record.runs)
      if (run.model == entry.at("model").text() && run.target == entry.at("target").text()) {
        run.seconds = entry.at("forward_seconds").number();
        run.metric_seconds = entry.at("metric_seconds").number();
        run.local_seconds = entry.at("local_seconds").number();
      }
}

}  // namespace

void add_details(ExperimentRecord& record, const JsonCursor& root) {
  const std::vector<JsonCursor> models = root.at("models").items(), runs = root.at("runs").items();
  for (std::size_t i = 0; i < models.size(); ++i)
    for (const JsonCursor& tensor : models[i].at("unused_tensors").items())
      record.models[i].unused_tensors.push_back(tensor.text());
  for (std::size_t i = 0; i < runs.size(); ++i) {
    for (const auto& [site, ran] : runs[i].at("implementations").entries())
      record.runs[i].implementations[site] = ran.text();
    for (const auto& [name, metric] : runs[i].at("metrics").entries())
      record.runs[i].metrics.push_back(metric_of(name, metric));
    for (const JsonCursor& row : runs[i].at("layers").items()) record.runs[i].layers.push_back(layer_of(row));
    if (runs[i].has("p_codes"))  // added to version 1 later
      for (const JsonCursor& histogram : runs[i].at("p_codes").items())
        record.runs[i].p_codes.push_back(histogram_of(histogram));
  }
  for (const JsonCursor& pair : root.at("pairs").items()) {
    const char* name = pair.has("hidden.nmse.difference") ? "hidden.nmse.difference" : "nll.difference";
    record.pairs.push_back(
        {pair.at("model").text(), pair.at("a").text(), pair.at("b").text(), metric_of(name, pair.at(name))});
  }
  for (const JsonCursor& gate : root.at("gates").items()) record.gates.push_back(gate_of(gate));
  if (root.has("attention"))  // added to version 1 later
    for (const JsonCursor& head : root.at("attention").items()) record.attention.push_back(attention_of(head));
  if (root.has("budgets"))  // added to version 1 later
    for (const JsonCursor& budget : root.at("budgets").items()) record.budgets.push_back(budget_of(budget));
  if (root.has("interventions"))  // added to version 1 later
    for (const JsonCursor& change : root.at("interventions").items())
      record.interventions.push_back(scored_change_of(change));
  for (const JsonCursor& warning : root.at("warnings").items()) record.warnings.push_back(warning.text());
  add_timings(record, root.at("timings"));
}

}  // namespace qfid::eval
