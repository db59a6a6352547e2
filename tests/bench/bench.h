// What the benchmarks share: how they are registered, filled, checked and counted. A problem is checked before it is timed:
// a wrong result ends the benchmark with an error, and the program with exit code 1.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "quant/core/tensor.h"

namespace qfid::bench {

using quant::DType;
using quant::Shape;
using quant::Tensor;

/// Of every family, either all sizes or, for the smoke run, the smallest, once.
class Registry {
 public:
  explicit Registry(bool smoke) : smoke_(smoke) {}
  bool smoke() const { return smoke_; }
  /// Sizes to register out of `all`, smallest first.
  std::vector<std::int64_t> sizes(std::vector<std::int64_t> all) const;
  void add(const std::string& name, const std::function<void(benchmark::State&)>& body) const;

 private:
  bool smoke_;
};

void register_codecs(const Registry& registry);
void register_quantizers(const Registry& registry);
void register_distortion(const Registry& registry);
void register_linears(const Registry& registry);
void register_attention(const Registry& registry);

/// Backends that are here: "reference", and "cpu" and "gpu" where they were built and can run.
std::vector<std::string> backends();

/// Standard normal numbers, repeated with a prime period of 65,537 (weights of a vocabulary would take seconds).
Tensor filled(const Shape& shape, std::uint64_t seed);

/// Ends the benchmark with an error; the program's exit code becomes 1.
void fail(benchmark::State& state, const std::string& message);
bool any_failed();

/// Empty when `got` may stand for `expected`: the same bits (exact), or gain and NMSE within the limits; else what differs.
std::string difference(const Tensor& expected, const Tensor& got, bool exact, double gain, double nmse);

/// Counters, as rates a second: "op" (a multiplication or an addition each counts one), "tokens".
void count_operations(benchmark::State& state, double operations);
void count_tokens(benchmark::State& state, std::int64_t tokens);

}  // namespace qfid::bench
