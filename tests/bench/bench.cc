#include "tests/bench/bench.h"

#include <cmath>
#include <cstring>
#include <format>

#include "kernels/registry/registry.h"
#include "quant/core/random.h"
#include "quant/distortion.h"

namespace qfid::bench {

namespace {
bool failed = false;
}

std::vector<std::int64_t> Registry::sizes(std::vector<std::int64_t> all) const {
  if (smoke_) all.resize(1);
  return all;
}

void Registry::add(const std::string& name, const std::function<void(benchmark::State&)>& body) const {
  auto* entry = benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime()->Unit(benchmark::kMicrosecond);
  if (smoke_) entry->Iterations(1);
}

std::vector<std::string> backends() {
  std::vector<std::string> names{"reference"};
  for (const char* name : {"cpu", "gpu"})
    if (kernels::make_backend(name)->available()) names.emplace_back(name);
  return names;
}

Tensor filled(const Shape& shape, std::uint64_t seed) {
  constexpr std::size_t period = 65537;
  quant::Random random(seed);
  std::vector<float> numbers(period);
  for (float& x : numbers) x = static_cast<float>(random.normal());
  Tensor tensor(DType::f32, shape);
  std::size_t i = 0;
  for (float& x : tensor.view<float>().span()) x = numbers[i++ % period];
  return tensor;
}

void fail(benchmark::State& state, const std::string& message) {
  failed = true;
  state.SkipWithError(message);
}

bool any_failed() { return failed; }

std::string difference(const Tensor& expected, const Tensor& got, bool exact, double gain, double nmse) {
  if (exact) {
    const bool same = expected.bytes() == got.bytes() && std::memcmp(expected.raw(), got.raw(), got.bytes()) == 0;
    return same ? "" : "not the bits of the reference";
  }
  quant::DistortionStats stats;
  stats.add(expected.view<float>().span(), got.view<float>().span());
  if (stats.nan_count() > 0) return std::format("{} NaNs", stats.nan_count());
  if (!stats.gain()) return "the reference is all zero";
  if (std::fabs(*stats.gain() - 1) <= gain && *stats.nmse() <= nmse) return "";
  return std::format("against the reference: gain {:.9g}, expected 1 +- {:.1e}; NMSE {:.2e}, expected at most {:.1e}",
                     *stats.gain(), gain, *stats.nmse(), nmse);
}

void count_operations(benchmark::State& state, double operations) {
  state.counters["op"] = benchmark::Counter(operations, benchmark::Counter::kIsIterationInvariantRate);
}

void count_tokens(benchmark::State& state, std::int64_t tokens) {
  state.counters["tokens"] = benchmark::Counter(static_cast<double>(tokens), benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace qfid::bench
