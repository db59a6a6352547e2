// A gate's verdict: does a mean stay within its bound, has it been shown not to, or can't this data say?
//   fail  H0 "the mean is within the bound" is rejected;  pass  H0 "it is beyond" is rejected;  else inconclusive.
// Pure functions of window sums. Several gates of one check: Holm's step-down over the fail tests, so that the chance of
// any false fail stays below 1 - confidence; passes need no correction, since to ship every gate must pass.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "eval/metrics/mean_test.h"

namespace qfid::eval {

enum class GateOutcome : std::uint8_t { pass, fail, inconclusive };
std::string_view to_string(GateOutcome outcome);

/// On the scale on which the metric is a mean (logarithms of perplexities).
struct GateBound {
  double value = 0;
  bool upper = true;  ///< max; otherwise min
};

/// With this chance a `detectable` difference is seen, and `windows_needed` windows settle a gate.
inline constexpr double gate_power = 0.8;

struct GateStatistics {
  int windows = 0;
  std::optional<double> effect;    ///< the mean
  std::optional<Interval> limits;  ///< one-sided at the confidence on each side; absent below min_windows_for_interval
  double p_fail = 1, p_pass = 1;   ///< may be lower limits where above 1 - confidence
  GateOutcome outcome = GateOutcome::inconclusive;  ///< of this gate alone
  /// Inconclusive only. The least distance from the bound that this data shows with gate_power.
  std::optional<double> detectable;
  /// Inconclusive only. Windows that settle it with gate_power if the effect stays what it is; absent: more than 10^9.
  std::optional<std::int64_t> windows_needed;
};

GateStatistics evaluate_bound(std::span<const double> sums, std::span<const std::int64_t> counts, SumKind kind,
                              GateBound bound, double confidence, ResampleOptions options = {});

/// The least distance from a bound that `windows` windows show with gate_power, if they are like the pilot's (at least
/// min_windows_for_interval of them, otherwise Error{internal}). On the scale of the mean.
double detectable_difference(std::span<const double> pilot_sums, std::span<const std::int64_t> counts, SumKind kind,
                             double confidence, std::int64_t windows, ResampleOptions options = {});

/// Enough for m fail tests under Holm at this confidence, so that the smallest p-value is a tenth of the strictest level.
ResampleOptions resamples_for(std::size_t gates, double confidence);

struct FailTest {
  double p = 1, alpha = 0.01;
};
/// Which are rejected (Holm 1979), each p measured in units of its own level.
std::vector<bool> holm(std::span<const FailTest> tests);

}  // namespace qfid::eval
