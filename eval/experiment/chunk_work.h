// Computes one chunk of windows on all arms of a model, but for what another run has measured already.
#pragma once

#include <string>
#include <vector>

#include "eval/experiment/arm.h"
#include "eval/experiment/known_parts.h"
#include "eval/experiment/lockstep.h"
#include "eval/experiment/unit_store.h"

namespace qfid::eval {

/// Where a chunk's results go, and where parts of them may come from.
struct ChunkPlace {
  const std::string& unit;
  ModelUnits& units;
  KnownParts& parts;
};

/// What goes wrong is recorded in the arms. False when the unit can't be kept: the run is to end.
bool compute_chunk(const std::vector<Window>& windows, const WindowRange& chunk, Lockstep& lockstep, const ChunkPlace& place,
                   Arm& baseline, std::vector<Arm>& arms);

}  // namespace qfid::eval
