// Which heads' attention is worth keeping in the record: the baseline's strongest sinks, and where attention's local error
// is worst.
#pragma once

#include <map>

#include "eval/experiment/record.h"

namespace qfid::eval {

/// By layer and head: the first window of one run.
using AttentionSketches = std::map<std::pair<int, int>, AttentionSketch>;

/// More probabilities a window than this (layers * heads * tokens^2) aren't sketched: it would cost more than the
/// evaluation.
inline constexpr std::int64_t most_sketched = std::int64_t{1} << 28;

/// The chosen heads of one model: `runs` are its runs, the baseline first; `sketches` stand in the same order.
std::vector<AttentionHead> attention_heads(const std::vector<const RunRecord*>& runs,
                                           const std::vector<const AttentionSketches*>& sketches);

}  // namespace qfid::eval
