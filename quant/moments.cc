#include <algorithm>
#include <cmath>

#include "quant/core/avx2_vectors.h"
#include "quant/core/dispatch.h"
#include "quant/core/error.h"
#include "quant/distortion.h"
#include "quant/statistics_avx512.h"

namespace qfid::quant {

namespace {

constexpr int lanes = MomentLanes::lanes;

using Sums = MomentLanes;
using Powers = PowerLanes;

struct FirstPass {
  __attribute__((always_inline)) void operator()(const float* x, std::int64_t n, Sums& total) const {
    Sums s = total;
    for (std::int64_t i = 0; i + lanes <= n; i += lanes) {
      double v[lanes];
      for (int j = 0; j < lanes; ++j) v[j] = x[i + j];
      for (int j = 0; j < lanes; ++j) s.first[j] += v[j];
      for (int j = 0; j < lanes; ++j) s.min[j] = v[j] < s.min[j] ? v[j] : s.min[j];
      for (int j = 0; j < lanes; ++j) s.max[j] = v[j] > s.max[j] ? v[j] : s.max[j];
    }
    total = s;
  }
};

struct SecondPass {
  __attribute__((always_inline)) void operator()(const float* x, std::int64_t n, double mean, Powers& total) const {
    Powers p = total;
    for (std::int64_t i = 0; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) {
        const double d = static_cast<double>(x[i + j]) - mean, d2 = d * d;
        p.second[j] += d2;
        p.third[j] += d2 * d;
        p.fourth[j] += d2 * d2;
      }
    total = p;
  }
};

/// Both passes in vectors by name: GCC keeps no more than one array of lanes in registers.
struct Vectors {
  using Doubles = Avx2::Doubles;

  __attribute__((target("avx2"))) static void first(const float* x, std::int64_t n, Sums& total) {
    auto low = Avx2::load<Doubles>(total.first), high = Avx2::load<Doubles>(total.first + 4);
    auto min_low = Avx2::load<Doubles>(total.min), min_high = Avx2::load<Doubles>(total.min + 4);
    auto max_low = Avx2::load<Doubles>(total.max), max_high = Avx2::load<Doubles>(total.max + 4);
    for (std::int64_t i = 0; i + lanes <= n; i += lanes) {
      const Doubles a = Avx2::wide(x + i), b = Avx2::wide(x + i + 4);
      low += a;
      high += b;
      min_low = a < min_low ? a : min_low;
      min_high = b < min_high ? b : min_high;
      max_low = a > max_low ? a : max_low;
      max_high = b > max_high ? b : max_high;
    }
    Avx2::store(low, total.first);
    Avx2::store(high, total.first + 4);
    Avx2::store(min_low, total.min);
    Avx2::store(min_high, total.min + 4);
    Avx2::store(max_low, total.max);
    Avx2::store(max_high, total.max + 4);
  }

