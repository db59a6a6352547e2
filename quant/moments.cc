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

void first_pass(const float* x, std::int64_t n, Sums& total) {
  const Isa isa = current_isa();
  if (isa >= Isa::avx512) return add_moments_avx512(x, n, total);
  isa >= Isa::avx2 ? Vectors::first(x, n, total) : FirstPass{}(x, n, total);
}
void second_pass(const float* x, std::int64_t n, double mean, Powers& total) {
  const Isa isa = current_isa();
  if (isa >= Isa::avx512) return add_powers_avx512(x, n, mean, total);
  isa >= Isa::avx2 ? Vectors::second(x, n, mean, total) : SecondPass{}(x, n, mean, total);
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
  const auto n = static_cast<std::int64_t>(x.size()), whole = n / lanes * lanes;
  const double start = static_cast<double>(x[0]);
  Sums s;
  std::fill_n(s.min, lanes, start);
  std::fill_n(s.max, lanes, start);
  first_pass(x.data(), n, s);
  Moments part;
  part.n_ = n;
  part.min_ = part.max_ = start;
  double sum = 0;
  for (int i = 0; i < lanes; ++i) {
    sum += s.first[i];
    part.min_ = std::min(part.min_, s.min[i]);
    part.max_ = std::max(part.max_, s.max[i]);
  }
  for (std::int64_t i = whole; i < n; ++i) {
    const auto v = static_cast<double>(x[static_cast<std::size_t>(i)]);
    sum += v;
    part.min_ = std::min(part.min_, v);
    part.max_ = std::max(part.max_, v);
  }
  part.mean_ = sum / static_cast<double>(n);
  Powers p;
  second_pass(x.data(), n, part.mean_, p);
  for (int i = 0; i < lanes; ++i) {
    part.m2_ += p.second[i];
    part.m3_ += p.third[i];
    part.m4_ += p.fourth[i];
  }
  for (std::int64_t i = whole; i < n; ++i) {
    const double d = static_cast<double>(x[static_cast<std::size_t>(i)]) - part.mean_;
    part.m2_ += d * d;
    part.m3_ += d * d * d;
    part.m4_ += d * d * d * d;
  }
  merge(part);
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
