// Numbers about the difference of two tensors (DistortionStats) and about one tensor (Moments). Both add element by element,
// merge in any grouping the caller fixes, and finish; both accumulate in double. n == 0 at finish is an error, not NaN.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace qfid::quant {

/// x: reference (full precision), y: under test. Blind spots of each number: see the method comments.
class DistortionStats {
 public:
  void add(float x, float y);
  void add(std::span<const float> x, std::span<const float> y);  ///< vectorized; the same bits on every ISA
  /// `rows` rows of `columns` elements, `stride` elements apart: one head of [tokens, heads, head_dim], for instance.
  void add(const float* x, const float* y, std::int64_t rows, std::int64_t columns, std::int64_t stride);
  void merge(const DistortionStats& other);

  std::int64_t count() const { return n_; }
  /// <x,y>/<x,x>: 1 is perfect. Sees a wrong scale; blind to noise orthogonal to x. Null when x is all zero.
  std::optional<double> gain() const;
  /// 20 log10(|x|/|x-y|) in dB. Null when the error is 0 (see exact()) or x is 0.
  std::optional<double> sqnr_db() const;
  /// |x-y|^2/|x|^2. Null when x is all zero.
  std::optional<double> nmse() const;
  /// sum|x-y| / sum|x|.
  std::optional<double> relative_l1() const;
  /// Blind to scale. Null when either is zero.
  std::optional<double> cosine() const;
  double max_abs() const;                          ///< max|x-y|; blind to how many
  double mean_signed_error() const;                ///< mean(y-x): bias; blind to symmetric noise
  double share_exact() const;                      ///< share of bitwise-equal values (as numbers)
  double share_sign_flips() const;                 ///< x*y < 0
  double share_flushed() const;                    ///< y == 0 where x != 0
  std::int64_t nan_count() const { return nan_; }  ///< pairs with a NaN in either; excluded from the sums above
  bool exact() const { return nan_ == 0 && error2_ == 0; }

  /// The raw sums, for records and for pooling outside.
  struct Sums {
    double xx, xy, yy, ee, ax, ae, e, max;
    std::int64_t n, exact, flips, flushed, nan;
  };
  Sums sums() const;
  static DistortionStats from(const Sums& sums);

 private:
  double xx_ = 0, xy_ = 0, yy_ = 0, error2_ = 0, abs_x_ = 0, abs_error_ = 0, error_ = 0, max_ = 0;
  std::int64_t n_ = 0, exact_ = 0, flips_ = 0, flushed_ = 0, nan_ = 0;
};

struct MomentLanes;
struct PowerLanes;

/// Mean, variance and kurtosis by pairwise-mergeable central moments (Chan et al. 1979; Pebay 2008), and the extremes.
class Moments {
 public:
  void add(double x);
  void add(std::span<const float> x);  ///< two-pass over the span, then merged
  /// out[r]: of row r of [rows, n], the bits of add() on an empty one.
  static void of_rows(const float* x, std::int64_t rows, std::int64_t n, Moments* out);
  void merge(const Moments& b);

  std::int64_t count() const { return n_; }
  double mean() const;
  double variance() const;  ///< population
  /// mean((x-mu)^4) / (s^4 + 1e-6), s unbiased, not excess (Bondarenko et al. 2023's form).
  double kurtosis() const;
  double min() const;
  double max() const;
  double inf_norm() const;  ///< max|x|

 private:
  template <int rows>
  static void of_rows_together(const float* x, std::int64_t n, Moments* out);
  void take(const float* x, std::int64_t n, const MomentLanes& sums);
  void take(const float* x, const PowerLanes& powers);

  std::int64_t n_ = 0;
  double mean_ = 0, m2_ = 0, m3_ = 0, m4_ = 0, min_ = 0, max_ = 0;
};

}  // namespace qfid::quant
