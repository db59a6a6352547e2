#include "eval/experiment/attention_heads.h"

#include <algorithm>
#include <cmath>

namespace qfid::eval {

namespace {

constexpr std::size_t sinks_kept = 2, errors_kept = 2;

struct Candidate {
  int layer, head;
  double badness;
  std::string why;
};

/// Where attention's output and probabilities are kept by head.
std::optional<double> value_of(const LayerRow& row, const std::string& name) {
  for (const auto& [key, value] : row.values)
    if (key == name && value && std::isfinite(*value)) return value;
  return std::nullopt;
}

void keep_worst(std::vector<Candidate>& all, std::size_t most) {
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.badness > b.badness; });
  std::vector<Candidate> kept;
  for (const Candidate& candidate : all) {
    const bool seen = std::any_of(kept.begin(), kept.end(), [&](const Candidate& k) {
      return k.layer == candidate.layer && k.head == candidate.head;
    });
    if (!seen && kept.size() < most) kept.push_back(candidate);
  }
  all = std::move(kept);
}

std::vector<Candidate> strongest_sinks(const RunRecord& baseline) {
  std::vector<Candidate> all;
  for (const LayerRow& row : baseline.layers) {
    if (row.tap != "attention_to_first") continue;
    std::optional<double> alpha = value_of(row, "alpha0.q64");
    if (!alpha) alpha = value_of(row, "alpha0.T64");
    if (alpha) all.push_back({row.layer, row.head, *alpha, "among the baseline's strongest sinks"});
  }
  keep_worst(all, sinks_kept);
  return all;
}

std::vector<Candidate> worst_errors(const std::vector<const RunRecord*>& runs) {
  std::vector<Candidate> all;
  for (const RunRecord* run : runs)
    for (const LayerRow& row : run->layers)
      if (row.tap == "output" && row.error == "local" && row.head >= 0)
        if (const auto nmse = value_of(row, "nmse"))
          all.push_back({row.layer, row.head, *nmse, "among the worst local errors of attention (" + run->target + ")"});
  keep_worst(all, errors_kept);
  return all;
}

}  // namespace

std::vector<AttentionHead> attention_heads(const std::vector<const RunRecord*>& runs,
                                           const std::vector<const AttentionSketches*>& sketches) {
  if (runs.empty()) return {};
  std::vector<Candidate> chosen = strongest_sinks(*runs[0]);
  for (const Candidate& candidate : worst_errors(runs)) {
    const auto same = std::find_if(chosen.begin(), chosen.end(), [&](const Candidate& c) {
      return c.layer == candidate.layer && c.head == candidate.head;
    });
    if (same == chosen.end())
      chosen.push_back(candidate);
    else
      same->why += ", " + candidate.why;
  }
  std::vector<AttentionHead> heads;
  for (const Candidate& candidate : chosen) {
    AttentionHead head{runs[0]->model, candidate.layer, candidate.head, candidate.why, 1, {}};
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const auto found = sketches[i]->find({candidate.layer, candidate.head});
      if (found == sketches[i]->end() || runs[i]->metrics.empty()) continue;
      head.block = found->second.block;
      head.maps.emplace_back(runs[i]->target, found->second.rows);
    }
    if (!head.maps.empty()) heads.push_back(std::move(head));
  }
  return heads;
}

}  // namespace qfid::eval
