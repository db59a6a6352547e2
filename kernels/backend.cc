#include "kernels/backend.h"

namespace qfid::kernels {

LinearResult Backend::linear_then(PreparedLinear& prepared, const DeviceTensor& src, const LinearTail& tail) {
  quant::CodeCounts counts;
  LinearResult result;
  result.y = linear(prepared, src, &counts);
  if (tail.activation) result.y = activation(result.y, *tail.activation);
  if (tail.residual.defined()) result.sum = add(tail.residual, result.y);
  result.counts = PendingCounts(counts);
  return result;
}

PendingAttention Backend::attention_later(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* taps) {
  return PendingAttention(attention(prepared, inputs, taps));
}

}  // namespace qfid::kernels
