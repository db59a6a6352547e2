// Attention problems of every variant, shape and scheme, filled with data that has sinks, outliers and padding, and the
// means to run and judge them.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/backend.h"
#include "kernels/oracle/oracle.h"
#include "quant/core/tensor.h"
#include "tests/kernels/backends.h"

namespace qfid::tests {

using namespace qfid::kernels;
using quant::Tensor;

struct Case {
  std::int64_t batch = 2, q_len = 33, kv_len = 33, q_heads = 2, kv_heads = 2, d = 16, dv = 16;
  bool causal = true, padded = false, biased = false, sink = false;
  std::optional<Gate> gate{};
  std::string fill = "normal";
};

struct Inputs {
  Tensor q, k, v, gate_logits, sink, key_mask, bias;
};

AttentionProblem problem_of(const Case& c, const AttentionSchemes& schemes, ExecutionMode mode = ExecutionMode::real);
Inputs inputs_of(const Case& c, std::uint64_t seed);

struct Run {
  Tensor output;
  std::map<TapPoint, Tensor> taps;
  std::vector<ProbCounts> probs;
};

/// Runs `p` on `backend`; with `listen`, every tap is collected.
Run run(Backend& backend, const AttentionProblem& p, const Inputs& in, bool listen = true);

/// The oracle on head (b, h) of the inputs, unquantized.
oracle::HeadResult judge(const Case& c, const Inputs& in, std::int64_t b, std::int64_t h);

/// Largest excess of |o - oracle| over its tolerance; above 1 fails. `fault` scales the output (to show the test's power).
double worst_excess(const Case& c, const Inputs& in, const Run& r, double fault = 1.0);

/// Lengths round the block sizes, causal and not, padding, bias, GQA, sink-like K, outlier channels, zero rows.
std::vector<Case> shapes();
/// shapes() and the gates and learnable sinks.
std::vector<Case> variants();
AttentionSchemes schemes(const std::string& q, const std::string& k, const std::string& p, const std::string& v);

struct Named {
  std::string name;
  AttentionSchemes schemes;
};
std::vector<Named> quantized_schemes();

bool same_bits(const Tensor& a, const Tensor& b);

}  // namespace qfid::tests
