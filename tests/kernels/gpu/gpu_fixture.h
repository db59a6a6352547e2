// What the tests of the gpu backend alone share.
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <memory>
#include <string>

#include "kernels/registry/registry.h"
#include "quant/core/random.h"

namespace qfid::tests {

using namespace qfid::kernels;
using quant::Tensor;

/// Skips the test, saying why, where there is no GPU.
inline std::unique_ptr<Backend> gpu() {
  auto backend = make_backend("gpu");
  if (const Support here = backend->available(); !here) SKIP("backend gpu isn't here: " << here.reason);
  return backend;
}

inline Tensor filled(const Shape& shape, std::uint64_t seed, double scale = 1) {
  quant::Random random(seed);
  Tensor tensor(DType::f32, shape);
  for (float& x : tensor.view<float>().span()) x = static_cast<float>(scale * random.normal());
  return tensor;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

inline LinearProblem linear_problem(std::int64_t in, std::int64_t out, const std::string& weights,
                                    const std::string& activations) {
  return {in, out, quant::parse_scheme(weights), quant::parse_scheme(activations), ExecutionMode::real};
}

struct LinearRun {
  Tensor dst;
  quant::CodeCounts counts;
  std::string implementation;
};
inline LinearRun run_linear(Backend& backend, const LinearProblem& p, const Tensor& x, const Tensor& w, const Tensor& bias,
                            const std::vector<quant::Range>& ranges = {}) {
  const auto prepared = backend.prepare(p, {w.view<float>(), bias.view<float>(), ranges});
  LinearRun run;
  run.dst = backend.download(backend.linear(*prepared, backend.upload(x), &run.counts));
  run.implementation = prepared->implementation();
  return run;
}

}  // namespace qfid::tests
