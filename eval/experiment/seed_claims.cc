#include "eval/experiment/seed_claims.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <map>

namespace qfid::eval {

namespace {

struct Measure {
  const char* name;  ///< or its beginning, where the name carries parameters
  bool logarithmic, of_baseline, of_targets;
};
constexpr Measure measures[] = {{"perplexity", true, true, false},
                                {"perplexity.ratio", true, false, true},
                                {"kl.mean", true, false, true},
                                {"residual.inf_norm.max", false, true, true},
                                {"inf_norm.outlier_free", false, true, false},
                                {"kurtosis.outlier_free", false, true, false},
                                {"sink_rate.q64.", false, true, false},
                                {"attention.delta_logit", false, true, false},
                                {"drain.v", false, true, false},
                                {"drain.v_gated", false, true, false}};

/// Checkpoints on the way of a training are one draw between them, and at no common end: left out.
bool is_drawn(const ModelRecord& model) { return model.seed && !model.step; }

using BySeed = std::map<std::int64_t, double>;

const Metric* find_measure(const RunRecord& run, const std::string& name) {
  for (const Metric& metric : run.metrics)
    if (name.ends_with('.') ? metric.name.starts_with(name) : metric.name == name) return &metric;
  return nullptr;
}

std::vector<double> values_of(const BySeed& by_seed) {
  std::vector<double> values;
  for (const auto& [seed, value] : by_seed) values.push_back(value);
  return values;
}

class Claims {
 public:
  explicit Claims(const ExperimentRecord& record) : record_(record) {
    claims_.confidence = record.confidence;
    for (const ModelRecord& model : record.models)
      if (is_drawn(model) && std::find(claims_.groups.begin(), claims_.groups.end(), model.group) == claims_.groups.end())
        claims_.groups.push_back(model.group);
    if (const auto chosen = std::find(claims_.groups.begin(), claims_.groups.end(), record.reference_group);
        chosen != claims_.groups.end())
      std::rotate(claims_.groups.begin(), chosen, chosen + 1);
    if (!claims_.groups.empty()) claims_.reference = claims_.groups[0];
  }

  std::optional<SeedClaims> all() {
    const auto seeded = std::count_if(record_.models.begin(), record_.models.end(), is_drawn);
    if (seeded < 2) return std::nullopt;
    std::vector<std::string> targets;
    for (const RunRecord& run : record_.runs)
      if (std::find(targets.begin(), targets.end(), run.target) == targets.end()) targets.push_back(run.target);
    for (const std::string& target : targets)
      for (const Measure& measure : measures)
        if (target == "baseline" ? measure.of_baseline : measure.of_targets) add(target, measure);
    return std::move(claims_);
  }

 private:
  BySeed collect(const std::string& target, const Measure& measure, const std::string& group, std::string& name) const {
    BySeed values;
    for (const ModelRecord& model : record_.models) {
      if (!is_drawn(model) || model.group != group) continue;
      const RunRecord* run = record_.find(model.name, target);
      const Metric* metric = run == nullptr || run->status != RunStatus::ok ? nullptr : find_measure(*run, measure.name);
      if (metric == nullptr || !metric->value || !std::isfinite(*metric->value)) continue;
      name = metric->name;
      if (measure.logarithmic && !(*metric->value > 0)) continue;
      values[*model.seed] = measure.logarithmic ? std::log(*metric->value) : *metric->value;
    }
    return values;
  }

  void add(const std::string& target, const Measure& measure) {
    std::string name = measure.name;
    std::vector<BySeed> groups;
    for (const std::string& group : claims_.groups) groups.push_back(collect(target, measure, group, name));
    const auto compared = static_cast<double>(std::max<std::size_t>(groups.size() - 1, 1));
    const double simultaneous = 1 - (1 - claims_.confidence) / compared;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (groups[g].empty()) continue;
      SeedRow row{
          target, name, claims_.groups[g], measure.logarithmic, seed_spread(values_of(groups[g]), claims_.confidence),
          {},     {}};
      if (g > 0) compare(row, groups[g], groups[0], simultaneous);
      claims_.rows.push_back(std::move(row));
    }
  }

  static void compare(SeedRow& row, const BySeed& group, const BySeed& reference, double confidence) {
    std::vector<double> differences;
    for (const auto& [seed, value] : group)
      if (const auto it = reference.find(seed); it != reference.end()) differences.push_back(value - it->second);
    row.verdict = SeedVerdict::inconclusive;
    if (differences.empty()) return;
    row.difference = seed_spread(differences, confidence);
    if (const auto& interval = row.difference->interval)
      row.verdict = interval->high < 0  ? SeedVerdict::lower
                    : interval->low > 0 ? SeedVerdict::higher
                                        : SeedVerdict::no_difference;
  }

  const ExperimentRecord& record_;
  SeedClaims claims_;
};

}  // namespace

std::optional<SeedClaims> seed_claims(const ExperimentRecord& record) { return Claims(record).all(); }

std::string in_words(const SeedRow& row, const std::string& reference) {
  if (row.verdict == SeedVerdict::reference) return "";
  if (row.verdict == SeedVerdict::inconclusive)
    return std::format("inconclusive: needs {} seeds or more in common with {}, has {}", min_seeds_for_interval, reference,
                       row.difference ? row.difference->seeds : 0);
  const Interval& i = *row.difference->interval;
  const std::string range = row.logarithmic
                                ? std::format("\xC3\x97 {:.4g} ({:.4g} .. {:.4g})", std::exp(row.difference->mean),
                                              std::exp(i.low), std::exp(i.high))
                                : std::format("{:+.4g} ({:+.4g} .. {:+.4g})", row.difference->mean, i.low, i.high);
  const char* what = row.verdict == SeedVerdict::lower    ? "lower than "
                     : row.verdict == SeedVerdict::higher ? "higher than "
                                                          : "not told apart from ";
  return what + reference + ": " + range;
}

}  // namespace qfid::eval
