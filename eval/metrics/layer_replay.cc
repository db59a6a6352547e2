// Calls that LayerTables and LayerSamples wrote down (observation.h), made again.
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "eval/metrics/layer_tables.h"
#include "eval/metrics/plausible.h"
#include "eval/metrics/row_numbers.h"

namespace qfid::eval {

using quant::ByteReader;

namespace {

constexpr std::size_t byte_codes = 256;

std::vector<std::vector<std::int64_t>> histograms_by_head(ByteReader& from) {
  const auto heads = from.number<std::uint64_t>();
  std::vector<std::vector<std::int64_t>> all;
  for (std::uint64_t h = 0; h < heads; ++h) {
    all.push_back(plausible_list<std::int64_t>(from));
    ByteReader::check(all.back().size() == byte_codes);
  }
  return all;
}

/// Groups, heads or windows: what divides the number of entries.
template <class Number>
Number divisor(ByteReader& from) {
  const auto n = from.number<Number>();
  ByteReader::check(n > 0);
  return n;
}

/// Of the fields only those that a histogram shows are looked at, as bytes: any byte may stand where a bool is expected.
kernels::ProbScheme scheme_of(ByteReader& from) {
  const auto bytes = from.number<std::array<std::byte, sizeof(kernels::ProbScheme)>>();
  kernels::ProbScheme scheme;
  std::memcpy(&scheme.format, bytes.data() + offsetof(kernels::ProbScheme, format), sizeof scheme.format);
  std::memcpy(&scheme.p_scale, bytes.data() + offsetof(kernels::ProbScheme, p_scale), sizeof scheme.p_scale);
  ByteReader::check(scheme.format <= quant::Format::e5m2 && std::isfinite(scheme.p_scale) && scheme.p_scale >= 0);
  return scheme;
}

}  // namespace

template <class Row>
std::vector<Row> LayerSamples::rows_of(ByteReader& from, const std::map<TableKey, Rows>& so_far, const TableKey& pooled,
                                       std::int64_t windows, int heads) const {
  std::vector<Row> rows = read_rows<Row>(from);
  const auto n = static_cast<std::int64_t>(rows.size());
  ByteReader::check(heads <= n && windows <= n / heads && n % (windows * heads) == 0);
  const std::int64_t of_a_head = n / heads;
  ByteReader::check(of_a_head <= most_rows_);
  if (const auto found = so_far.find(pooled); found != so_far.end())
    ByteReader::check(found->second.heads == heads && found->second.of_a_head <= most_rows_ - of_a_head);
  return rows;
}

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
      const auto stats = plausible_list<quant::DistortionStats>(from);
      add_distortion(layer, tap, error, stats, divisor<int>(from));
    } else if (kind == Observation::rows) {
      const std::string tap = from.text();
      add_rows(layer, tap, plausible_list<kernels::RowStats>(from));
    } else if (kind == Observation::prob_counts) {
      const auto counts = plausible_list<kernels::ProbCounts>(from);
      add_prob_counts(layer, counts, divisor<int>(from));
    } else {
      const std::string site = from.text();
      const auto counts = from.number<quant::CodeCounts>();
      ByteReader::check(plausible(counts));
      add_codes(layer, site, counts);
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
      add_divergence(
          layer, error,
          rows_of<kernels::RowDivergence>(from, divergence_, table_key(layer, "probs", error, -1), windows, heads), windows,
          heads);
    else
      add_coded(layer, error,
                rows_of<kernels::CodedDivergence>(from, coded_, table_key(layer, "p_codes", error, -1), windows, heads),
                windows, heads);
  } else if (kind == Observation::histogram) {
    const kernels::ProbScheme scheme = scheme_of(from);
    const auto counts = plausible_list<std::int64_t>(from);
    ByteReader::check(counts.size() == byte_codes);
    add_histogram(layer, scheme, counts);
  } else if (kind == Observation::recoded) {
    const auto real = histograms_by_head(from), emulated = histograms_by_head(from);
    ByteReader::check(real.size() == emulated.size());
    add_recoded(layer, real, emulated);
  } else if (kind == Observation::parts) {
    const auto parts = plausible_list<kernels::OutputSplit>(from);
    add_parts(layer, parts, divisor<int>(from));
  } else {
    ByteReader::check(kind == Observation::magnitudes || kind == Observation::outliers);
    const std::string tap = from.text();
    if (kind == Observation::magnitudes)
      add_magnitudes(layer, tap, plausible_list<kernels::Magnitudes>(from));
    else
      add_outliers(layer, tap, plausible_list<kernels::OutlierSplit>(from));
  }
}

}  // namespace qfid::eval
