// Sums run in eight fixed lanes (element i goes to lane i mod 8) that are folded in one order at the end, so that every ISA
// and every call gives the same bits. GCC vector extensions are lowered to what the target has.
#include "quant/distortion.h"

#include <algorithm>
#include <cmath>

#include "quant/core/dispatch.h"
#include "quant/core/error.h"

namespace qfid::quant {

namespace {

constexpr int lanes = 8;
using Double8 = double __attribute__((vector_size(64)));
using Float8 = float __attribute__((vector_size(32)));

struct Fields {
  Double8 xx, xy, yy, ee, ax, ae, e, max, exact, flips, flushed, valid;
};

double fold(const Double8& v) {
  double sum = 0;
  for (int i = 0; i < lanes; ++i) sum += v[i];
  return sum;
}

struct Accumulate {
  __attribute__((always_inline)) static void step(Fields& f, const Float8& x_in, const Float8& y_in) {
    const Double8 one = {1, 1, 1, 1, 1, 1, 1, 1}, zero = {};
    Double8 x = __builtin_convertvector(x_in, Double8), y = __builtin_convertvector(y_in, Double8);
    const auto valid = (x == x) & (y == y);
    x = valid ? x : zero;
    y = valid ? y : zero;
    const Double8 d = y - x;
    const Double8 magnitude = d < zero ? -d : d;
    f.xx += x * x;
    f.xy += x * y;
    f.yy += y * y;
    f.ee += d * d;
    f.ax += x < zero ? -x : x;
    f.ae += magnitude;
    f.e += d;
    f.max = magnitude > f.max ? magnitude : f.max;
    f.exact += (x == y) & valid ? one : zero;
    f.flips += x * y < zero ? one : zero;
    f.flushed += (y == zero) & (x != zero) ? one : zero;
    f.valid += valid ? one : zero;
  }
  __attribute__((always_inline)) void operator()(const float* x, const float* y, std::int64_t rows, std::int64_t columns,
                                                 std::int64_t stride, Fields& total) const {
    Fields f = total;
    for (std::int64_t r = 0; r < rows; ++r, x += stride, y += stride) {
      Float8 a, b;
      std::int64_t i = 0;
      for (; i + lanes <= columns; i += lanes) {
        __builtin_memcpy(&a, x + i, sizeof a);
        __builtin_memcpy(&b, y + i, sizeof b);
        step(f, a, b);
      }
      if (i == columns) continue;
      a = b = Float8{};
      for (int j = 0; i < columns; ++i, ++j) {
        a[j] = x[i];
        b[j] = y[i];
      }
      step(f, a, b);
    }
    total = f;
  }
};

}  // namespace

void DistortionStats::add(float x, float y) { add(std::span<const float>(&x, 1), std::span<const float>(&y, 1)); }

void DistortionStats::add(std::span<const float> x, std::span<const float> y) {
  require(x.size() == y.size(), "distortion: unequal lengths");
  const auto n = static_cast<std::int64_t>(x.size());
  add(x.data(), y.data(), 1, n, n);
}

void DistortionStats::add(const float* x, const float* y, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
  const std::int64_t n = rows * columns;
  // Rows are padded to whole lanes with pairs of zeros, which add to `exact` and `valid` only.
  const auto padded = static_cast<double>(rows * ((columns + lanes - 1) / lanes * lanes) - n);
  Fields f{};
  dispatched(Accumulate{}, x, y, rows, columns, stride, f);
  DistortionStats part;
  part.xx_ = fold(f.xx);
  part.xy_ = fold(f.xy);
  part.yy_ = fold(f.yy);
  part.error2_ = fold(f.ee);
  part.abs_x_ = fold(f.ax);
  part.abs_error_ = fold(f.ae);
  part.error_ = fold(f.e);
  for (int i = 0; i < lanes; ++i) part.max_ = std::max(part.max_, f.max[i]);
  part.n_ = static_cast<std::int64_t>(fold(f.valid) - padded);
  part.exact_ = static_cast<std::int64_t>(fold(f.exact) - padded);
  part.flips_ = static_cast<std::int64_t>(fold(f.flips));
  part.flushed_ = static_cast<std::int64_t>(fold(f.flushed));
  part.nan_ = n - part.n_;
  merge(part);
}

void DistortionStats::merge(const DistortionStats& o) {
  xx_ += o.xx_;
  xy_ += o.xy_;
  yy_ += o.yy_;
  error2_ += o.error2_;
  abs_x_ += o.abs_x_;
  abs_error_ += o.abs_error_;
  error_ += o.error_;
  max_ = std::max(max_, o.max_);
  n_ += o.n_;
  exact_ += o.exact_;
  flips_ += o.flips_;
  flushed_ += o.flushed_;
  nan_ += o.nan_;
}

namespace {
void not_empty(std::int64_t n) { require(n > 0, "statistics of nothing: no element was added"); }
}  // namespace

std::optional<double> DistortionStats::gain() const {
  not_empty(n_);
  return xx_ > 0 ? std::optional(xy_ / xx_) : std::nullopt;
}
std::optional<double> DistortionStats::sqnr_db() const {
  not_empty(n_);
  return xx_ > 0 && error2_ > 0 ? std::optional(10 * std::log10(xx_ / error2_)) : std::nullopt;
}
std::optional<double> DistortionStats::nmse() const {
  not_empty(n_);
  return xx_ > 0 ? std::optional(error2_ / xx_) : std::nullopt;
}
std::optional<double> DistortionStats::relative_l1() const {
  not_empty(n_);
  return abs_x_ > 0 ? std::optional(abs_error_ / abs_x_) : std::nullopt;
}
std::optional<double> DistortionStats::cosine() const {
  not_empty(n_);
  return xx_ > 0 && yy_ > 0 ? std::optional(xy_ / std::sqrt(xx_ * yy_)) : std::nullopt;
}
double DistortionStats::max_abs() const {
  not_empty(n_);
  return max_;
}
double DistortionStats::mean_signed_error() const {
  not_empty(n_);
  return error_ / static_cast<double>(n_);
}
double DistortionStats::share_exact() const {
  not_empty(n_);
  return static_cast<double>(exact_) / static_cast<double>(n_);
}
double DistortionStats::share_sign_flips() const {
  not_empty(n_);
  return static_cast<double>(flips_) / static_cast<double>(n_);
}
double DistortionStats::share_flushed() const {
  not_empty(n_);
  return static_cast<double>(flushed_) / static_cast<double>(n_);
}

DistortionStats::Sums DistortionStats::sums() const {
  return {xx_, xy_, yy_, error2_, abs_x_, abs_error_, error_, max_, n_, exact_, flips_, flushed_, nan_};
}

DistortionStats DistortionStats::from(const Sums& s) {
  DistortionStats r;
  r.xx_ = s.xx;
  r.xy_ = s.xy;
  r.yy_ = s.yy;
  r.error2_ = s.ee;
  r.abs_x_ = s.ax;
  r.abs_error_ = s.ae;
  r.error_ = s.e;
  r.max_ = s.max;
  r.n_ = s.n;
  r.exact_ = s.exact;
  r.flips_ = s.flips;
  r.flushed_ = s.flushed;
  r.nan_ = s.nan;
  return r;
}

}  // namespace qfid::quant
