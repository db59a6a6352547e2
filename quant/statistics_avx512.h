// The sums of quant/distortion.cc and quant/moments.cc in AVX-512, eight numbers at a time, where the narrower loops copy a
// row and go over it four lanes at a time. The same lanes, each in the same order: the same bits. The CPU must have what
// Isa::avx512 names.
#pragma once

#include <cstdint>

namespace qfid::quant {

/// Element i of a row goes to lane i mod 16.
struct DistortionLanes {
  static constexpr int lanes = 16;
  double xx[lanes] = {}, xy[lanes] = {}, yy[lanes] = {}, ee[lanes] = {}, ax[lanes] = {}, ae[lanes] = {}, e[lanes] = {};
  float max[lanes] = {};
  std::int32_t exact[lanes] = {}, flips[lanes] = {}, flushed[lanes] = {};
  std::int64_t valid = 0;
};
/// Rows `stride` apart, each padded to whole lanes by pairs of zeros, as pairs with a NaN are replaced.
void add_rows_avx512(const float* x, const float* y, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                     DistortionLanes& total);

/// Element i of a row goes to lane i mod 8; what is left beyond whole lanes isn't looked at.
struct MomentLanes {
  static constexpr int lanes = 8;
  double first[lanes] = {}, min[lanes] = {}, max[lanes] = {};
};
struct PowerLanes {
  double second[MomentLanes::lanes] = {}, third[MomentLanes::lanes] = {}, fourth[MomentLanes::lanes] = {};
};
/// Rows of n that go side by side, one or four: a row's sums wait four cycles for every eight numbers.
constexpr int rows_together = 4;
void add_moments_avx512(const float* x, std::int64_t n, MomentLanes* totals, int rows);
void add_powers_avx512(const float* x, std::int64_t n, const double* means, PowerLanes* totals, int rows);
/// totals[r][j] += of row r's elements i mod 8 = j the sum of (x - shifts[r])^power, power 1 or 2.
void add_power_avx512(const float* x, std::int64_t n, const double* shifts, bool squared,
                      double (*totals)[MomentLanes::lanes], int rows);

}  // namespace qfid::quant
