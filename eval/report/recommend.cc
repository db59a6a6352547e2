// The answer of `qfid recommend`: for people, and as JSON.
#include <nlohmann/json.hpp>

#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

std::string speed_text(const ExperimentRecord& record, const Candidate& c) {
  if (!c.tokens_per_second) return "not timed";
  std::string text = std::format("{:.0f} tokens/s", *c.tokens_per_second);
  if (const std::optional<double> time = time_ratio(record, *c.run))
    text += std::format(" ({:.2f}x the baseline's)", 1 / *time);
  return text;
}

std::string size_text(std::optional<double> bytes) {
  return bytes ? std::format("weights {:.2f} MiB", *bytes / 1048576) : "weights unknown";
}

const GateRecord* first_not_passing(const std::vector<GateRecord>& gates) {
  for (const GateRecord& gate : gates)
    if (gate.statistics.outcome != GateOutcome::pass) return &gate;
  return nullptr;
}

std::string verdict_text(const Candidate& c) {
  if (c.selection.empty()) return "no budget is meant for it";
  if (!c.selected) {
    const GateRecord& gate = *first_not_passing(c.selection);
    return std::string(to_string(gate.statistics.outcome)) + " on the first half: " + gate.words;
  }
  if (!c.front) return "within the budget on the first half; another one is as fast and as small, or better";
  if (c.confirmed) return "within the budget on the first half, confirmed on the second: " + c.confirmation.front().words;
  const GateRecord& gate = *first_not_passing(c.confirmation);
  return "within the budget on the first half, not confirmed on the second: " + gate.words;
}

std::string answer(const Recommendation& r) {
  if (r.choice) return r.candidates[*r.choice].run->target;
  const bool any = std::any_of(r.candidates.begin(), r.candidates.end(), [](const Candidate& c) { return c.selected; });
  return any ? "none yet: what looked good on the first half isn't confirmed on the second; take more windows"
             : "none: no target is shown to be within the budget; keep the baseline, or keep what hurts in higher precision "
               "(a run with metrics.budget_windows lets this command propose what)";
}

nlohmann::json gates_json(const std::vector<GateRecord>& gates) {
  nlohmann::json list = nlohmann::json::array();
  for (const GateRecord& g : gates)
    list.push_back({{"name", g.name},
                    {"metric", g.metric},
                    {"confidence", g.confidence},
                    {"outcome", std::string(to_string(g.statistics.outcome))},
                    {"words", g.words}});
  return list;
}

}  // namespace

std::string console_recommendation(const ExperimentRecord& record, const std::vector<Recommendation>& all, int width_in) {
  const auto width = static_cast<std::size_t>(std::max(width_in, 72));
  std::string text;
  for (const Recommendation& r : all) {
    add_wrapped(text, "Model " + r.model + ": " + answer(r), width);
    add_wrapped(text,
                std::format("  selected on the first {} windows, confirmed on the other {}", r.selection_windows,
                            r.confirmation_windows),
                width);
    for (const Candidate& c : r.candidates) {
      const bool chosen = r.choice && &c == &r.candidates[*r.choice];
      add_wrapped(text,
                  std::format("{} {:<16} {}, {}", chosen ? "=>" : "  ", c.run->target, speed_text(record, c),
                              size_text(c.weight_bytes)),
                  width);
      add_wrapped(text, "    " + verdict_text(c), width);
    }
    text += "\n";
  }
  return text;
}

std::string recommendation_json(const std::vector<Recommendation>& all) {
  nlohmann::ordered_json models = nlohmann::ordered_json::array();
  for (const Recommendation& r : all) {
    nlohmann::ordered_json candidates = nlohmann::ordered_json::array();
    for (const Candidate& c : r.candidates) {
      nlohmann::ordered_json one{{"target", c.run->target},
                                 {"tokens_per_second", nullptr},
                                 {"weight_bytes", nullptr},
                                 {"selected", c.selected},
                                 {"pareto_front", c.front},
                                 {"confirmed", c.confirmed},
                                 {"selection", gates_json(c.selection)},
                                 {"confirmation", gates_json(c.confirmation)}};
      if (c.tokens_per_second) one["tokens_per_second"] = *c.tokens_per_second;
      if (c.weight_bytes) one["weight_bytes"] = *c.weight_bytes;
      candidates.push_back(std::move(one));
    }
    nlohmann::ordered_json model{{"model", r.model},
                                 {"choice", nullptr},
                                 {"selection_windows", r.selection_windows},
                                 {"confirmation_windows", r.confirmation_windows},
                                 {"candidates", std::move(candidates)}};
    if (r.choice) model["choice"] = r.candidates[*r.choice].run->target;
    models.push_back(std::move(model));
  }
  return nlohmann::ordered_json{{"recommendations", std::move(models)}}.dump(2, ' ', false,
                                                                             nlohmann::json::error_handler_t::replace) +
         "\n";
}

}  // namespace qfid::eval
