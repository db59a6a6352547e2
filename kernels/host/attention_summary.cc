// attention_summary over host memory: one pass over the rows of each head.
#include <cfloat>
#include <cmath>

#include "kernels/host/host_memory.h"
#include "kernels/host/reductions.h"
#include "kernels/host/vector_math.h"
#include "quant/core/dispatch.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::host {

namespace {

constexpr int lanes = 8;

struct RowLogs {
  double mass = 0, entropy = 0, logs = 0;  ///< sums of p, of -p ln p, of ln p
};

/// A row of n seen keys, also added to the columns' sums.
struct ReadRow {
  __attribute__((always_inline)) RowLogs operator()(const float* p, std::int64_t n, double* columns) const {
    double mass[lanes] = {}, entropy[lanes] = {}, logs[lanes] = {};
    const auto step = [&](const float* x, double* column, int width) __attribute__((always_inline)) {
      float part[lanes];
      for (int j = 0; j < lanes; ++j) part[j] = j < width ? x[j] : 1.0F;  // ln 1 = 0
      for (int j = 0; j < lanes; ++j) {
        const double value = part[j], log = log_lane(part[j] < FLT_MIN ? static_cast<double>(FLT_MIN) : value);
        entropy[j] -= value * log;
        logs[j] += log;
        mass[j] += j < width ? value : 0.0;
      }
      for (int j = 0; j < width; ++j) column[j] += static_cast<double>(x[j]);
    };
    std::int64_t i = 0;
    for (; i + lanes <= n; i += lanes) step(p + i, columns + i, lanes);
    if (i < n) step(p + i, columns + i, static_cast<int>(n - i));
    RowLogs sums;
    for (int j = 0; j < lanes; ++j) {
      sums.mass += mass[j];
      sums.entropy += entropy[j];
      sums.logs += logs[j];
    }
    return sums;
  }
};

double floored_log(float p) { return std::log(static_cast<double>(p < FLT_MIN ? FLT_MIN : p)); }

AttentionSummary summary_of(const float* p, std::int64_t queries, std::int64_t keys, bool causal) {
  AttentionSummary out;
  std::vector<double> columns(static_cast<std::size_t>(keys));
  double given = 0;
  for (std::int64_t q = 0; q < queries; ++q, p += keys) {
    const std::int64_t own = q + keys - queries, seen = causal ? own + 1 : keys;
    if (seen <= 0) continue;
    const RowLogs row = quant::dispatched(ReadRow{}, p, seen, columns.data());
    if (row.mass == 0) continue;
    ++out.rows;
    given += row.mass;
    const double missing = 1 - row.mass > 1e-5 ? 1 - row.mass : 0;
    out.sink_mass_sum += missing;
    out.entropy_sum += row.entropy - (missing > 0 ? missing * std::log(missing) : 0);
    if (!causal || own < 2) continue;
    ++out.gap_rows;
    const double first = floored_log(p[0]);
    out.gap_sum += first - (row.logs - first - floored_log(p[own])) / static_cast<double>(own - 1);
  }
  for (std::int64_t k = 1; k < keys; ++k)
    if (columns[static_cast<std::size_t>(k)] > columns[static_cast<std::size_t>(out.top_key)]) out.top_key = k;
  if (given > 0) out.top_key_share = columns[static_cast<std::size_t>(out.top_key)] / given;
  return out;
}

}  // namespace

std::vector<AttentionSummary> HostReductions::attention_summary(const DeviceTensor& probs, bool causal) {
  const Shape& s = probs.shape;
  quant::require(s.rank() == 4 && s[3] > 0, "attention_summary: probabilities must be [B, H, Tq, Tk]");
  const float* p = view<float>(probs).data();
  std::vector<AttentionSummary> all(static_cast<std::size_t>(s[0] * s[1]));
  quant::FirstError error;
#pragma omp parallel for schedule(static)
  for (std::int64_t h = 0; h < s[0] * s[1]; ++h)
    error.guard([&] { all[static_cast<std::size_t>(h)] = summary_of(p + h * s[2] * s[3], s[2], s[3], causal); });
  error.rethrow();
  return all;
}

}  // namespace qfid::kernels::host
