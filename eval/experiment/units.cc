#include "eval/experiment/units.h"

#include <algorithm>
#include <format>

namespace qfid::eval {

std::vector<WindowRange> chunks_of(const std::vector<Window>& windows, std::int64_t most) {
  std::vector<WindowRange> all;
  for (std::size_t begin = 0, end = 0; begin < windows.size(); begin = end) {
    const auto alike = [&](std::size_t w) { return windows[w].input.size() == windows[begin].input.size(); };
    for (end = begin + 1; end < std::min(begin + static_cast<std::size_t>(most), windows.size()) && alike(end);) ++end;
    all.push_back({begin, end});
  }
  return all;
}

std::string chunk_unit(const std::string& model, const WindowRange& chunk) {
  return std::format("{}/windows/{}-{}", model, chunk.begin, chunk.end - 1);
}
std::string noise_unit(const std::string& model) { return model + "/noise"; }
std::string interventions_unit(const std::string& model, const std::string& target) {
  return std::format("{}/interventions/{}", model, target);
}
std::string budget_unit(const std::string& model, const std::string& target) {
  return std::format("{}/budget/{}", model, target);
}

std::vector<std::string> unit_ids(const Spec& spec, const std::string& model, const std::vector<WindowRange>& chunks) {
  std::vector<std::string> ids;
  for (const WindowRange& chunk : chunks) ids.push_back(chunk_unit(model, chunk));
  if (spec.metrics.noise_windows > 0) ids.push_back(noise_unit(model));
  if (!spec.metrics.interventions.empty()) {
    ids.push_back(interventions_unit(model, spec.baseline.name));
    for (const TargetSpec& target : spec.targets) ids.push_back(interventions_unit(model, target.name));
  }
  if (spec.metrics.budget_windows > 0)
    for (const TargetSpec& target : spec.targets) ids.push_back(budget_unit(model, target.name));
  return ids;
}

}  // namespace qfid::eval