  __attribute__((target("avx2"))) static void second(const float* x, std::int64_t n, double mean, Powers& total) {
    auto second_low = Avx2::load<Doubles>(total.second), second_high = Avx2::load<Doubles>(total.second + 4);
    auto third_low = Avx2::load<Doubles>(total.third), third_high = Avx2::load<Doubles>(total.third + 4);
    auto fourth_low = Avx2::load<Doubles>(total.fourth), fourth_high = Avx2::load<Doubles>(total.fourth + 4);
    for (std::int64_t i = 0; i + lanes <= n; i += lanes) {
      const Doubles a = Avx2::wide(x + i) - mean, b = Avx2::wide(x + i + 4) - mean, a2 = a * a, b2 = b * b;
      second_low += a2;
      second_high += b2;
      third_low += a2 * a;
      third_high += b2 * b;
      fourth_low += a2 * a2;
      fourth_high += b2 * b2;
    }
    Avx2::store(second_low, total.second);
    Avx2::store(second_high, total.second + 4);
    Avx2::store(third_low, total.third);
    Avx2::store(third_high, total.third + 4);
    Avx2::store(fourth_low, total.fourth);
    Avx2::store(fourth_high, total.fourth + 4);
  }
};

void first_pass(const float* x, std::int64_t n, Sums* totals, int rows) {
  const Isa isa = current_isa();
  if (isa >= Isa::avx512) return add_moments_avx512(x, n, totals, rows);
  for (int r = 0; r < rows; ++r, x += n) isa >= Isa::avx2 ? Vectors::first(x, n, totals[r]) : FirstPass{}(x, n, totals[r]);
}
void second_pass(const float* x, std::int64_t n, const double* means, Powers* totals, int rows) {
  const Isa isa = current_isa();
  if (isa >= Isa::avx512) return add_powers_avx512(x, n, means, totals, rows);
  for (int r = 0; r < rows; ++r, x += n)
    isa >= Isa::avx2 ? Vectors::second(x, n, means[r], totals[r]) : SecondPass{}(x, n, means[r], totals[r]);
}

}  // namespace

void Moments::add(double x) {
  Moments one;
  one.n_ = 1;
  one.mean_ = one.min_ = one.max_ = x;
  merge(one);
}

void Moments::add(std::span<const float> x) {
  if (x.empty()) return;
  Moments part;
  of_rows_together<1>(x.data(), static_cast<std::int64_t>(x.size()), &part);
  merge(part);
}

void Moments::of_rows(const float* x, std::int64_t rows, std::int64_t n, Moments* out) {
  std::fill_n(out, rows, Moments{});
  if (n == 0) return;
  std::int64_t r = 0;
  const bool together = current_isa() >= Isa::avx512;  // narrower lanes are chains enough
  for (; together && r + rows_together <= rows; r += rows_together) of_rows_together<rows_together>(x + r * n, n, out + r);
  for (; r < rows; ++r) of_rows_together<1>(x + r * n, n, out + r);
}

template <int rows>
void Moments::of_rows_together(const float* x, std::int64_t n, Moments* out) {
  Sums sums[rows];
  Powers powers[rows];
  double means[rows];
  for (int r = 0; r < rows; ++r) {
    std::fill_n(sums[r].min, lanes, static_cast<double>(x[r * n]));
    std::fill_n(sums[r].max, lanes, static_cast<double>(x[r * n]));
  }
  first_pass(x, n, sums, rows);
  for (int r = 0; r < rows; ++r) {
    out[r].take(x + r * n, n, sums[r]);
    means[r] = out[r].mean_;
  }
  second_pass(x, n, means, powers, rows);
  for (int r = 0; r < rows; ++r) out[r].take(x + r * n, powers[r]);
}

/// Count, extremes and mean of n numbers: their whole lanes' sums, and what is left of them.
void Moments::take(const float* x, std::int64_t n, const MomentLanes& sums) {
  n_ = n;
  min_ = max_ = static_cast<double>(x[0]);
  double sum = 0;
  for (int i = 0; i < lanes; ++i) {
    sum += sums.first[i];
    min_ = std::min(min_, sums.min[i]);
    max_ = std::max(max_, sums.max[i]);
  }
  for (std::int64_t i = n / lanes * lanes; i < n; ++i) {
    const auto v = static_cast<double>(x[i]);
    sum += v;
    min_ = std::min(min_, v);
    max_ = std::max(max_, v);
  }
  mean_ = sum / static_cast<double>(n);
}

void Moments::take(const float* x, const PowerLanes& powers) {
  for (int i = 0; i < lanes; ++i) {
    m2_ += powers.second[i];
    m3_ += powers.third[i];
    m4_ += powers.fourth[i];
  }
  for (std::int64_t i = n_ / lanes * lanes; i < n_; ++i) {
    const double d = static_cast<double>(x[i]) - mean_;
    m2_ += d * d;
    m3_ += d * d * d;
    m4_ += d * d * d * d;
  }
}

void Moments::merge(const Moments& b) {
  if (b.n_ == 0) return;
  if (n_ == 0) {
    *this = b;
    return;
  }
  const auto na = static_cast<double>(n_), nb = static_cast<double>(b.n_);
  const double n = na + nb, d = b.mean_ - mean_, d2 = d * d;
  m4_ += b.m4_ + d2 * d2 * na * nb * (na * na - na * nb + nb * nb) / (n * n * n) +
         6 * d2 * (na * na * b.m2_ + nb * nb * m2_) / (n * n) + 4 * d * (na * b.m3_ - nb * m3_) / n;
  m3_ += b.m3_ + d * d2 * na * nb * (na - nb) / (n * n) + 3 * d * (na * b.m2_ - nb * m2_) / n;
  m2_ += b.m2_ + d2 * na * nb / n;
  mean_ += d * nb / n;
  min_ = std::min(min_, b.min_);
  max_ = std::max(max_, b.max_);
  n_ += b.n_;
}

namespace {
void not_empty(std::int64_t n) { require(n > 0, "moments of nothing: no element was added"); }
}  // namespace

double Moments::mean() const {
  not_empty(n_);
  return mean_;
}
double Moments::variance() const {
  not_empty(n_);
  return m2_ / static_cast<double>(n_);
}
double Moments::kurtosis() const {
  not_empty(n_);
  const auto n = static_cast<double>(n_);
  const double s2 = n_ > 1 ? m2_ / (n - 1) : 0;
  return m4_ / n / (s2 * s2 + 1e-6);
}
double Moments::min() const {
  not_empty(n_);
  return min_;
}
double Moments::max() const {
  not_empty(n_);
  return max_;
}
double Moments::inf_norm() const { return std::max(std::fabs(min()), std::fabs(max())); }

}  // namespace qfid::quant
