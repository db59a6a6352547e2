// When no target is within its budget: which layers or operands to keep in higher precision, from the error budgets of the
// run, as a configuration ready to run. What is proposed was chosen by looking, so the configuration evaluates windows that
// the run never saw, or, where the text ends, those on which nothing was chosen: behind the error budgets' and behind the
// run's first half, which said how much must go. `qfid recommend` on its results selects on one half of them and confirms on
// the other.
//
// Parts are kept in bf16, largest share first (shares quantized alone, scaled to add up), until what remains is below 0.8 of
// what the budget leaves; q with k and p with v, since integer operands run in pairs. Left out: single operands of single
// layers, and formats between the target's and bf16.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "eval/experiment/recommend.h"

namespace qfid::eval {

struct ProposedTarget {
  std::string name, base;
  std::vector<std::string> kept;  ///< "layers.2", "k_proj", "q and k"
  double remains = 1;             ///< share of the base's KL that is expected to remain
  double allowed = 1;             ///< share that the budget allows, as seen on the selection's half
};

struct Proposal {
  std::string model;
  std::string yaml;     ///< empty: nothing to propose
  std::string why_not;  ///< then the reason
  std::vector<ProposedTarget> targets;
  std::int64_t first_token = 0, windows = 0;
  bool measured = false;  ///< the run measured its targets on these windows too, though nothing was chosen on them
};

/// Fewer leave a half too small for an interval.
inline constexpr std::int64_t enough_windows = 32;

/// Of a recommendation without a choice. `file` is where the text will stand: its paths are relative to it. Reads the text
/// and the model's config.json. Error{usage} with all that is wrong with the configuration in the results, which may come
/// from anywhere; {usage}/{input} as those readers.
Proposal propose(const ExperimentRecord& record, const Recommendation& recommendation, const std::vector<GateSpec>& budget,
                 const std::filesystem::path& file);

/// Share of the KL that a gate leaves room for, given what it saw: KL and NLL differences grow with it, flips with its root.
double allowed_share(const GateRecord& gate);

}  // namespace qfid::eval
