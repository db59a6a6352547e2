#include "eval/experiment/gate_reader.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>

#include "eval/experiment/gates.h"

namespace qfid::eval {

namespace {

double real(const YamlNode& node) {
  double value = 0;
  std::from_chars(node.text.data(), node.text.data() + node.text.size(), value);
  return value;
}

void read_bound(const YamlNode& body, GateSpec& gate, Problems& problems) {
  const YamlNode *max = body.find("max"), *min = body.find("min");
  if ((max == nullptr) == (min == nullptr))
    return problems.add(body, "gate \"" + gate.name + "\" has " + (max == nullptr ? "no bound" : "max and min") +
                                  ", expected one of max, min (two gates make a range)");
  const YamlNode& bound = max != nullptr ? *max : *min;
  gate.bound = real(bound);
  gate.upper = max != nullptr;
  const bool relative = body.find("relative_to") != nullptr;
  if (gate.metric.ends_with("perplexity.ratio") && gate.bound <= 0)
    problems.add(bound, "a perplexity ratio is above 0, found " + bound.text);
  if (gate.metric.starts_with("top1.") && !relative && (gate.bound < 0 || gate.bound > 1))
    problems.add(bound, gate.metric + " is a share, expected 0..1, found " + bound.text);
  if ((gate.metric.starts_with("kl") || gate.metric.starts_with("hidden.")) && !relative && gate.bound < 0)
    problems.add(bound, gate.metric + " is never below 0, found " + bound.text);
}

/// What an exact gate can't have, and what it must.
void read_exact(const YamlNode& body, GateSpec& gate, Problems& problems) {
  gate.exact = body.find("exact")->text;
  gate.metric = "exact." + gate.exact;
  for (const char* key : {"metric", "max", "min", "confidence"})
    if (const YamlNode* node = body.find(key))
      problems.add(*node, "gate \"" + gate.name + "\" is exact and has no " + key + ": nothing may change");
  const YamlNode* relative = body.find("relative_to");
  if (relative == nullptr || relative->find("file") == nullptr)
    problems.add(body, "gate \"" + gate.name + "\" is exact, expected relative_to: {file: ...}, a saved baseline");
}

void read_relative(const YamlNode& node, const std::filesystem::path& directory, GateSpec& gate, Problems& problems) {
  const YamlNode *target = node.find("target"), *file = node.find("file");
  if ((target == nullptr) == (file == nullptr))
    return problems.add(node, "relative_to of gate \"" + gate.name + "\", expected one of target, file");
  if (target != nullptr) {
    gate.relative_target = target->text;
    if (target->text == "baseline")
      problems.add(*target, "every metric is already relative to the full-precision baseline; expected another target");
    return;
  }
  gate.relative_written = file->text;
  const std::filesystem::path path(file->text);
  gate.relative_file = (path.is_absolute() ? path : directory / path).lexically_normal();
}

void limit_stars(const YamlNode& node, Problems& problems) {
  if (std::count(node.text.begin(), node.text.end(), '*') > 4) problems.add(node, "pattern has more than 4 '*'");
}

}  // namespace

bool is_date(const std::string& text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
  int year = 0;
  unsigned month = 0, day = 0;
  const auto number = [&](std::size_t from, std::size_t to, auto& value) {
    const auto [end, error] = std::from_chars(text.data() + from, text.data() + to, value);
    return error == std::errc() && end == text.data() + to && value > 0;
  };
  if (!number(0, 4, year) || !number(5, 7, month) || !number(8, 10, day)) return false;
  return std::chrono::year_month_day(std::chrono::year(year), std::chrono::month(month), std::chrono::day(day)).ok();
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", &parts);
  return text;
}

std::vector<GateSpec> gates_from(const YamlNode& gates, const std::filesystem::path& directory, Problems& problems) {
  std::vector<GateSpec> all;
  for (const auto& [name, body] : gates.entries) {
    GateSpec gate;
    gate.name = name.text;
    if (body.find("exact") != nullptr) {
      read_exact(body, gate, problems);
    } else if (const YamlNode* metric = body.find("metric")) {
      gate.metric = metric->text;
      read_bound(body, gate, problems);
    } else {
      problems.add(body, "missing key \"metric\" in gate \"" + gate.name + "\", expected one of metric, exact");
    }
    for (auto [key, field] : {std::pair{"models", &gate.models}, std::pair{"targets", &gate.targets}})
      if (const YamlNode* node = body.find(key)) {
        *field = node->text;
        limit_stars(*node, problems);
      }
    if (const YamlNode* node = body.find("relative_to")) read_relative(*node, directory, gate, problems);
    if (const YamlNode* node = body.find("confidence")) gate.confidence = real(*node);
    if (const YamlNode* node = body.find("on_inconclusive")) gate.warn_when_inconclusive = node->text == "warn";
    if (const YamlNode* node = body.find("expected_failure")) {
      const YamlNode& expires = *node->find("expires");
      gate.expected_failure = ExpectedFailure{node->find("reason")->text, expires.text};
      if (!is_date(expires.text)) problems.add(expires, "expires is \"" + expires.text + "\", expected a day, YYYY-MM-DD");
    }
    all.push_back(std::move(gate));
  }
  return all;
}

void check_measurable(const GateSpec& gate, const Spec& spec, const YamlNode& node, Problems& problems) {
  if (!gate.exact.empty() && spec.metrics.local_windows == 0)
    problems.add(node, "gate \"" + gate.name + "\" is exact, which needs metrics.local_windows");
  const bool hidden = spec.data.protocol == Protocol::hidden;
  if (gate.exact == "logits" && hidden)
    problems.add(node, "gate \"" + gate.name + "\": protocol hidden makes no logits, expected exact: taps");
  if (gate.exact.empty() && of_hidden_states(gate_metric(gate.metric)) != hidden)
    problems.add(node,
                 "gate \"" + gate.name + "\": " + gate.metric +
                     (hidden ? " is of scored tokens, protocol hidden has hidden.nmse.mean, hidden.cosine_distance.mean, "
                               "hidden.pooled.cosine_distance.mean"
                             : " is of hidden states, expected data.protocol: hidden"));
  if (gate.exact.empty() && by_documents(gate_metric(gate.metric)) && !hidden && spec.data.protocol != Protocol::lmeval)
    problems.add(node, "gate \"" + gate.name + "\": " + gate.metric +
                           " counts words and bytes of documents, expected data.protocol: lmeval");
}

}  // namespace qfid::eval
