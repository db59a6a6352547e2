// Calls written down and made again give the same tables, to the bit; half-written ones are an error.
#include <bit>
#include <catch2/catch_test_macros.hpp>

#include "eval/metrics/attention_sinks.h"
#include "eval/metrics/layer_tables.h"
#include "quant/core/random.h"
#include "tests/support/temporary_directory.h"

using namespace qfid;
using namespace qfid::eval;

namespace {

constexpr int heads = 3;
constexpr std::int64_t windows = 2, queries = 5;

/// Every call once, with numbers that no rounding leaves alone. `unseen`: some rows hold nothing.
void fill(LayerTables& tables, std::uint64_t seed, bool unseen) {
  quant::Random random(seed);
  const auto number = [&] { return std::abs(random.normal()) / 3; };
  std::vector<quant::DistortionStats> stats(windows * heads);
  for (quant::DistortionStats& s : stats)
    for (int i = 0; i < 7; ++i) s.add(static_cast<float>(number()), static_cast<float>(number()));
  tables.add_distortion(0, "q", "local", stats, heads);
  std::vector<kernels::RowStats> rows(windows);
  for (kernels::RowStats& r : rows) r = {5, number(), number(), number(), number(), 1, 2, 40, 0, number()};
  tables.add_rows(0, "residual", rows);
  tables.add_rows(0, "gate", rows);
  tables.add_prob_counts(0, std::vector<kernels::ProbCounts>(windows * heads, {10, 3, 1}), heads);
  tables.add_codes(0, "fc1", {100, 2, 5, 1});
  std::vector<kernels::RowDivergence> divergence(windows * heads * queries);
  for (std::size_t i = 0; i < divergence.size(); ++i) divergence[i] = {number(), number(), unseen && i % 4 == 0 ? 0 : 9};
  tables.samples().add_divergence(0, "local", divergence, windows, heads);
  std::vector<kernels::CodedDivergence> coded(windows * heads * queries);
  for (std::size_t i = 0; i < coded.size(); ++i) coded[i] = {number(), number(), number(), unseen && i % 3 == 0 ? 0 : 9};
  tables.samples().add_coded(0, "local", coded, windows, heads);
  std::vector<std::int64_t> counts(256, 4);
  tables.samples().add_histogram(0, {quant::Format::e4m3, 256, kernels::PReference::row_max, 64, false}, counts);
  counts[7] = 9;
  tables.samples().add_recoded(0, {counts, counts, counts}, {counts, std::vector<std::int64_t>(256, 1), counts});
  std::vector<kernels::OutputSplit> parts(windows * heads);
  for (kernels::OutputSplit& p : parts) p = {number(), number(), number(), number(), number(), number(), number(), number()};
  tables.samples().add_parts(0, parts, heads);
  tables.samples().add_magnitudes(0, "residual", {{40, 1, {number(), number(), number()}, number()}});
  std::vector<kernels::OutlierSplit> split(windows);
  for (kernels::OutlierSplit& o : split)
    o = {5, 8, 1, 2, number(), number(), number(), number(), number(), number(), number(), number()};
  tables.samples().add_outliers(0, "q", split);
}

/// Every number as its bits.
std::string bits_of(const LayerTables& tables) {
  std::string text;
  const auto add = [&](const std::string& name, const std::optional<double>& value) {
    text += name + " " + (value ? std::to_string(std::bit_cast<std::uint64_t>(*value)) : "null") + "\n";
  };
  for (const LayerRow& row : tables.rows())
    for (const auto& [column, value] : row.values)
      add(row.tap + "." + row.error + "." + std::to_string(row.head) + "." + column, value);
  for (const Metric& metric : tables.summary()) add(metric.name + metric.note, metric.value);
  for (const CodeHistogram& histogram : tables.samples().histograms())
    for (const std::int64_t count : histogram.counts) text += std::to_string(count) + " ";
  return text;
}

}  // namespace

TEST_CASE("tables replayed window by window are the same to the bit") {
  LayerTables straight(8, 64), replayed(8, 64);
  for (std::uint64_t chunk = 0; chunk < 3; ++chunk) {
    quant::ByteWriter log;
    straight.log_to(&log);
    fill(straight, chunk, chunk == 1);
    straight.log_to(nullptr);
    const std::string bytes = log.take();
    quant::ByteReader from(bytes);
    replayed.replay(from);
  }
  CHECK(bits_of(straight) == bits_of(replayed));
  CHECK(bits_of(straight).size() > 2000);
  // Sums of sums would not be: the test sees a changed order.
  LayerTables other(8, 64);
  for (const std::uint64_t chunk : {1, 0, 2}) fill(other, chunk, chunk == 1);
  CHECK(bits_of(straight) != bits_of(other));
}

