// The parts of the per-layer tables that are taken on samples of windows, as they cost too much for all:
//
//   probs     KL and total variation of each query row before coding
//   p_codes   what coding P does to a row: total variation, Jensen-Shannon divergence, the mass that is lost to code 0
//             and, against the emulated twin, how far the kernel's codes are distributed otherwise
//   context   attention's error before an output-site gate, in P's and V's part, of the first key and of the others
//   residual  magnitudes: the largest, the median, massive activations (Sun et al. 2024, arXiv 2402.17762)
//   local     where the error lies: in tokens and channels with outliers, in the first token
//
// An outlier is a value further than six standard deviations from the mean of its window's tensor, as Bondarenko et al.
// count them (2021, arXiv 2109.12948; 2023, arXiv 2306.12929); an outlier token or channel has at least one. Left out: other
// rules (LLM.int8()'s magnitude above 6 depends on a model's scale), and outliers that only several windows together would
// show.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "eval/metrics/metric.h"
#include "eval/metrics/observation.h"
#include "eval/metrics/upper_tail.h"
#include "kernels/reductions.h"

namespace qfid::eval {

/// Where a row of the tables stands; in the order of the layer's data flow.
struct TableKey {
  int layer;
  int tap_order;
  std::string error;
  int head;
  std::string tap;
  auto operator<=>(const TableKey&) const = default;
};
TableKey table_key(int layer, const std::string& tap, const std::string& error, int head);

using TableValues = std::vector<std::pair<std::string, std::optional<double>>>;

class LayerSamples {
 public:
  /// `windows`: the most that are sampled; `length`: the most tokens that one of them may have.
  LayerSamples(std::int64_t windows, std::int64_t length) : most_rows_(windows * length) {}

  /// [windows * heads * queries], as Reductions::row_divergence and coded_divergence return them.
  void add_divergence(int layer, const std::string& error, const std::vector<kernels::RowDivergence>& rows,
                      std::int64_t windows, int heads);
  void add_coded(int layer, const std::string& error, const std::vector<kernels::CodedDivergence>& rows,
                 std::int64_t windows, int heads);
  /// Counts of codes of one byte, all heads together; `format` and `p_scale` say what a code stands for.
  void add_histogram(int layer, const kernels::ProbScheme& scheme, const std::vector<std::int64_t>& counts);
  /// Counts [heads][256] of a kernel's codes and of its emulated twin's, on the same inputs.
  void add_recoded(int layer, const std::vector<std::vector<std::int64_t>>& real,
                   const std::vector<std::vector<std::int64_t>>& emulated);
  /// [windows * heads], local.
  void add_parts(int layer, const std::vector<kernels::OutputSplit>& parts, int heads);
  /// One a window, of this run's own tensor.
  void add_magnitudes(int layer, const std::string& tap, const std::vector<kernels::Magnitudes>& windows);
  /// One a window, of a local error.
  void add_outliers(int layer, const std::string& tap, const std::vector<kernels::OutlierSplit>& windows);

  /// From here on every call above is also written down; null = no longer.
  void log_to(quant::ByteWriter* log) { log_ = log; }
  /// Makes one written call again; `kind` is what it begins with. Error{input}.
  void replay(Observation kind, quant::ByteReader& from);

  /// Adds rows, and columns to rows that are there.
  void add_to(std::map<TableKey, TableValues>& all) const;
  /// Model-level numbers: massive activations, what coding P does, local, over all rows.
  std::vector<Metric> summary() const;
  std::vector<CodeHistogram> histograms() const;

 private:
  struct Series {
    double sum = 0, max = 0;
    UpperTail tail;
    void add(double value, std::int64_t most);
  };
  struct Rows {
    std::int64_t n = 0;
    int heads = 0;                 ///< of the pooled rows: how many heads come together here,
    std::int64_t of_a_head = 0;    ///< and rows of each, those that weren't seen included
    std::array<Series, 3> series;  ///< before coding: KL, total variation; after: total variation, JSD, flushed mass
  };
  struct CodePair {
    std::vector<std::int64_t> real, emulated;
  };
  struct MagnitudeSums {
    std::int64_t windows = 0, massive = 0;
    double top[3] = {}, median = 0;
  };
  /// Rows by head and pooled: their numbers_of (row_numbers.h).
  template <class Row>
  void add_rows(std::map<TableKey, Rows>& to, const TableKey& pooled, const std::vector<Row>& rows, std::int64_t windows,
                int heads);

  /// Rows that were written, as many as these tables have room for. Error{input}.
  template <class Row>
  std::vector<Row> rows_of(quant::ByteReader& from, const std::map<TableKey, Rows>& so_far, const TableKey& pooled,
                           std::int64_t windows, int heads) const;

  std::int64_t most_rows_;  ///< of one head
  quant::ByteWriter* log_ = nullptr;
  std::map<TableKey, Rows> divergence_, coded_;
  std::map<TableKey, kernels::OutputSplit> parts_;
  std::map<TableKey, MagnitudeSums> magnitudes_;
  std::map<TableKey, kernels::OutlierSplit> outliers_;
  std::map<int, CodeHistogram> histograms_;
  std::map<TableKey, CodePair> recoded_;
};

}  // namespace qfid::eval
