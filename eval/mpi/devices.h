// One GPU a rank.
#pragma once

#include "eval/experiment/spec.h"

namespace qfid::eval {

/// Targets on backend gpu whose configuration names no device go to number `local_rank` modulo those that the node shows
/// (CUDA_VISIBLE_DEVICES counts). `local_size`: ranks of the node.
void choose_devices(Spec& spec, int local_rank, int local_size);

}  // namespace qfid::eval
