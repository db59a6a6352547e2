// Whether a run can fit into the memory of the devices it asks for: known before anything runs. The estimate is of what a
// run surely holds at one time, so that nothing is refused that would have gone through.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/experiment/session.h"
#include "eval/model/decoder_weights.h"
#include "eval/model/precision.h"

namespace qfid::eval {

/// Windows that go through a layer together.
struct ChunkShape {
  std::int64_t windows = 0, tokens = 0;  ///< and tokens of a window
};

/// Least bytes of one model's arms on one device: embeddings once, linears once for each module and its schemes, a hidden
/// state for each arm, and, f32, what one layer of one arm leaves of a chunk.
std::int64_t least_device_bytes(const ModelConfig& config, const std::vector<DecoderPrecision>& arms,
                                const ChunkShape& chunk);

/// Why so many bytes can't be had, naming both numbers; empty where they can, or where nobody knows what is free.
std::string memory_reason(const std::string& device, std::int64_t least, std::optional<std::int64_t> free);
/// The same of a model's arms on each of their devices, those that run there; targets that may be skipped don't count.
std::string memory_reason(const Spec& spec, const ModelSpec& model, const CheckedModel& checked, Backends& backends);

}  // namespace qfid::eval
