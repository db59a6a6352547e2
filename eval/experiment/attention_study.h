// Attention alone, on given tensors: every target's kernel against full precision and against its emulated twin. The result
// is an experiment's record (one "model", layer 0, errors "local", "format" and "kernel"), in the same results.json;
// reports, gates and comparisons, which need windows of tokens, refuse it by its protocol "attention".
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "eval/experiment/attention_tensors.h"
#include "eval/experiment/record.h"
#include "eval/experiment/spec.h"

namespace qfid::eval {

struct AttentionStudyOptions {
  std::string backend = "cpu";  ///< of the full-precision run
  int device = 0;
  bool twins = true;          ///< also run the emulated twin of each real target
  bool keep_outputs = false;  ///< fill AttentionStudy::outputs
  double sink_threshold = 0.3;
  std::int64_t probs_limit = std::int64_t{1} << 30;  ///< bytes of one batch entry's probabilities that are still looked at
};

struct AttentionStudy {
  ExperimentRecord record;
  std::map<std::string, quant::Tensor> outputs;  ///< by run: f32 [batch, heads, q_len, d_v]
};

/// A target that fails or isn't supported has its message in the record. Static ranges are those of these tensors. `stop`
/// ends it between batch entries. Error{unavailable} when the full-precision run can't be had.
AttentionStudy study_attention(const AttentionTensors& tensors, const std::vector<TargetSpec>& targets,
                               const AttentionStudyOptions& options,
                               const std::function<void(std::int64_t done, std::int64_t all)>& progress,
                               const std::atomic<bool>& stop);

}  // namespace qfid::eval
