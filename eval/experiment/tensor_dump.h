// `qfid run --dump DIR`: logits and taps as .npy files, for whoever wants to look further or to check every number. One file
// for each tensor, DIR/MODEL/TARGET/NAME.npy (docs/results-format.md), which grows by a chunk of windows at a time and can
// be read at any moment. Left out: weights (they are in the checkpoint) and codes of Q, K and V.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "eval/experiment/spec.h"
#include "eval/model/decoder_weights.h"
#include "quant/core/tensor.h"

namespace qfid::eval {

class TensorDump {
 public:
  explicit TensorDump(std::filesystem::path directory) : directory_(std::move(directory)) {}

  /// Appends along the first axis; equal names have equal other axes. What an earlier run left under the name is replaced.
  /// Error{input} with the path when it can't be written.
  void add(const std::string& model, const std::string& target, const std::string& name, const quant::Tensor& windows);

 private:
  std::filesystem::path directory_;
  std::map<std::filesystem::path, std::int64_t> rows_;  ///< written so far
};

/// Bytes that a dump of one model under `target` takes.
std::int64_t dump_bytes(const ModelConfig& config, const MetricsSpec& metrics, const TargetSpec& target,
                        std::int64_t windows, std::int64_t context);

/// Error{usage} where `bytes` is above the limit of the dump, Error{input} where the disk lacks the space.
void require_dump_fits(const DumpSpec& dump, std::int64_t bytes);

}  // namespace qfid::eval
