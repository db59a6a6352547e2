// Linears in E4M3 with a scale for each 1 x 128 activations and each 128 x 128 or 1 x 128 weights.
#include <algorithm>
#include <cmath>

#include "quant/distortion.h"
#include "tests/kernels/gpu/gpu_fixture.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

struct Weights {
  const char *scheme, *name;
  std::int64_t rows;  // that share a scale
};
constexpr Weights blocks{"e4m3/block(128x128)", "scales 1x128, 128x128", 128},
    groups{"e4m3/group(128)", "scales 1x128, 1x128", 1};

LinearProblem problem(const Weights& weights, std::int64_t in, std::int64_t out, const std::string& range = "") {
  return linear_problem(in, out, weights.scheme + range, "e4m3/group(128)" + range);
}

/// Skips the test, saying why, where the device hasn't got these products.
std::unique_ptr<Backend> with_blocks() {
  auto device = gpu();
  if (const Support here = device->supports(problem(blocks, 256, 136)); !here) SKIP(here.reason);
  return device;
}

/// Numbers +-448 * 2^e with an e in [-2, 2] of its own for every granule: codes and scales are exact, and so are all sums,
/// in the tensor cores' accumulator too.
Tensor exact(const Shape& shape, std::int64_t granule_rows, std::uint64_t seed) {
  const std::int64_t columns = shape[shape.rank() - 1], rows = shape.elements() / columns;
  quant::Random random(seed);
  Tensor x(DType::f32, shape);
  std::vector<int> exponents(static_cast<std::size_t>((rows / granule_rows + 1) * (columns / 128)));
  for (int& e : exponents) e = static_cast<int>(random.uniform() * 5) - 2;
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    const std::int64_t granule = i / columns / granule_rows * (columns / 128) + i % columns / 128;
    const double sign = random.uniform() < 0.5 ? -448 : 448;
    x.view<float>()[i] = static_cast<float>(std::ldexp(sign, exponents[static_cast<std::size_t>(granule)]));
  }
  return x;
}

struct Size {
  std::int64_t windows, tokens, in, out;
};
constexpr Size sizes[] = {{1, 1, 128, 16},   {2, 5, 384, 136},     {3, 43, 640, 257},
                          {1, 4, 1536, 384}, {40, 512, 384, 1536}, {1, 4099, 384, 1536}};

}  // namespace

TEST_CASE("every scale of a group and of a block is multiplied where it belongs: exact sums, to the bit") {
  const auto device = with_blocks();
  for (const Weights& weights : {blocks, groups})
    for (const Size& s : sizes) {
      const std::int64_t rows = s.windows * s.tokens;
      const Tensor x = exact(Shape{s.windows, s.tokens, s.in}, 1, 31), w = exact(Shape{s.out, s.in}, weights.rows, 32),
                   bias = Tensor::zeros(DType::f32, Shape{s.out});
      const Tensor y = run_linear(*device, problem(weights, s.in, s.out), x, w, bias).dst;
      std::int64_t wrong = 0;
      const std::int64_t step = std::max<std::int64_t>(1, rows / 300);
      for (std::int64_t r = (rows - 1) % step; r < rows; r += step)  // the last one too
        for (std::int64_t o = 0; o < s.out; ++o) {
          double sum = 0;
          for (std::int64_t i = 0; i < s.in; ++i)
            sum += static_cast<double>(x.view<float>()[r * s.in + i]) * static_cast<double>(w.view<float>()[o * s.in + i]);
          wrong += static_cast<double>(y.view<float>()[r * s.out + o]) == sum ? 0 : 1;
        }
      CAPTURE(weights.scheme, s.windows, s.tokens, s.in, s.out);
      CHECK(wrong == 0);
    }
}

TEST_CASE("random numbers by group and block follow the reference, bias and counts too") {
  const auto device = with_blocks();
  const auto host = make_backend("reference");
  const auto follows = [&](const Weights& weights, const Size& s, const std::string& range) {
    const Tensor x = filled(Shape{s.windows, s.tokens, s.in}, 33, 3), w = filled(Shape{s.out, s.in}, 34),
                 bias = filled(Shape{s.out}, 35);
    const LinearProblem p = problem(weights, s.in, s.out, range);
    const LinearRun expected = run_linear(*host, p, x, w, bias), got = run_linear(*device, p, x, w, bias);
    quant::DistortionStats stats;
    stats.add(expected.dst.view<float>().span(), got.dst.view<float>().span());
    CAPTURE(weights.scheme, s.windows, s.tokens, s.in, s.out, range, got.implementation);
    CHECK(got.implementation.find(weights.name) != std::string::npos);
    CHECK(got.counts.flushed == expected.counts.flushed);
    CHECK(got.counts.elements == s.windows * s.tokens * s.in);
    // Both sum the same products of codes: what differs is the accumulator, 2^-13 of the largest product at each step.
    CHECK(*stats.nmse() <= std::pow(accumulation(static_cast<double>(s.in), 0x1p-13, 1), 2));
    CHECK(std::fabs(*stats.gain() - 1) <= 1e-3);
  };
  for (const Weights& weights : {blocks, groups}) {
    for (int i = 0; i < 4; ++i) follows(weights, sizes[i], "");
    for (const char* range : {"/fixed(9)", "/percentile(99)", "/mse"}) follows(weights, sizes[2], range);
  }
}

TEST_CASE("by group and block, what cuBLASLt hasn't got is refused with its reason") {
  const auto device = with_blocks();
  for (const Weights& weights : {blocks, groups}) {
    LinearProblem fast = problem(weights, 256, 136);
    fast.fast_accum = true;
    CHECK(device->supports(fast).reason ==
          "fast_accum isn't offered with scales along K: " + to_string(fast.activations) + " by " + to_string(fast.weights));
    CHECK(device->supports(problem(weights, 200, 136)).reason.find("multiples of 128, not 200") != std::string::npos);
    CHECK(device->supports(linear_problem(256, 136, weights.scheme, "e4m3/token")).reason.find("group and block") !=
          std::string::npos);
  }
}
