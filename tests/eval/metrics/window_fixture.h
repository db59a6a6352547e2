// Sums of real windows: tests/eval/metrics/window_sums.csv, what `runs[].windows` of results.json held (6 digits) after
//   qfid run, model configs/models/tiny-softmax, tokens configs/data/tiny-tokens.npy, protocol window, first_token 0,
//   the first 1,024 windows of 256 tokens, cpu backend (oneDNN 3.7.2, avx512_core_bf16), targets int8-token (preset
//   int8-per-token) and int8-tensor (preset int8-per-tensor) less the f32 baseline on the same tokens.
// They are skewed (KL of int8-token: skewness 1.8, kurtosis 12) and neighbours depend on each other (KL of int8-tensor:
// autocorrelation .19, .14, .12): what a gate meets in practice.
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "eval/metrics/mean_test.h"

namespace qfid::tests {

struct WindowColumn {
  std::string name;  ///< "int8-token.kl", ...
  eval::SumKind kind = eval::SumKind::real;
  std::vector<double> sums;
  double mean = 0;  ///< per token, over all windows
};
inline constexpr std::int64_t fixture_tokens = 256;  ///< in every window

inline std::vector<WindowColumn> window_fixture() {
  std::ifstream file(std::string(QFID_SOURCE_DIR) + "/tests/eval/metrics/window_sums.csv");
  if (!file) throw std::runtime_error("window_sums.csv can't be read");
  std::string line, cell;
  std::getline(file, line);
  std::vector<WindowColumn> columns;
  std::istringstream names(line);
  while (std::getline(names, cell, ','))
    columns.push_back({cell, cell.ends_with("top1_agree") ? eval::SumKind::events : eval::SumKind::real, {}, 0});
  while (std::getline(file, line)) {
    std::istringstream cells(line);
    for (WindowColumn& column : columns) {
      std::getline(cells, cell, ',');
      column.sums.push_back(std::stod(cell));
      column.mean += column.sums.back();
    }
  }
  for (double tokens : columns.front().sums)
    if (tokens != fixture_tokens) throw std::runtime_error("window_sums.csv: a window of other than 256 tokens");
  columns.erase(columns.begin());
  for (WindowColumn& column : columns) column.mean /= static_cast<double>(fixture_tokens) * 1024;
  return columns;
}

}  // namespace qfid::tests
