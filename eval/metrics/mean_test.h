// One-sided tests of a mean over tokens when windows, not tokens, are independent: the statistics under a gate.
//
// A mean is rejected on one side of a bound only when three tests reject it; the p-value is the largest of the three:
//   1. Student's t of the linearized ratio estimator (interval.h), n - 1 degrees of freedom;
//   2. the same with a variance that sees windows depend on their neighbours (pages of one document do): the mean square of
//      the first B terms of the cosine transform of the windows' residuals, t with B degrees of freedom (Lazarus, Lewis,
//      Stock and Watson 2018, "equal-weighted cosine");
//   3. one that holds where window sums are skewed: bootstrap-t over windows (Efron and Tibshirani 1993, 12.5) at the larger
//      of the two standard errors, for sums of real values; Clopper-Pearson on the effective number of tokens (Korn and
//      Graubard 1998) for counts of events, because few events, or none, leave a bootstrap no variance to see.
// All three always, never "t unless a test says skewed": choosing by the data would break the error rates, which are
// measured on real windows (tests/eval/metrics/error_rates_test.cc); t alone is wrong there by factors of 2 to 18.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eval/metrics/metric.h"

namespace qfid::eval {

/// What the sums of windows are: sums of real values, counts of events among the tokens, or differences of such counts.
enum class SumKind : std::uint8_t { real, events, event_differences };

/// Events of one window come together: the variance of their number over that of independent tokens is taken to be at least
/// this. The tiny models' windows show less (error_rates_test.cc holds them to it).
inline constexpr double least_event_dispersion = 1.5;

/// Terms of the cosine transform of n windows, the degrees of freedom of the second test: 0.3 n^(2/3), at least 2. The
/// source recommends 0.4; fewer see slower dependence, and at 256 windows of a text 0.4 was too near the nominal rates.
int cosine_terms(std::int64_t n);

struct ResampleOptions {
  int resamples = 9999;       ///< of the bootstrap; the smallest p-value is 1 / (resamples + 1)
  std::uint64_t seed = 2026;  ///< the same data and options give the same bits
};

class MeanTest {
 public:
  /// Sums and token counts of at least 2 windows, in the order of the text, with some tokens; otherwise Error{internal}.
  MeanTest(std::span<const double> sums, std::span<const std::int64_t> counts, SumKind kind = SumKind::real,
           ResampleOptions options = {});

  int windows() const { return static_cast<int>(sums_.size()); }
  double mean() const { return mean_; }
  /// The larger of the two.
  double standard_error() const;
  /// Every window has the same mean, up to rounding: there is no variance to test with. Real values are then taken at their
  /// word; events may still have been missed.
  bool constant() const { return plain_error_ == 0; }

  /// p-value of H0 "mean <= bound". What is above `alpha` may be a lower limit: the costly test runs where the others
  /// reject.
  double p_above(double bound, double alpha) const { return p(bound, alpha, true); }
  /// The same for H0 "mean >= bound".
  double p_below(double bound, double alpha) const { return p(bound, alpha, false); }
  /// The bounds that are not rejected at `alpha`: confidence 1 - alpha on each side.
  Interval limits(double alpha) const;

 private:
  double p(double bound, double alpha, bool above) const;
  double p_bootstrap(double t, bool above) const;
  double p_events(double bound, bool above) const;
  double limit(double alpha, double sign) const;
  double slow_error() const;
  void resample() const;

  std::vector<double> sums_, counts_;
  SumKind kind_;
  ResampleOptions options_;
  double mean_ = 0, plain_error_ = 0, slow_error_ = 0, tokens_ = 0;
  mutable std::vector<double> resampled_;  ///< sorted t*, made when first needed
};

}  // namespace qfid::eval
