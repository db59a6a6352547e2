// Linears of every scheme: weights, activations, bias, and the means to run and judge them.
#pragma once

#include <string>
#include <vector>

#include "kernels/linear.h"
#include "tests/kernels/support.h"
#include "tests/support/tolerance.h"

namespace qfid::tests {

struct LinearCase {
  std::int64_t in, out, tokens, batch = 2;
  bool bias = true;
};
struct LinearInputs {
  Tensor x, w, bias;  ///< bias empty without one
};
LinearInputs inputs_of(const LinearCase& c, std::uint64_t seed);

LinearProblem linear_problem(const LinearCase& c, const std::string& weights, const std::string& activations,
                             ExecutionMode mode = ExecutionMode::real);

struct LinearRun {
  Tensor y;
  std::string implementation;
  quant::CodeCounts counts;
};
/// Static activation schemes get the range [-2.5, 3].
LinearRun run(Backend& backend, const LinearProblem& p, const LinearInputs& in);

/// Codes of x and w by the schemes (quant/ is tested by its own suite), as whole numbers minus the zero point or as the
/// numbers they stand for, and their scales by row.
struct LinearOperands {
  std::vector<double> x, w;
  std::vector<float> x_scale, w_scale;  ///< [rows], [out]
};
LinearOperands operands_of(const LinearProblem& p, const LinearInputs& in);

/// dst = f32(sum) * (s_x * s_w) + bias with an exact sum, to the bit: what INT8 must give.
Tensor exact_integer_linear(const LinearProblem& p, const LinearInputs& in);
/// Largest difference from the oracle over its tolerance, given the codes; `faulty` multiplies the scale of output o and the
/// scale of row r of the expectation.
double worst_excess(const std::string& backend, const LinearProblem& p, const LinearInputs& in, const Tensor& y,
                    std::int64_t faulty_output = -1, std::int64_t faulty_row = -1);
/// Gains of every output and of every row, bias left out; a fault as above.
struct LinearGains {
  std::vector<Gain> outputs, rows;
  double worst() const;
};
LinearGains gains(const std::string& backend, const LinearProblem& p, const LinearInputs& in, const Tensor& y,
                  std::int64_t faulty_output = -1, std::int64_t faulty_row = -1);

}  // namespace qfid::tests
