// Which numbers of a query row the tables keep, in their order, and rows written down with no more than these.
#pragma once

#include <algorithm>
#include <array>

#include "eval/metrics/observation.h"
#include "kernels/reductions.h"

namespace qfid::eval {

template <class Row>
inline constexpr std::array<double Row::*, 0> numbers_of{};
template <>
inline constexpr std::array<double kernels::RowDivergence::*, 2> numbers_of<kernels::RowDivergence>{
    &kernels::RowDivergence::kl, &kernels::RowDivergence::tv};
template <>
inline constexpr std::array<double kernels::CodedDivergence::*, 3> numbers_of<kernels::CodedDivergence>{
    &kernels::CodedDivergence::tv, &kernels::CodedDivergence::jsd, &kernels::CodedDivergence::flushed};

/// Whether a row was seen takes no space where all were.
template <class Row>
void note_rows(quant::ByteWriter& log, Observation kind, int layer, const std::string& error, const std::vector<Row>& rows,
               std::int64_t windows, int heads) {
  note(&log, kind, layer, error, windows, heads);
  std::vector<std::uint8_t> seen;
  for (const Row& row : rows) seen.push_back(row.seen != 0);
  const bool all = std::find(seen.begin(), seen.end(), 0) == seen.end();
  log.list(all ? std::vector<std::uint8_t>{} : seen);
  std::vector<double> numbers;
  numbers.reserve(rows.size() * numbers_of<Row>.size());
  for (const Row& row : rows)
    for (double Row::* number : numbers_of<Row>) numbers.push_back(row.*number);
  log.list(numbers);
}

template <class Row>
std::vector<Row> read_rows(quant::ByteReader& from) {
  const auto seen = from.list<std::uint8_t>();
  const auto numbers = from.list<double>();
  std::vector<Row> rows(numbers.size() / numbers_of<Row>.size());
  quant::ByteReader::check(rows.size() * numbers_of<Row>.size() == numbers.size() &&
                           (seen.empty() || seen.size() == rows.size()));
  std::size_t next = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (double Row::* number : numbers_of<Row>) rows[i].*number = numbers[next++];
    rows[i].seen = seen.empty() ? 1 : seen[i];
  }
  return rows;
}

}  // namespace qfid::eval
