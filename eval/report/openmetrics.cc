// OpenMetrics 1.0 text (https://prometheus.io/docs/specs/om/open_metrics_spec/): one gauge family for each metric of the
// record, its interval's ends as families of their own, so that a dashboard can follow fidelity as it follows latency.
#include <cmath>
#include <format>
#include <map>
#include <set>

#include "eval/report/html.h"
#include "eval/report/report.h"

namespace qfid::eval {

namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

/// Metric names are letters, digits and underscores.
std::string family_name(const std::string& text) {
  std::string name;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    name += plain ? c : '_';
  }
  return name;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : utf8(text)) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

std::string sample(const std::string& name, const Labels& labels, const std::string& value) {
  std::string text = name + "{";
  for (std::size_t i = 0; i < labels.size(); ++i)
    text += std::format("{}{}=\"{}\"", i == 0 ? "" : ",", labels[i].first, escaped(labels[i].second));
  return text + "} " + value + "\n";
}

/// Families in the order of first use; all samples of one stay together, as the format wants.
class Exposition {
 public:
  void add(const std::string& name, const std::string& unit, const std::string& help, const Labels& labels, double value) {
    if (!std::isfinite(value)) return;
    Family& family = find(name, unit, help, "gauge");
    append(family, sample(family.name, labels, std::format("{}", value)));
  }
  void add_info(const std::string& name, const std::string& help, const Labels& labels) {
    Family& family = find(name, "", help, "info");
    append(family, sample(family.name + "_info", labels, "1"));
  }
  std::string str() const {
    std::string text;
    for (const Family& family : families_) text += family.text;
    return text + "# EOF\n";
  }

 private:
  struct Family {
    std::string key, name, text;
    std::set<std::string> samples;
  };
  Family& find(const std::string& key, const std::string& unit, const std::string& help, const char* type) {
    for (Family& family : families_)
      if (family.key == key) return family;
    const std::string suffix = unit.empty() ? "" : "_" + family_name(unit);
    std::string name = "qfid_" + family_name(key);
    if (!name.ends_with(suffix)) name += suffix;
    while (!names_.insert(name).second) name = "qfid_other_" + name.substr(5);  // "a.b" and "a_b" are two metrics
    Family family{key, name, std::format("# TYPE {} {}\n", name, type), {}};
    if (!suffix.empty()) family.text += std::format("# UNIT {} {}\n", name, family_name(unit));
    family.text += std::format("# HELP {} {}\n", name, escaped(help));
    families_.push_back(std::move(family));
    return families_.back();
  }
  static void append(Family& family, const std::string& line) {
    if (family.samples.insert(line.substr(0, line.rfind(' '))).second) family.text += line;
  }

  std::vector<Family> families_;
  std::set<std::string> names_;
};

void add_run(Exposition& text, const RunRecord& run) {
  const Labels labels{{"model", run.model}, {"target", run.target}};
  text.add("run.ok", "", "1 where the run went through", labels, run.status == RunStatus::ok ? 1 : 0);
  for (const Metric& metric : run.metrics) {
    const std::string& unit = metric.unit;
    if (metric.value) text.add(metric.name, unit, metric.name + " of docs/metrics.md", labels, *metric.value);
    if (!metric.ci) continue;
    text.add(metric.name + ".lower", unit, "lower end of the interval of " + metric.name, labels, metric.ci->low);
    text.add(metric.name + ".upper", unit, "upper end of the interval of " + metric.name, labels, metric.ci->high);
  }
  if (run.seconds > 0) text.add("forward", "seconds", "time of the forward passes, measured once", labels, run.seconds);
}

/// budget.alone{part="q"}: one family for all parts and layers, whose names are labels.
void add_budget(Exposition& text, const ErrorBudget& budget) {
  const Labels labels{{"model", budget.model}, {"target", budget.target}};
  if (budget.whole.value) text.add("budget.kl", "nats", "KL of the whole in an error budget", labels, *budget.whole.value);
  for (const BudgetGroup* group : {&budget.parts, &budget.layers})
    for (const BudgetEntry& entry : group->entries) {
      Labels part = labels;
      part.emplace_back("part", entry.name);
      if (entry.alone.value)
        text.add("budget.alone", "share", "share of the KL that a part makes alone", part, *entry.alone.value);
      if (entry.without.value)
        text.add("budget.without", "share", "share of the KL that leaving a part in f32 saves", part, *entry.without.value);
    }
}

}  // namespace

std::string openmetrics_text(const ExperimentRecord& record) {
  Exposition text;
  const Provenance& p = record.provenance;
  text.add_info("experiment", "what was run",
                {{"name", record.name},
                 {"version", p.tool_version},
                 {"commit", p.git_commit},
                 {"device", p.device},
                 {"isa", p.isa},
                 {"protocol", p.protocol},
                 {"tokens_hash", p.tokens_hash}});
  text.add("windows", "", "windows evaluated", {{"name", record.name}}, static_cast<double>(p.windows));
  for (const RunRecord& run : record.runs)
    text.add_info("target", "how a target computes",
                  {{"model", run.model},
                   {"target", run.target},
                   {"backend", run.backend},
                   {"mode", run.mode},
                   {"schemes", run.description},
                   {"status", to_string(run.status)}});
  // A family's samples stay together: they are added family by family as runs name them.
  for (const RunRecord& run : record.runs) add_run(text, run);
  for (const ErrorBudget& budget : record.budgets) add_budget(text, budget);
  for (const GateRecord& gate : record.gates) {
    const Labels labels{
        {"gate", gate.name}, {"model", gate.model}, {"target", gate.target}, {"verdict", to_string(gate.verdict)}};
    text.add("gate.blocks", "", "1 where the gate blocks", labels, gate.blocks() ? 1 : 0);
    text.add("gate.bound", "", "the bound, on the metric's own scale", labels, gate.bound);
    if (gate.statistics.effect) text.add("gate.effect", "", "what the gate looks at", labels, *gate.statistics.effect);
  }
  return text.str();
}

}  // namespace qfid::eval
