// Sums run in sixteen fixed lanes that are folded in one order at the end, so that every ISA and every call gives the same
// bits.
#include "quant/distortion.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "quant/core/avx2_vectors.h"
#include "quant/core/dispatch.h"
#include "quant/core/error.h"
#include "quant/statistics_avx512.h"

namespace qfid::quant {

namespace {

constexpr int lanes = DistortionLanes::lanes;

using Fields = DistortionLanes;

template <class T>
auto fold(const T (&v)[lanes]) {
  std::conditional_t<std::is_same_v<T, double>, double, std::int64_t> sum = 0;
  for (const T& lane : v) sum += lane;
  return sum;
}

/// Pairs of a block of rows, each row padded to whole lanes with zeros, pairs with a NaN replaced by zeros. Small enough for
/// L1.
struct Block {
  static constexpr std::int64_t capacity = 1024;
  alignas(64) float x[capacity], y[capacity];
  std::int64_t size = 0;
};

/// The sums of four lanes of a block, in vectors by name: GCC keeps no more than one array of lanes in registers.
class BlockSums {
 public:
  using Floats = float __attribute__((vector_size(32)));
  using Counts = std::int32_t __attribute__((vector_size(32)));
  using Doubles = Avx2::Doubles;
  using Bits = std::int64_t __attribute__((vector_size(32)));

  __attribute__((target("avx2"))) static void add(const float* x, const float* y, std::int64_t n, Fields& f) {
    for (int lane = 0; lane < lanes; lane += 4) add_sums(x, y, n, lane, f);
    for (int lane = 0; lane < lanes; lane += 8) add_counts(x, y, n, lane, f);
  }

 private:
  __attribute__((target("avx2"), always_inline)) static Doubles magnitude(Doubles x) {
    return reinterpret_cast<Doubles>(reinterpret_cast<Bits>(x) & std::numeric_limits<std::int64_t>::max());
  }

  __attribute__((target("avx2"))) static void add_sums(const float* x, const float* y, std::int64_t n, int lane, Fields& f) {
    auto xx = Avx2::load<Doubles>(f.xx + lane), xy = Avx2::load<Doubles>(f.xy + lane), yy = Avx2::load<Doubles>(f.yy + lane);
    auto ee = Avx2::load<Doubles>(f.ee + lane), ax = Avx2::load<Doubles>(f.ax + lane), ae = Avx2::load<Doubles>(f.ae + lane);
    auto sum = Avx2::load<Doubles>(f.e + lane);
    for (std::int64_t i = lane; i < n; i += lanes) {
      const Doubles a = Avx2::wide(x + i), b = Avx2::wide(y + i), e = b - a;
      xx += a * a;
      xy += a * b;
      yy += b * b;
      ee += e * e;
      ax += magnitude(a);
      ae += magnitude(e);
      sum += e;
    }
    Avx2::store(xx, f.xx + lane);
    Avx2::store(xy, f.xy + lane);
    Avx2::store(yy, f.yy + lane);
    Avx2::store(ee, f.ee + lane);
    Avx2::store(ax, f.ax + lane);
    Avx2::store(ae, f.ae + lane);
    Avx2::store(sum, f.e + lane);
  }

  __attribute__((target("avx2"))) static void add_counts(const float* x, const float* y, std::int64_t n, int lane,
                                                         Fields& f) {
    auto max = Avx2::load<Floats>(f.max + lane);
    auto exact = Avx2::load<Counts>(f.exact + lane), flips = Avx2::load<Counts>(f.flips + lane),
         flushed = Avx2::load<Counts>(f.flushed + lane);
    const Floats zero{};
    for (std::int64_t i = lane; i < n; i += lanes) {
      const auto a = Avx2::load<Floats>(x + i), b = Avx2::load<Floats>(y + i);
      const auto error =
          reinterpret_cast<Floats>(reinterpret_cast<Counts>(b - a) & std::numeric_limits<std::int32_t>::max());
      max = error > max ? error : max;
      exact -= a == b;  // true is -1
      flips -= ((a < zero) & (b > zero)) | ((a > zero) & (b < zero));
      flushed -= (b == zero) & (a != zero);
    }
    Avx2::store(max, f.max + lane);
    Avx2::store(exact, f.exact + lane);
    Avx2::store(flips, f.flips + lane);
    Avx2::store(flushed, f.flushed + lane);
  }
};

struct Accumulate {
  template <class T, class Number, class Step>
  __attribute__((always_inline)) static void sweep(const Number* x, const Number* y, std::int64_t n, T (&total)[lanes],
                                                   Step step) {
    T sums[lanes];
    for (int j = 0; j < lanes; ++j) sums[j] = total[j];
    for (std::int64_t i = 0; i < n; i += lanes)
      for (int j = 0; j < lanes; ++j) sums[j] = step(sums[j], x[i + j], y[i + j]);
    for (int j = 0; j < lanes; ++j) total[j] = sums[j];
  }