TEST_CASE("without a log nothing is written; a log that ends early is an error") {
  LayerTables tables(8, 64);
  quant::ByteWriter log;
  tables.log_to(&log);
  tables.log_to(nullptr);
  fill(tables, 1, false);
  CHECK(log.bytes().empty());
  tables.log_to(&log);
  fill(tables, 2, true);
  const std::string bytes = log.take();
  int refused = 0;
  for (std::size_t size = 1; size < bytes.size(); size += 97) {
    LayerTables again(8, 64);
    const tests::Failure failure = tests::failure_of([&] {
      quant::ByteReader from(std::string_view(bytes).substr(0, size));
      again.replay(from);
    });
    if (failure.code != 0) {
      CHECK(failure.code == 3);
      ++refused;
    }
  }
  CHECK(refused > 10);
}

TEST_CASE("what no run writes is refused: counts that overflow, more rows than are sampled, places without end") {
  const auto code_of = [](const auto& fill_in) {
    LayerTables written(8, 64), read(8, 64);
    quant::ByteWriter log;
    written.log_to(&log);
    fill_in(written);
    quant::ByteReader from(log.bytes());
    return tests::failure_of([&] { read.replay(from); }).code;
  };
  const std::int64_t many = std::int64_t{1} << 40;
  CHECK(code_of([&](LayerTables& t) { t.add_codes(0, "fc1", {many, 0, 0, 0}); }) == 0);
  CHECK(code_of([&](LayerTables& t) { t.add_codes(0, "fc1", {many + 1, 0, 0, 0}); }) == 3);
  CHECK(code_of([&](LayerTables& t) { t.add_codes(0, "fc1", {5, 0, -1, 0}); }) == 3);
  CHECK(code_of([&](LayerTables& t) { t.add_prob_counts(0, {{1, many + 1, 0}}, 1); }) == 3);
  CHECK(code_of([&](LayerTables& t) { t.samples().add_recoded(0, {{1, 2}}, {{1, 2}}); }) == 3);
  CHECK(code_of([&](LayerTables& t) {
          t.samples().add_divergence(0, "local", std::vector<kernels::RowDivergence>(8 * 64), 8, 1);
        }) == 0);
  CHECK(code_of([&](LayerTables& t) {
          for (int i = 0; i < 2; ++i)
            t.samples().add_divergence(0, "local", std::vector<kernels::RowDivergence>(5 * 64), 5, 1);
        }) == 3);
  quant::ByteWriter log;  // 2^60 windows of no rows
  note(&log, Observation::divergence, 0, std::string("local"), std::int64_t{1} << 60, 1, std::vector<std::uint8_t>{},
       std::vector<double>{});
  LayerTables read(8, 64);
  quant::ByteReader from(log.bytes());
  CHECK(tests::failure_of([&] { read.replay(from); }).code == 3);
}

TEST_CASE("attention sinks replayed are the same; a place that isn't there is an error") {
  const auto add = [](AttentionSinks& sinks) {
    sinks.add_attention(1, {0.1, 0.7}, {0.3, 0.2});
    sinks.add_norms(1, {1, 2, 3, 4.5}, {0.5, 2, 3, 4});
    sinks.add_projected(1, {1, 2, 3, 4.25});
    sinks.add_gates(1, {0.25, 0.75});
    sinks.add_summary(1, {{3, 1.1, 0.2, 2, 0.7, 0, 0.4}, {3, 1.3, 0.1, 0, 0, 2, 0.6}});
  };
  AttentionSinks straight(2, 2, 0.3), replayed(2, 2, 0.3), smaller(1, 2, 0.3);
  quant::ByteWriter log;
  straight.log_to(&log);
  add(straight);
  quant::ByteReader from(log.bytes()), again(log.bytes());
  replayed.replay(from);
  REQUIRE(straight.rows().size() == replayed.rows().size());
  CHECK(straight.rows().size() == 2);
  for (std::size_t i = 0; i < straight.rows().size(); ++i) CHECK(straight.rows()[i].values == replayed.rows()[i].values);
  CHECK(straight.sink_heads() == replayed.sink_heads());
  CHECK(tests::failure_of([&] { smaller.replay(again); }).code == 3);
}
