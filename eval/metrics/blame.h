// Where a target's damage sits, and whose it is: the worst place (layer, head, tap) of the local errors, and the worst place
// where the kernel departs from its emulated twin by more than its accumulator explains. Read from the rows of the layer
// tables alone, so a record that was read back is judged as the run was.
//
// A kernel is suspect where, fed the same inputs as its twin, it is beyond one of the limits below. Of the places beyond,
// the farthest counts, but attention's probabilities, and then their codes, come before its output, which they make. A
// kernel may be suspect although the format's error is far larger: the two findings stand side by side.
//
// Left out: faults that the twin shares (a wrong calibration is the format's), and those outside the layers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/metrics/metric.h"

namespace qfid::eval {

/// What a kernel may add to the format on equal inputs. NMSE of a linear: two accumulations of the same products, 4 K u^2 of
/// the result for u the accumulator's epsilon. Of attention's output: a P code in some hundreds rounds the other way (one
/// step; tests/support/tolerance.h). Of probabilities: KL of a row whose scores differ by d is below d^2.
struct KernelLimits {
  double gain = 1e-3;          ///< |gain - 1|, any tap
  double linear_nmse = 1e-10;  ///< f32 and s32 sums: K up to 7000
  double output_nmse = 1e-4;   ///< attention's output
  double probs_kl = 1e-7;      ///< scores off by 3e-4
  double p_codes = 0.1;        ///< histogram_distance: codes that round the other way are few, and go both ways
};
/// Tensor cores keep about 14 bits of an FP8 sum (docs/numerics.md), some cut bf16 sums.
inline constexpr KernelLimits narrow_accumulator{1e-3, 1e-6, 1e-4, 1e-4, 0.1};

struct BlamedPlace {
  int layer = -1;  ///< -1: every layer that has such rows
  int head = -1;   ///< -1: all heads, or a tap without heads
  std::string tap;
  std::optional<double> gain, nmse, sqnr_db, kl;  ///< of the worst row; kl of probabilities, the others of tensors
  std::optional<double> histogram_distance;       ///< of codes of P
  double beyond = 0;                              ///< kernel: times its limit
  int places = 0, of = 0;                         ///< kernel: rows beyond their limits, and rows compared
};

enum class Party : std::uint8_t { unknown, format, kernel };

struct Blame {
  std::optional<BlamedPlace> damage;  ///< the worst local error; nothing: none was measured, or all is exact
  Party party = Party::unknown;       ///< who makes more of the error in that place; unknown: no twin ran there
  std::optional<BlamedPlace> kernel;  ///< where the kernel is suspect; nothing: nowhere
};
Blame blame(const std::vector<LayerRow>& rows, const KernelLimits& limits);

}  // namespace qfid::eval
