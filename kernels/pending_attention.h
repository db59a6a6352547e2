// What an attention call gives, its counts asked for later: asking waits for the device then, and nobody who doesn't ask
// waits.
#pragma once

#include <functional>
#include <memory>

#include "kernels/attention.h"
#include "kernels/pending_counts.h"

namespace qfid::kernels {

class PendingAttention {
 public:
  PendingAttention() = default;  ///< of no call: undefined output, nothing counted
  explicit PendingAttention(AttentionResult known);
  /// `ask` gives all of a result but its output; it is called once, or until it doesn't throw.
  PendingAttention(DeviceTensor output, std::function<AttentionResult()> ask);

  const DeviceTensor& output() const { return output_; }
  /// [B * q_heads]. This and the next: the same whenever they are asked; errors as Backend::download.
  const std::vector<ProbCounts>& probs() const;
  /// Of the casts of an operand: &AttentionResult::q, ...
  PendingCounts counts(quant::CodeCounts AttentionResult::* operand) const;
  /// The output and the counts.
  AttentionResult result() const;

 private:
  class Counts;
  DeviceTensor output_;
  std::shared_ptr<Counts> counts_;
};

}  // namespace qfid::kernels
