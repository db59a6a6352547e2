// Claims about kinds of models, from a record whose models say their group and training seed (models.*.group and .seed): the
// seed is the unit. Windows say how well one checkpoint is measured; another seed's checkpoint is another draw, and the
// difference between two of them is no property of the kind.
//
// Groups are compared with the reference, the first group of the configuration or the one a reader names, seed by seed:
// equal numbers mean matched training (same start, same data), so the differences are paired. Intervals of differences are
// simultaneous over the groups compared in one measure under one target (Bonferroni); over measures and targets they are
// not, and reports say so.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/experiment/record.h"
#include "eval/metrics/seed_spread.h"

namespace qfid::eval {

enum class SeedVerdict : std::uint8_t { reference, lower, higher, no_difference, inconclusive };

/// One measure of one group under one target. Of a ratio (`logarithmic`) both spreads are of natural logarithms.
struct SeedRow {
  std::string target, metric, group;
  bool logarithmic = false;
  SeedSpread level;
  std::optional<SeedSpread> difference;  ///< from the reference, over the seeds both have; none of the reference itself
  SeedVerdict verdict = SeedVerdict::reference;
};

struct SeedClaims {
  std::string reference;
  std::vector<std::string> groups;  ///< the reference first, the others in the configuration's order
  double confidence = 0.95;
  std::vector<SeedRow> rows;  ///< by target, measure, group; what isn't defined for any seed of a group is left out
};

/// Nothing where no model says its seed, or all are of one group with a single seed.
std::optional<SeedClaims> seed_claims(const ExperimentRecord& record);

/// "lower than softmax: x 0.98 (0.97 .. 0.99)", "inconclusive: needs 5 seeds or more, has 3", ... "" of the reference.
std::string in_words(const SeedRow& row, const std::string& reference);

}  // namespace qfid::eval
