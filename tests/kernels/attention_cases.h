// Attention problems of every variant, shape and scheme, filled with data that has sinks, outliers and padding, and the
// means to run them.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/oracle/oracle.h"
#include "tests/kernels/support.h"

namespace qfid::tests {

struct Case {
  std::int64_t batch = 2, q_len = 33, kv_len = 33, q_heads = 2, kv_heads = 2, d = 16, dv = 16;
  bool causal = true, padded = false, biased = false, sink = false;
  std::optional<Gate> gate{};
  std::string fill = "normal";
  std::string to_string() const;
};

struct Inputs {
  Tensor q, k, v, gate_logits, sink, key_mask, bias;
};
Inputs inputs_of(const Case& c, std::uint64_t seed);

struct Named {
  std::string name;
  AttentionSchemes schemes;
};
/// Ranges for the operands with static schemes.
AttentionRanges static_ranges(const Case& c, const AttentionSchemes& schemes);
AttentionSchemes schemes(const std::string& q, const std::string& k, const std::string& p, const std::string& v);
/// Each format, granularity, timing and option.
std::vector<Named> quantized_schemes();
/// Those and f32.
std::vector<Named> all_schemes();

AttentionProblem problem_of(const Case& c, const AttentionSchemes& schemes, ExecutionMode mode = ExecutionMode::real);

struct Run {
  Tensor output;
  std::map<TapPoint, Tensor> taps;
  AttentionResult result;
  std::string implementation;
};
/// Runs `p` on `backend`; with `listen`, every tap is collected.
Run run(Backend& backend, const AttentionProblem& p, const Inputs& in, bool listen = true,
        const AttentionRanges& ranges = {});

/// Whether query i of window b sees key j: causal, padding, -inf in the additive mask.
bool visible(const Case& c, const Inputs& in, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j);
/// The oracle on head (b, h) of the inputs, unquantized.
oracle::HeadResult judge(const Case& c, const Inputs& in, std::int64_t b, std::int64_t h);

/// One window, causal, of a length: round every block size of the kernels.
std::vector<Case> lengths();
/// Causal and not, fewer queries than keys and more, padding, bias, GQA, sink-like K, outlier channels, zero rows.
std::vector<Case> shapes();
/// shapes() and the gates and learnable sinks.
std::vector<Case> variants();

}  // namespace qfid::tests
