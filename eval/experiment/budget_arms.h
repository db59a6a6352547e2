// The arms of an error budget (eval/metrics/error_budget.h): one part of a target quantized alone, and all but that part, in
// mode emulated, where single quantized operands can run. Arms only score; no tensor of theirs is measured. An arm starts
// where it first differs from both the full-precision and the whole run, from the nearer one's hidden state, so a layer's
// two arms cost about one forward pass together.
//
// Left out: weights apart from activations of a linear, and parts of single layers.
#pragma once

#include "eval/experiment/lockstep.h"
#include "eval/metrics/error_budget.h"

namespace qfid::eval {

struct BudgetPart {
  std::string name;
  DecoderPrecision alone, without;
};
struct BudgetParts {
  std::vector<BudgetPart> parts, layers;
};
/// The parts that `whole` quantizes, in the order of the data flow; layers end with "head_dense" and "lm_head" where
/// these are quantized.
BudgetParts budget_parts(const DecoderPrecision& whole, bool has_gate);

/// Forward passes a window of it takes, about: what a plan adds.
double budget_forwards(const DecoderPrecision& whole, bool has_gate);

class BudgetArms {
 public:
  /// Packs what the arms need; what they need is freed with them. Error{unavailable} when `backend` can't run a part.
  BudgetArms(kernels::Backend& backend, const DecoderWeights& weights, DecoderPrecision whole, SiteRanges ranges);

  /// Scores one window: chunk.inputs [1, T]. Error{input} when logits aren't finite.
  void add(const Chunk& window);
  /// Window sums so far, shares not yet computed; model and target are the caller's.
  const ErrorBudget& sums() const { return budget_; }

 private:
  struct Arm {
    std::unique_ptr<Decoder> decoder;
    int start = 0;            ///< first layer that differs from where it starts
    bool from_whole = false;  ///< whose hidden state it starts from
    std::vector<double> kl;
  };
  Arm arm_of(const DecoderPrecision& precision);
  double score(Decoder& decoder, kernels::DeviceTensor hidden, int from, const Chunk& window);

  kernels::Backend& backend_;
  DecoderResources resources_;
  DecoderPrecision full_, whole_precision_;
  SiteRanges ranges_;
  std::unique_ptr<Decoder> base_, whole_;
  std::vector<Arm> arms_;  ///< alone and without, by turns; parts, then layers
  kernels::DeviceTensor targets_, key_mask_, base_logits_;  ///< of the window under way
  ErrorBudget budget_;
};

}  // namespace qfid::eval
