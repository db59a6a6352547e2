// Calls that LayerTables and LayerSamples wrote down (observation.h), made again.
#include "eval/metrics/layer_tables.h"
#include "eval/metrics/row_numbers.h"

namespace qfid::eval {

using quant::ByteReader;

namespace {

std::vector<std::vector<std::int64_t>> histograms_by_head(ByteReader& from) {
  const auto heads = from.number<std::uint64_t>();
  std::vector<std::vector<std::int64_t>> all;
  for (std::uint64_t h = 0; h < heads; ++h) all.push_back(from.list<std::int64_t>());
  return all;
}

/// Groups, heads or windows: what divides the number of entries.
template <class Number>
Number divisor(ByteReader& from) {
  const auto n = from.number<Number>();
  ByteReader::check(n > 0);
  return n;
}

}  // namespace

void LayerTables::log_to(quant::ByteWriter* log) {
  log_ = log;
  samples_.log_to(log);
}

void LayerTables::replay(ByteReader& from) {
  while (!from.done()) {
    const auto kind = from.number<Observation>();
    if (kind > Observation::codes) {
      samples_.replay(kind, from);
      continue;
    }
    const int layer = from.number<int>();
    if (kind == Observation::distortion) {
      const std::string tap = from.text(), error = from.text();
      const auto stats = from.list<quant::DistortionStats>();
      add_distortion(layer, tap, error, stats, divisor<int>(from));
    } else if (kind == Observation::rows) {
      const std::string tap = from.text();
      add_rows(layer, tap, from.list<kernels::RowStats>());
    } else if (kind == Observation::prob_counts) {
      const auto counts = from.list<kernels::ProbCounts>();
      add_prob_counts(layer, counts, divisor<int>(from));
    } else {
      const std::string site = from.text();
      add_codes(layer, site, from.number<quant::CodeCounts>());
    }
  }
}

void LayerSamples::replay(Observation kind, ByteReader& from) {
  const int layer = from.number<int>();
  if (kind == Observation::divergence || kind == Observation::coded) {
    const std::string error = from.text();
    const auto windows = divisor<std::int64_t>(from);
    const int heads = divisor<int>(from);
    if (kind == Observation::divergence)
      add_divergence(layer, error, read_rows<kernels::RowDivergence>(from), windows, heads);
    else
      add_coded(layer, error, read_rows<kernels::CodedDivergence>(from), windows, heads);
  } else if (kind == Observation::histogram) {
    const auto scheme = from.number<kernels::ProbScheme>();
    add_histogram(layer, scheme, from.list<std::int64_t>());
  } else if (kind == Observation::recoded) {
    const auto real = histograms_by_head(from), emulated = histograms_by_head(from);
    ByteReader::check(real.size() == emulated.size());
    add_recoded(layer, real, emulated);
  } else if (kind == Observation::parts) {
    const auto parts = from.list<kernels::OutputSplit>();
    add_parts(layer, parts, divisor<int>(from));
  } else {
    ByteReader::check(kind == Observation::magnitudes || kind == Observation::outliers);
    const std::string tap = from.text();
    if (kind == Observation::magnitudes)
      add_magnitudes(layer, tap, from.list<kernels::Magnitudes>());
    else
      add_outliers(layer, tap, from.list<kernels::OutlierSplit>());
  }
}

}  // namespace qfid::eval
