// Ground truth of bigram-backcopy (Guo et al. 2024, arXiv 2410.13835; docs/metrics.md, "Bigram-backcopy"): how much more
// than the best predictor a model loses, and what the first token, <s>, does. Every number has the windows, here sequences,
// as its units; one layer's and head's numbers weigh as much as another's.
//   backcopy.excess_risk.bigram|copy         mean over a part's queries of the model's NLL less that of the task itself, on
//                                            the same tokens; part copy: the query is a trigger
//   backcopy.oracle_risk.bigram|copy         what the best predictor loses in expectation (eval/data/backcopy.h)
//   backcopy.attention_to_first.bigram|copy  attention of a part's queries to <s>; <s> itself, which sees nothing else, is
//   none backcopy.delta_logit.bigram              over queries of part bigram from 2 on: logit of <s> less the mean logit of
//   keys
//                                            1 to the query's own - 1, as differences of ln p
//   backcopy.value_norm, gated_value_norm, residual_norm: .first of <s>, .others the mean of the other tokens; .ratio of the
//   two
// Blind to: which token does what; a model that loses nothing and has learnt something else.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eval/metrics/metric.h"
#include "eval/metrics/token_metrics.h"
#include "quant/core/byte_stream.h"

namespace qfid::eval {

/// What the task says of one window, by position.
struct BackcopyWindow {
  std::vector<bool> trigger;       ///< the query's token is a trigger: part copy
  std::vector<double> oracle_nll;  ///< -ln p(target) under the task, nats
};

class BackcopyMeasures {
 public:
  /// One layer of window `window`: probs [heads, T, T], causal.
  void add_attention(std::size_t window, std::span<const float> probs, const BackcopyWindow& task);
  /// One layer of window `window`: norms [T * heads] of V as projected and after a value-site gate (equal without one), and
  /// [T] of the residual stream behind the layer.
  void add_norms(std::size_t window, std::span<const double> v, std::span<const double> gated,
                 std::span<const double> residual);

  std::size_t windows() const { return windows_.size(); }
  /// What windows from `first` on got, written down; and added to what is here.
  void log(quant::ByteWriter& to, std::size_t first) const;
  void replay(quant::ByteReader& from);

  /// `tokens` scores every position of windows as `task` describes them. `risk_*`: BackcopyTask::oracle_risk.
  std::vector<Metric> metrics(const TokenData& tokens, std::span<const BackcopyWindow> task, double risk_bigram,
                              double risk_copy) const;

 private:
  struct Sum {
    double sum = 0, count = 0;
    void add(double value) {
      sum += value;
      count += 1;
    }
  };
  struct Sums {
    Sum attention_bigram, attention_copy, gap;
    Sum v_first, v_others, gated_first, gated_others, residual_first, residual_others;
  };
  Sums& of(std::size_t window);

  std::vector<Sums> windows_;
};

}  // namespace qfid::eval
