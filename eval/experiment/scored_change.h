// A run of a model changed on purpose and only scored, window by window, against the same run unchanged: the arms of noise
// floors and of interventions (eval/model/intervention.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/metrics/metric.h"

namespace qfid::eval {

struct ScoredChange {
  std::string model, target;  ///< target "baseline": full precision
  std::string name;           ///< "mask_key_0", ...; of noise "module outputs off by 2^-9", "backend reference"
  std::string message{};      ///< why it wasn't run; "" = it was
  std::vector<std::int64_t> tokens{};
  std::vector<double> nll_difference{}, kl{};  ///< sums of each window: NLL less the unchanged run's; KL(unchanged||changed)
  std::vector<Metric> metrics{};               ///< names as in docs/metrics.md, against the unchanged run
};

}  // namespace qfid::eval
