// The calls that fill the tables of a run, written down so that they can be made again. Sums aren't what is kept: merging
// sums in another grouping changes their last bits, while the same calls in window order are the same additions, whoever
// made the first ones. It costs a sampled window about 80 bytes a layer, head and query, any other a few kB a layer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quant/core/byte_stream.h"

namespace qfid::eval {

enum class Observation : std::uint8_t {
  distortion,
  rows,
  prob_counts,
  codes,
  divergence,
  coded,
  histogram,
  recoded,
  parts,
  magnitudes,
  outliers
};

inline void put(quant::ByteWriter& log, const std::string& text) { log.text(text); }
template <quant::PlainBytes T>
void put(quant::ByteWriter& log, const T& number) {
  log.number(number);
}
template <quant::PlainBytes T>
void put(quant::ByteWriter& log, const std::vector<T>& list) {
  log.list(list);
}
template <class T>
void put(quant::ByteWriter& log, const std::vector<std::vector<T>>& lists) {
  log.number<std::uint64_t>(lists.size());
  for (const std::vector<T>& list : lists) log.list(list);
}

/// Nothing without a log.
template <class... Parts>
void note(quant::ByteWriter* log, Observation kind, const Parts&... parts) {
  if (log == nullptr) return;
  log->number(kind);
  (put(*log, parts), ...);
}

}  // namespace qfid::eval