  // One plain sum at a time, without AVX2.
  __attribute__((always_inline)) static void add(const Block& block, Fields& f) {
    if (current_isa() >= Isa::avx2) return BlockSums::add(block.x, block.y, block.size, f);
    sweep(block.x, block.y, block.size, f.xx, [](double s, double x, double) { return s + x * x; });
    sweep(block.x, block.y, block.size, f.xy, [](double s, double x, double y) { return s + x * y; });
    sweep(block.x, block.y, block.size, f.yy, [](double s, double, double y) { return s + y * y; });
    sweep(block.x, block.y, block.size, f.ee, [](double s, double x, double y) { return s + (y - x) * (y - x); });
    sweep(block.x, block.y, block.size, f.ax, [](double s, double x, double) { return s + std::fabs(x); });
    sweep(block.x, block.y, block.size, f.ae, [](double s, double x, double y) { return s + std::fabs(y - x); });
    sweep(block.x, block.y, block.size, f.e, [](double s, double x, double y) { return s + (y - x); });
    sweep(block.x, block.y, block.size, f.max,
          [](float m, float x, float y) { return std::fabs(y - x) > m ? std::fabs(y - x) : m; });
    using Count = std::int32_t;
    sweep(block.x, block.y, block.size, f.exact, [](Count n, float x, float y) { return n + (x == y ? 1 : 0); });
    sweep(block.x, block.y, block.size, f.flips,
          [](Count n, float x, float y) { return n + ((((x < 0.0F) & (y > 0.0F)) | ((x > 0.0F) & (y < 0.0F))) ? 1 : 0); });
    sweep(block.x, block.y, block.size, f.flushed,
          [](Count n, float x, float y) { return n + (((y == 0.0F) & (x != 0.0F)) ? 1 : 0); });
  }

  /// Appends up to the block's capacity of one row; returns the number of valid pairs.
  __attribute__((always_inline)) static std::int32_t append(Block& block, const float* x, const float* y, std::int64_t n) {
    float* a = block.x + block.size;
    float* b = block.y + block.size;
    std::int32_t valid = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const bool ok = (x[i] == x[i]) & (y[i] == y[i]);
      a[i] = ok ? x[i] : 0.0F;
      b[i] = ok ? y[i] : 0.0F;
      valid += ok ? 1 : 0;
    }
    const std::int64_t whole = (n + lanes - 1) / lanes * lanes;
    for (std::int64_t i = n; i < whole; ++i) a[i] = b[i] = 0.0F;
    block.size += whole;
    return valid;
  }

  __attribute__((always_inline)) void operator()(const float* x, const float* y, std::int64_t rows, std::int64_t columns,
                                                 std::int64_t stride, Fields& total) const {
    Block block;
    for (std::int64_t r = 0; r < rows; ++r, x += stride, y += stride)
      for (std::int64_t i = 0; i < columns; i += Block::capacity) {
        const std::int64_t n = std::min(columns - i, Block::capacity);
        if (block.size + (n + lanes - 1) / lanes * lanes > Block::capacity) {
          add(block, total);
          block.size = 0;
        }
        total.valid += append(block, x + i, y + i, n);
      }
    add(block, total);
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
  if (n == 0) return;
  // Rows are padded to whole lanes, and pairs with a NaN replaced, by pairs of zeros, which add to `exact` only.
  const std::int64_t padded = rows * ((columns + lanes - 1) / lanes * lanes) - n;
  Fields f{};
  if (current_isa() >= Isa::avx512)
    add_rows_avx512(x, y, rows, columns, stride, f);
  else
    dispatched(Accumulate{}, x, y, rows, columns, stride, f);
  DistortionStats part;
  part.xx_ = fold(f.xx);
  part.xy_ = fold(f.xy);
  part.yy_ = fold(f.yy);
  part.error2_ = fold(f.ee);
  part.abs_x_ = fold(f.ax);
  part.abs_error_ = fold(f.ae);
  part.error_ = fold(f.e);
  for (int i = 0; i < lanes; ++i) part.max_ = std::max(part.max_, static_cast<double>(f.max[i]));
  part.n_ = f.valid;
  part.exact_ = fold(f.exact) - padded - (n - f.valid);
  part.flips_ = fold(f.flips);
  part.flushed_ = fold(f.flushed);
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
