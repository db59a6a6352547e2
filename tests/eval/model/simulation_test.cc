// Simulated W8A8's grids and ranges by hand; whole models are compared with PyTorch in tests/simulated.
#include "eval/model/simulation.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>

#include "kernels/registry/registry.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::eval;

namespace {

quant::Tensor row(std::initializer_list<float> values) {
  quant::Tensor x(quant::DType::f32, quant::Shape{1, 1, static_cast<std::int64_t>(values.size())});
  std::copy(values.begin(), values.end(), x.view<float>().data());
  return x;
}

std::vector<float> numbers(const quant::Tensor& x) {
  const auto span = x.view<float>().span();
  return {span.begin(), span.end()};
}

struct Site {
  explicit Site(SimulationSpec spec) : backend(kernels::make_backend("reference")), simulation(*backend, spec) {
    simulation.estimate(true);
  }
  std::vector<float> see(std::initializer_list<float> values) {
    return numbers(backend->download(simulation.at("s", backend->upload(row(values)))));
  }
  std::unique_ptr<kernels::Backend> backend;
  Simulation simulation;
};

}  // namespace

TEST_CASE("ranges: the first batch's extremes, then a running mean; each batch is rounded with the range it has moved") {
  Site site({});
  // [-1, 254]: steps of 1, zero at 1.
  CHECK(site.see({-1, 0.4F, 0.6F, 254, 100.5F, 101.5F}) == std::vector<float>{-1, 0, 1, 254, 100, 102});
  CHECK(site.simulation.ranges().at("s") == quant::Range{-1, 254});
  site.see({-11, 4});  // .9 of the old and .1 of the new
  const quant::Range moved = site.simulation.ranges().at("s");
  CHECK(std::fabs(moved.min + 2) < 1e-6F);
  CHECK(std::fabs(moved.max - 229) < 1e-4F);
  site.simulation.estimate(false);
  const std::vector<float> fixed = site.see({-1000, 1000});  // beyond the ends: the ends
  CHECK(site.simulation.ranges().at("s") == moved);
  CHECK(std::fabs(fixed[0] + 2) < 0.5F);
  CHECK(std::fabs(fixed[1] - 229) < 0.5F);
  CHECK_THROWS(site.simulation.at("elsewhere", site.backend->upload(row({1}))));
}

TEST_CASE("ranges that don't hold 0 are widened to it; nothing but zeros stays zero") {
  Site above({});
  CHECK(above.see({2.04F, 255}) == std::vector<float>{2, 255});
  Site below({});
  CHECK(below.see({-255, -2.04F}) == std::vector<float>{-255, -2});
  Site nothing({});
  CHECK(nothing.see({0, 0}) == std::vector<float>{0, 0});
}

TEST_CASE("percentiles are interpolated as numpy's") {
  SimulationSpec spec;
  spec.percentile = 75;
  Site site(spec);
  site.see({4, 1, 2, 3, 0});  // sorted 0 1 2 3 4: the 25th is 1, the 75th 3
  CHECK(site.simulation.ranges().at("s") == quant::Range{1, 3});
  Site between(spec);
  between.see({10, 0});
  CHECK(between.simulation.ranges().at("s") == quant::Range{2.5F, 7.5F});
}

TEST_CASE("weights: signed and unsigned grids, mse against minmax, the head as it was") {
  DecoderWeights weights;
  weights.embed_tokens = quant::Tensor(quant::DType::f32, quant::Shape{2, 2});
  const std::initializer_list<float> signed_values{-127, 0.4F, 3.6F, 20};
  std::copy(signed_values.begin(), signed_values.end(), weights.embed_tokens.view<float>().data());
  weights.final_norm_gamma = quant::Tensor(quant::DType::f32, quant::Shape{2});
  weights.final_norm_gamma.view<float>()[0] = 255;
  weights.final_norm_gamma.view<float>()[1] = 0.6F;
  const DecoderWeights rounded = simulated_weights(weights, {});
  CHECK(numbers(rounded.embed_tokens) == std::vector<float>{-127, 0, 4, 20});
  CHECK(numbers(rounded.final_norm_gamma) == std::vector<float>{255, 1});  // no negative one: 256 steps above 0
  CHECK(numbers(rounded.lm_head) == numbers(weights.embed_tokens));
  // One far outlier among many small weights: the range of least squared error cuts it off.
  DecoderWeights far;
  far.embed_tokens = quant::Tensor(quant::DType::f32, quant::Shape{1, 20000});
  float* w = far.embed_tokens.view<float>().data();
  for (int i = 0; i < 20000; ++i) w[i] = static_cast<float>(i % 101 - 50) / 100;
  w[0] = 10;
  SimulationSpec mse;
  mse.mse_weights = true;
  const auto error = [&](const SimulationSpec& spec) {
    const std::vector<float> got = numbers(simulated_weights(far, spec).embed_tokens);
    double sum = 0;
    for (int i = 0; i < 20000; ++i) sum += std::pow(static_cast<double>(got[static_cast<std::size_t>(i)] - w[i]), 2);
    return sum;
  };
  CHECK(error(mse) < error({}));
  CHECK(numbers(simulated_weights(far, {}).embed_tokens)[0] == 10);
}

TEST_CASE("attention: an additive mask hides keys behind the rounding of scores, as the key mask does") {
  const auto backend = kernels::make_backend("reference");
  kernels::AttentionProblem problem;
  problem.head_dim = problem.v_head_dim = 2;
  const auto tensor = [&](std::initializer_list<float> values) {
    quant::Tensor x(quant::DType::f32, quant::Shape{1, 2, 1, 2});
    std::copy(values.begin(), values.end(), x.view<float>().data());
    return backend->upload(x);
  };
  kernels::AttentionInputs inputs;
  inputs.q = tensor({1, 0, 0, 1});
  inputs.k = tensor({1, 2, 3, 4});
  inputs.v = tensor({0, 255, 255, 0});
  const auto run = [&] {
    Simulation simulation(*backend, {});
    simulation.estimate(true);
    const kernels::AttentionResult result = simulation.attention("0.", problem, inputs, nullptr);
    CHECK(simulation.ranges().at("0.scores").max > 2);  // of all scores, hidden or not
    return numbers(backend->download(result.output));
  };
  const std::vector<float> open = run();
  CHECK((open[0] > 0 && open[0] < 255));
  quant::Tensor bias = quant::Tensor::zeros(quant::DType::f32, quant::Shape{1, 1, 2, 2});
  bias.view<float>()[1] = bias.view<float>()[3] = -std::numeric_limits<float>::infinity();
  inputs.bias = backend->upload(bias);
  CHECK(run() == std::vector<float>{0, 255, 0, 255});
  inputs.bias = {};
  quant::Tensor mask(quant::DType::u8, quant::Shape{1, 2});
  mask.view<std::uint8_t>()[0] = 1;
  mask.view<std::uint8_t>()[1] = 0;
  inputs.key_mask = backend->upload(mask);
  CHECK(run() == std::vector<float>{0, 255, 0, 255});
}
