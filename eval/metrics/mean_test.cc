#include "eval/metrics/mean_test.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "eval/metrics/interval.h"
#include "quant/core/error.h"
#include "quant/core/random.h"

namespace qfid::eval {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Residuals below this share of the windows' sums are roundings of a constant.
constexpr double rounding = 1e-12;

/// Sums over a resample of the residuals e = S - r C and of the counts c.
struct Totals {
  double e = 0, c = 0, ee = 0, ec = 0, cc = 0;
};

/// (r* - r) / se*. No variance left (squares <= noise): infinite, which makes rejecting harder, never easier.
double studentized(const Totals& s, double n, double noise) {
  const double shift = s.e / s.c;
  const double squares = s.ee - shift * (2 * s.ec - shift * s.cc);
  if (!(squares > noise)) return s.e > 0 ? infinity : s.e < 0 ? -infinity : 0;
  return s.e / std::sqrt(n / (n - 1) * squares);
}

/// Random indices below n < 2^32, two from one random number, by multiplication (bias below n / 2^32).
class Indices {
 public:
  Indices(std::uint64_t seed, std::uint64_t n) : random_(seed), n_(n) {}
  std::size_t next() {
    if (left_ == 0) {
      bits_ = random_.bits();
      left_ = 2;
    }
    --left_;
    const std::uint64_t half = bits_ & 0xFFFFFFFFU;
    bits_ >>= 32;
    return (half * n_) >> 32;
  }

 private:
  quant::Random random_;
  std::uint64_t n_, bits_ = 0;
  int left_ = 0;
};

}  // namespace

int cosine_terms(std::int64_t n) { return std::max(2, static_cast<int>(0.3 * std::cbrt(static_cast<double>(n * n)))); }

MeanTest::MeanTest(std::span<const double> sums, std::span<const std::int64_t> counts, SumKind kind, ResampleOptions options)
    : sums_(sums.begin(), sums.end()), counts_(counts.begin(), counts.end()), kind_(kind), options_(options) {
  quant::require(sums.size() >= 2, "MeanTest: fewer than two windows");
  const ClusteredMean mean = clustered_mean(sums, counts, 0.5);
  mean_ = mean.mean;
  plain_error_ = mean.standard_error;
  for (double count : counts_) tokens_ += count;
  double scale = 0;
  for (double sum : sums_) scale += sum * sum;
  if (plain_error_ * tokens_ <= rounding * std::sqrt(scale)) plain_error_ = 0;
  slow_error_ = slow_error();
}

double MeanTest::slow_error() const {
  const std::size_t n = sums_.size();
  const int terms = cosine_terms(windows());
  double power = 0;
  for (int j = 1; j <= terms; ++j) {
    double projection = 0;
    for (std::size_t i = 0; i < n; ++i)
      projection += (sums_[i] - mean_ * counts_[i]) *
                    std::cos(std::numbers::pi * j * (static_cast<double>(i) + 0.5) / static_cast<double>(n));
    power += 2 * projection * projection;
  }
  return std::sqrt(power / terms) / tokens_;
}

double MeanTest::standard_error() const { return constant() ? 0 : std::max(plain_error_, slow_error_); }

void MeanTest::resample() const {
  const std::size_t n = sums_.size();
  std::vector<double> residuals(n);
  double squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    residuals[i] = sums_[i] - mean_ * counts_[i];
    squares += residuals[i] * residuals[i];
  }
  Indices indices(options_.seed, n);
  resampled_.reserve(static_cast<std::size_t>(options_.resamples));
  for (int b = 0; b < options_.resamples; ++b) {
    Totals sum;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t k = indices.next();
      const double e = residuals[k], c = counts_[k];
      sum.e += e;
      sum.c += c;
      sum.ee += e * e;
      sum.ec += e * c;
      sum.cc += c * c;
    }
    resampled_.push_back(studentized(sum, static_cast<double>(n), 1e-20 * squares));
  }
  std::sort(resampled_.begin(), resampled_.end());
}

double MeanTest::p_bootstrap(double t, bool above) const {
  if (resampled_.empty()) resample();
  const auto extreme = above ? resampled_.end() - std::lower_bound(resampled_.begin(), resampled_.end(), t)
                             : std::upper_bound(resampled_.begin(), resampled_.end(), t) - resampled_.begin();
  return static_cast<double>(1 + extreme) / static_cast<double>(1 + resampled_.size());
}

double MeanTest::p_events(double bound, bool above) const {
  // Differences of events have no binomial law; where there was none, one of either sign is as rare as an event.
  const double share = kind_ == SumKind::events ? bound : std::fabs(bound);
  const double mean = kind_ == SumKind::events ? mean_ : std::fabs(mean_);
  if (share <= 0) return above && mean > 0 ? 0 : 1;
  if (share >= 1) return !above && mean < 1 ? 0 : 1;
  double dispersion = least_event_dispersion;
  const double variance = mean * (1 - mean) / tokens_;
  if (variance > 0) dispersion = std::max(dispersion, standard_error() * standard_error() / variance);
  const double trials = tokens_ / dispersion, events = mean * trials;
  if (kind_ == SumKind::event_differences) return std::pow(1 - share, trials);
  return above ? incomplete_beta(events, trials - events + 1, share)
               : incomplete_beta(trials - events, events + 1, 1 - share);
}

double MeanTest::p(double bound, double alpha, bool above) const {
  if (constant()) {
    if (kind_ == SumKind::real) return above == (mean_ > bound) ? 0 : 1;  // at the bound: not above it
    return mean_ != bound && above == (mean_ > bound) ? p_events(bound, above) : 1;
  }
  const double sign = above ? 1 : -1, t = sign * (mean_ - bound) / plain_error_,
               slow_t = sign * (mean_ - bound) / slow_error_;
  const double p = std::max(student_t_upper_tail(t, windows() - 1), student_t_upper_tail(slow_t, cosine_terms(windows())));
  if (p > alpha) return p;
  return std::max(p, kind_ == SumKind::events ? p_events(bound, above) : p_bootstrap(sign * std::min(t, slow_t), above));
}

/// Away from the mean: out by doubling until a bound is rejected, then bisection.
double MeanTest::limit(double alpha, double sign) const {
  const bool share = kind_ != SumKind::real;
  const double farthest = !share ? sign * infinity : sign > 0 ? 1 : kind_ == SumKind::events ? 0 : -1;
  const auto rejected = [&](double bound) { return p(bound, alpha, sign < 0) <= alpha; };
  double step = std::max(standard_error(), share ? 1e-9 : 0), near = mean_, far = mean_;
  for (int i = 0; i < 40; ++i, step *= 2) {
    far = mean_ + sign * step;
    if (share && sign * (far - farthest) >= 0) return farthest;
    if (rejected(far)) break;
    near = far;
  }
  for (int i = 0; i < 60; ++i) {
    const double middle = 0.5 * (near + far);
    (rejected(middle) ? far : near) = middle;
  }
  return far;
}

Interval MeanTest::limits(double alpha) const {
  if (constant() && kind_ == SumKind::real) return {mean_, mean_};
  return {limit(alpha, -1), limit(alpha, 1)};
}

}  // namespace qfid::eval
