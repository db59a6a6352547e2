// The reductions of kernels/reductions.h over host memory, shared by every backend whose tensors lie there. Parallel only
// across independent outputs; each output is formed by one thread in one order.
#pragma once

#include <array>

#include "kernels/reductions.h"

namespace qfid::kernels::host {

class HostReductions : public Reductions {
 public:
  std::vector<TokenComparison> compare_logits(const DeviceTensor& base, const DeviceTensor& test,
                                              const DeviceTensor& targets) override;
  std::vector<quant::DistortionStats> distortion(const DeviceTensor& x, const DeviceTensor& y) override;
  std::vector<std::vector<quant::DistortionStats>> distortion_of(std::span<const Pair> pairs) override;
  /// Probabilities below the smallest normal f32 count as that (KL would be infinite where E underflowed).
  std::vector<RowDivergence> row_divergence(const DeviceTensor& base, const DeviceTensor& test, bool sink) override;
  DeviceTensor coded_weights(const DeviceTensor& probs, const DeviceTensor& codes, const ProbScheme& scheme,
                             bool sink) override;
  std::vector<CodedDivergence> coded_divergence(const DeviceTensor& base, const DeviceTensor& test,
                                                const DeviceTensor& weights, bool sink) override;
  std::vector<std::int64_t> code_histogram(const DeviceTensor& codes, bool causal) override;
  std::vector<OutputSplit> output_split(const DeviceTensor& base, const DeviceTensor& weights, const DeviceTensor& v,
                                        const DeviceTensor& coded_v) override;
  std::vector<Magnitudes> magnitudes(const DeviceTensor& x) override;
  std::vector<OutlierSplit> outlier_split(const DeviceTensor& x, const DeviceTensor& y) override;
  std::vector<RowStats> row_stats(const DeviceTensor& x) override;
  std::vector<std::vector<RowStats>> row_stats_of(std::span<const DeviceTensor> tensors) override;
  std::vector<AttentionSummary> attention_summary(const DeviceTensor& probs, bool causal) override;
  std::vector<double> norms(const DeviceTensor& x) override;
  std::vector<double> projected_norms(const DeviceTensor& x, const DeviceTensor& factors) override;
  std::vector<double> mean_attention_to(const DeviceTensor& probs, std::int64_t key, std::int64_t q0,
                                        std::int64_t t_max) override;

  /// What comparing a row of logits needs of it; sum = sum exp(x - top), lse = ln sum exp x.
  struct LogitRow {
    float top, margin;
    std::int32_t index;
    std::array<std::int32_t, 5> leaders;  ///< the five largest, ties by the lowest index; -1 where there are fewer
    double sum, lse;
  };

 private:
  /// The last base logits and their rows: every target of a window is compared with the same ones. Holding the tensor keeps
  /// its memory from reuse.
  DeviceTensor base_;
  std::vector<LogitRow> base_rows_;
};

}  // namespace qfid::kernels::host
