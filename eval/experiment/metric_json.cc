#include "eval/experiment/metric_json.h"

#include <cmath>

namespace qfid::eval {

using nlohmann::ordered_json;

namespace {

std::vector<double> window_sums_of(const JsonCursor& list, std::size_t windows) {
  std::vector<double> sums;
  for (const JsonCursor& item : list.items()) sums.push_back(item.number());
  if (sums.size() != windows) list.fail("a list of " + std::to_string(windows) + " numbers, one a window");
  return sums;
}

}  // namespace

ordered_json number_json(std::optional<double> value) {
  return value && std::isfinite(*value) ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json metric_json(const Metric& m) {
  ordered_json json{{"value", number_json(m.value)}};
  if (m.ci) json["ci"] = {number_json(m.ci->low), number_json(m.ci->high)};
  json["unit"] = m.unit;
  if (!m.note.empty()) json["note"] = m.note;
  return json;
}

std::optional<Interval> interval_of(const JsonCursor& at, const std::string& key) {
  if (!at.has(key)) return std::nullopt;
  const std::vector<JsonCursor> ends = at.at(key).items();
  if (ends.size() != 2) at.at(key).fail("two numbers");
  const std::optional<double> low = ends[0].number_or_null(), high = ends[1].number_or_null();
  if (!low || !high) return std::nullopt;
  return Interval{*low, *high};
}

Metric metric_of(const std::string& name, const JsonCursor& at) {
  Metric metric;
  metric.name = name;
  metric.value = at.at("value").number_or_null();
  metric.ci = interval_of(at, "ci");
  metric.unit = at.at("unit").text();
  if (at.has("note")) metric.note = at.at("note").text();
  return metric;
}

ordered_json scored_change_json(const ScoredChange& change) {
  ordered_json metrics = ordered_json::object();
  for (const Metric& metric : change.metrics) metrics[metric.name] = metric_json(metric);
  return {{"model", change.model},
          {"target", change.target},
          {"name", change.name},
          {"message", change.message},
          {"metrics", metrics},
          {"tokens", change.tokens},
          {"nll_difference", change.nll_difference},
          {"kl", change.kl}};
}

ScoredChange scored_change_of(const JsonCursor& at) {
  ScoredChange change{at.at("model").text(), at.at("target").text(), at.at("name").text(), at.at("message").text()};
  for (const auto& [name, metric] : at.at("metrics").entries()) change.metrics.push_back(metric_of(name, metric));
  for (const JsonCursor& item : at.at("tokens").items()) change.tokens.push_back(item.integer(0, 1'000'000'000'000));
  change.nll_difference = window_sums_of(at.at("nll_difference"), change.tokens.size());
  change.kl = window_sums_of(at.at("kl"), change.tokens.size());
  return change;
}

}  // namespace qfid::eval
