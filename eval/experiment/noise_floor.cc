#include "eval/experiment/noise_floor.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <set>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

/// The metric of an unchanged run, on the scale on which gates work.
double neutral(const GateMetric& metric) { return metric.name == "top1.agreement" ? 1 : 0; }

/// Noise that helps and noise that hurts cancel in the mean: more windows bring it nearer to no change.
bool has_sign(const GateMetric& metric) { return metric.sums == "nll.difference"; }

double distance_of(const Metric& found, const GateMetric& metric) {
  const auto distance = [&](double value) {
    return std::fabs((metric.exponential ? std::log(value) : value) - neutral(metric));
  };
  return found.ci ? std::max(distance(found.ci->low), distance(found.ci->high)) : distance(*found.value);
}

}  // namespace

std::optional<NoiseFloor> noise_floor(const ExperimentRecord& record, const std::string& model, const GateMetric& metric) {
  std::optional<NoiseFloor> floor;
  for (const ScoredChange& noise : record.noise) {
    if (noise.model != model) continue;
    for (const Metric& found : noise.metrics) {
      if (found.name != metric.name || !found.value) continue;
      const double distance = distance_of(found, metric);
      if (floor && distance <= floor->distance) continue;
      const double shown = metric.exponential                ? std::exp(distance)
                           : metric.name == "top1.agreement" ? 1 - distance
                                                             : distance;
      floor = NoiseFloor{distance, shown, noise.name};
    }
  }
  return floor;
}

bool within_noise(const GateSpec& gate, const NoiseFloor& floor) {
  if (!gate.exact.empty() || !gate.relative_target.empty() || !gate.relative_written.empty()) return false;
  const GateMetric& metric = gate_metric(gate.metric);
  return std::fabs((metric.exponential ? std::log(gate.bound) : gate.bound) - neutral(metric)) < floor.distance;
}

void require_above_noise(const ExperimentRecord& record, const std::vector<GateSpec>& gates) {
  std::string problems;
  std::set<std::string> seen;
  for (const GateSpec& gate : gates)
    for (const RunRecord& run : record.runs) {
      if (!gate.exact.empty() || !concerns(gate, run.model, run.target) || !seen.insert(gate.name + "/" + run.model).second)
        continue;
      const std::optional<NoiseFloor> floor = noise_floor(record, run.model, gate_metric(gate.metric));
      if (!floor || !within_noise(gate, *floor)) continue;
      problems += std::format(
          "{}gate \"{}\": {} {:.6g} of {} lies within the noise floor of model {}: {} alone reaches {:.6g} in full "
          "precision; "
          "take a bound beyond it{}",
          problems.empty() ? "" : "\n", gate.name, gate.upper ? "max" : "min", gate.bound, gate.metric, run.model,
          floor->source, floor->shown,
          has_sign(gate_metric(gate.metric)) ? ", or more metrics.noise_windows, which narrow it" : "");
    }
  if (!problems.empty()) throw quant::Error(quant::ErrorKind::usage, problems);
}

}  // namespace qfid::eval
