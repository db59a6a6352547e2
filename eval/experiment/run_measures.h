// From what an arm gathered to the numbers of its run.
#pragma once

#include <vector>

#include "eval/data/corpus.h"
#include "eval/experiment/arm.h"
#include "eval/experiment/record.h"

namespace qfid::eval {

struct MeasuredData {
  Protocol protocol;
  const Corpus& corpus;
  const std::vector<BackcopyWindow>& task;  ///< of every window, where the data is bigram-backcopy
  const RunRecord* baseline;                ///< null: the run is the baseline
};

/// Metrics, layers, window sums, tokens and hashes of a run whose arm lives and saw windows; otherwise nothing. `sinks`:
/// which heads are sinks in the baseline, [layer * heads].
void add_measures(RunRecord& run, Arm& arm, const std::vector<bool>& sinks, const MeasuredData& data);

/// Every two targets of a model on the same windows.
std::vector<PairRecord> target_pairs(const std::vector<RunRecord>& runs, double confidence);

}  // namespace qfid::eval
