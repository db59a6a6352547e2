// The reference backend: every scheme, every variant, real and emulated, as plain loops in the order of kernels/attention.h
// and kernels/linear.h. Slow and right. Integer products are exact; others accumulate in double and round to f32 once, which
// is better than the f32 accumulation the contract allows.
#pragma once

#include <memory>

#include "kernels/host/host_backend.h"

namespace qfid::kernels::reference {

class ReferenceBackend : public host::HostBackend {
 public:
  BackendInfo info() const override;
  Support available() const override { return {}; }
  Support supports(const LinearProblem& problem) const override;
  Support supports(const AttentionProblem& problem) const override;
  std::unique_ptr<PreparedLinear> prepare(const LinearProblem& problem, const LinearWeights& weights) override;
  DeviceTensor linear(PreparedLinear& prepared, const DeviceTensor& src, quant::CodeCounts* counts) override;
  std::unique_ptr<PreparedAttention> prepare(const AttentionProblem& problem, const AttentionRanges& ranges) override;
  AttentionResult attention(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* sink) override;
};

std::unique_ptr<Backend> make_reference_backend();

}  // namespace qfid::kernels::reference
