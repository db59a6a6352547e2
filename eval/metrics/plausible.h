// What a written call may hold so that adding it up is safe whoever wrote it. A journal is checked for damage, but not for
// forgery: counts stay so small that no sum of as many as a file can hold overflows, and what is sorted later is a number.
#pragma once

#include <cmath>
#include <initializer_list>
#include <vector>

#include "kernels/reductions.h"
#include "quant/codec.h"
#include "quant/core/byte_stream.h"
#include "quant/distortion.h"

namespace qfid::eval {

/// Elements of a tensor, or of all windows of a run: about 10^12.
inline constexpr std::int64_t most_counted = std::int64_t{1} << 40;

inline bool are_counts(std::initializer_list<std::int64_t> counts) {
  for (const std::int64_t n : counts)
    if (n < 0 || n > most_counted) return false;
  return true;
}
inline bool plausible(std::int64_t count) { return are_counts({count}); }
inline bool plausible(const quant::DistortionStats& stats) {
  const quant::DistortionStats::Sums s = stats.sums();
  return are_counts({s.n, s.exact, s.flips, s.flushed, s.nan});
}
inline bool plausible(const quant::CodeCounts& c) { return are_counts({c.elements, c.saturated, c.flushed, c.nan}); }
inline bool plausible(const kernels::RowStats& s) {
  return are_counts({s.rows, s.below_tenth, s.above_nine_tenths, s.elements, s.non_finite});
}
inline bool plausible(const kernels::ProbCounts& c) { return are_counts({c.visible, c.zero_codes, c.masked_rows}); }
inline bool plausible(const kernels::Magnitudes& m) { return are_counts({m.elements, m.massive}); }
inline bool plausible(const kernels::OutlierSplit& s) {
  return are_counts({s.tokens, s.channels, s.outlier_tokens, s.outlier_channels});
}
inline bool plausible(const kernels::OutputSplit&) { return true; }

/// A list that was written, of what is plausible. Error{input}.
template <class T>
std::vector<T> plausible_list(quant::ByteReader& from) {
  std::vector<T> all = from.list<T>();
  for (const T& one : all) quant::ByteReader::check(plausible(one));
  return all;
}

}  // namespace qfid::eval
