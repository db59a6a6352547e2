// Results of the same data side by side: paired differences with intervals, from records or from any engine's tokens.
#pragma once

#include <string>
#include <vector>

#include "eval/data/token_csv.h"
#include "eval/experiment/record.h"

namespace qfid::eval {

/// One metric of one run in two results. b relative to a: a ratio for perplexity, a difference for everything else.
struct ComparedRow {
  std::string model, target, a, b, metric;
  double value_a = 0, value_b = 0;
  Metric change;  ///< name "ratio" or "difference"; no interval below 16 windows; limits of MeanTest (docs/gates.md)
};

struct NamedRecord {
  std::string name;  ///< the file's, for messages
  ExperimentRecord record;
};
/// Every later result against the first, runs of equal names. Error{usage} that says what differs unless all are of the same
/// data, or when they have no complete run in common.
std::vector<ComparedRow> compare_records(const std::vector<NamedRecord>& records, double confidence);

struct NamedTokens {
  std::string name;
  TokenSums sums;
};
/// As above; windows and tokens in each must be the same. KL only where both have it.
std::vector<ComparedRow> compare_tokens(const std::vector<NamedTokens>& files, double confidence);

}  // namespace qfid::eval
