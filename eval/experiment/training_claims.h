// What became of models over their training, from a record whose models say group, seed and step (models.*.step): curves of
// measures over steps, and what Guo et al. (2024, arXiv 2410.13835) find on bigram-backcopy held to named bounds. A training
// is one draw: two of them with one seed each say nothing about their kinds (seed_claims.h).
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/experiment/record.h"

namespace qfid::eval {

/// The checkpoints of one training, in the order of their steps.
struct Training {
  std::string group;
  std::int64_t seed = 0;
  std::vector<const ModelRecord*> checkpoints;
};
/// Models with a step, by group and seed in the record's order. The record must outlive it.
std::vector<Training> trainings(const ExperimentRecord& record);

/// Of metric `name` of a training's runs under a target: step and value; what isn't defined or finite is left out.
std::vector<std::pair<std::int64_t, double>> over_steps(const ExperimentRecord& record, const Training& training,
                                                        const std::string& target, const std::string& name);

/// What is expected of the last checkpoint.
struct TrainingBound {
  const char* metric;
  const char* words;    ///< in a sentence
  const char* heading;  ///< of a column
  bool below;           ///< the value lies below the bound; else above
  double bound;
};
/// Both excess risks, attention to <s>, its value before and after a gate.
const std::vector<TrainingBound>& training_bounds();

enum class TrainingVerdict : std::uint8_t { reproduced, not_reproduced, undecided, unknown };

/// One training under one target against one bound.
struct TrainingClaim {
  const TrainingBound* bound = nullptr;
  std::optional<double> value;  ///< of the last checkpoint
  /// By its interval where it has one: undecided when that holds the bound. Unknown: no such number.
  TrainingVerdict verdict = TrainingVerdict::unknown;
  std::optional<std::int64_t> since;  ///< the first step from which every checkpoint keeps the bound
};
std::vector<TrainingClaim> training_claims(const ExperimentRecord& record, const Training& training,
                                           const std::string& target);

/// The record without checkpoints on the way: of each training the last one alone. What other parts of reports show.
ExperimentRecord without_earlier_checkpoints(const ExperimentRecord& record);
bool has_trainings(const ExperimentRecord& record);

}  // namespace qfid::eval
