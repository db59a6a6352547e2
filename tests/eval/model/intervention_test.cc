// What interventions do to attention, held to identities worked out by hand, and the noise of module outputs.
#include "eval/model/intervention.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <set>

#include "eval/model/checkpoint.h"
#include "eval/model/decoder.h"
#include "kernels/registry/registry.h"
#include "quant/core/counter_random.h"

using namespace qfid;
using namespace qfid::eval;
using kernels::DeviceTensor;
using quant::Shape;
using quant::Tensor;

namespace {

struct Kept : kernels::TapSink {
  bool wants(kernels::TapPoint point) const override {
    return point == kernels::TapPoint::probs || point == kernels::TapPoint::gate;
  }
  void take(kernels::TapPoint point, const DeviceTensor& tensor) override {
    (point == kernels::TapPoint::probs ? probs : gate) = tensor;
  }
  DeviceTensor probs, gate;
};

/// A built-in model on one backend; the first layer on 24 tokens.
struct FirstLayer {
  explicit FirstLayer(const std::string& name, const std::string& on = "reference")
      : backend(kernels::make_backend(on)),
        config(read_config(std::string(QFID_SOURCE_DIR) + "/configs/models/" + name)),
        checkpoint(Checkpoint::open(std::string(QFID_SOURCE_DIR) + "/configs/models/" + name)),
        weights(load_weights(checkpoint, config)),
        resources(*backend, weights),
        precision(full(config)),
        decoder(resources, precision, {}) {
    Tensor ids(quant::DType::i32, Shape{1, length});
    for (int t = 0; t < length; ++t) ids.view<std::int32_t>().data()[t] = t == 0 ? 1 : 17 + 5 * t;
    hidden = decoder.embed(backend->upload(ids));
  }
  static DecoderPrecision full(const ModelConfig& config) {
    DecoderPrecision precision;
    precision.layers.resize(static_cast<std::size_t>(config.num_hidden_layers));
    return precision;
  }
  struct Result {
    Tensor output, v, probs, gate;
    LayerTrace trace;
  };
  Result run(Intervention* change = nullptr) {
    Kept kept;
    decoder.intervene(change);
    Result r;
    r.trace = decoder.layer(0, hidden, &kept);
    decoder.intervene(nullptr);
    r.output = backend->download(r.trace.output);
    r.v = backend->download(r.trace.v);
    r.probs = backend->download(kept.probs);
    if (kept.gate.defined()) r.gate = backend->download(kept.gate);
    return r;
  }
  std::int64_t heads() const { return config.num_attention_heads; }
  /// Element (t, h, i) of [1, T, heads, d], whatever its shape says.
  double at(const Tensor& x, std::int64_t t, std::int64_t h, std::int64_t i) const {
    return static_cast<double>(x.view<float>().data()[(t * heads() + h) * config.head_dim() + i]);
  }
  double p(const Tensor& probs, std::int64_t h, std::int64_t q, std::int64_t k) const {
    return static_cast<double>(probs.view<float>().data()[(h * length + q) * length + k]);
  }

  static constexpr std::int64_t length = 24;
  std::unique_ptr<kernels::Backend> backend;
  ModelConfig config;
  Checkpoint checkpoint;
  DecoderWeights weights;
  DecoderResources resources;
  DecoderPrecision precision;
  Decoder decoder;
  DeviceTensor hidden;
};

constexpr double roundings = 1e-5;  // of sums of 24 products of f32 numbers of size 1

std::vector<std::string> backends() {
  std::vector<std::string> here{"reference"};
  if (kernels::make_backend("cpu")->available()) here.emplace_back("cpu");
  return here;
}

}  // namespace

TEST_CASE("a stream's n-th number is SplitMix64's n-th output", "[intervention]") {
  // The outputs of the authors' splitmix64.c seeded with 1234567.
  CHECK(quant::counter_random(1234567, 0) == 6457827717110365317U);
  CHECK(quant::counter_random(1234567, 1) == 3203168211198807973U);
  CHECK(quant::counter_random(1234567, 2) == 9817491932198370423U);
}

TEST_CASE("module noise: within 2^-9, its own in each window, layer, module and element, and the same again",
          "[intervention]") {
  const auto backend = kernels::make_backend("reference");
  Tensor ones(quant::DType::f32, Shape{1, 50, 40});
  for (std::int64_t i = 0; i < 2000; ++i) ones.view<float>().data()[i] = i == 7 ? 0.0F : 1.0F;
  const DeviceTensor y = backend->upload(ones);
  const auto noisy = [&](std::uint64_t seed, std::int64_t window, int l, const char* module) {
    ModuleNoise noise(*backend, seed);
    noise.set_window(window);
    const Tensor out = backend->download(noise.output(l, module, y));
    return std::vector<float>(out.view<float>().data(), out.view<float>().data() + 2000);
  };
  const std::vector<float> a = noisy(1, 0, 0, "q_proj");
  double sum = 0, squares = 0;
  std::set<float> distinct;
  for (std::size_t i = 0; i < 2000; ++i) {
    if (i == 7) continue;
    const double off = static_cast<double>(a[i]) - 1;
    CHECK(std::fabs(off) <= 0x1p-9);
    sum += off;
    squares += off * off;
    distinct.insert(a[i]);
  }
  CHECK(a[7] == 0);
  CHECK(distinct.size() > 1900);
  CHECK(std::fabs(sum / 1999) < 4 * 0x1p-9 / std::sqrt(3 * 1999.0));                   // four standard errors of its mean, 0
  CHECK(std::fabs(std::sqrt(squares / 1999) / (0x1p-9 / std::sqrt(3.0)) - 1) < 0.05);  // uniform: r / sqrt(3)
  CHECK(noisy(1, 0, 0, "q_proj") == a);
  CHECK(noisy(2, 0, 0, "q_proj") != a);
  CHECK(noisy(1, 1, 0, "q_proj") != a);
  CHECK(noisy(1, 0, 1, "q_proj") != a);
  CHECK(noisy(1, 0, 0, "k_proj") != a);
  // One element by hand: key over (window 3, layer 2, out_proj = 5), element 11.
  std::uint64_t key = 9;
  for (const std::uint64_t part : {3U, 2U, 5U}) key = quant::counter_random(key, part);
  const double u = static_cast<double>(quant::counter_random(key, 11) >> 11) * 0x1p-53;
  CHECK(noisy(9, 3, 2, "out_proj")[11] == static_cast<float>(1 + 0x1p-9 * (2 * u - 1)));
}

TEST_CASE("the noise reaches every module of a layer once", "[intervention]") {
  struct Seen : Intervention {
    DeviceTensor output(int l, std::string_view module, const DeviceTensor& y) override {
      CHECK(l == 0);
      modules.emplace_back(module);
      return y;
    }
    std::vector<std::string> modules;
  };
  FirstLayer softmax("tiny-softmax"), gated("tiny-vga-output");
  Seen a, b;
  softmax.run(&a);
  gated.run(&b);
  CHECK(a.modules == std::vector<std::string>{"q_proj", "k_proj", "v_proj", "attention", "out_proj", "fc1", "fc2"});
  CHECK(b.modules.size() == 8);
  CHECK(std::find(b.modules.begin(), b.modules.end(), "gate_proj") != b.modules.end());
  ModuleNoise noise(*softmax.backend, 1);
  const auto plain = softmax.run(), noisy = softmax.run(&noise);
  double worst = 0;
  for (std::int64_t i = 0; i < plain.v.shape().elements(); ++i) {
    const double x = static_cast<double>(plain.v.view<float>().data()[i]),
                 y = static_cast<double>(noisy.v.view<float>().data()[i]);
    worst = std::max(worst, std::fabs(y - x) / std::fabs(x));
  }
  CHECK(worst > 0);
  CHECK(worst <= 0x1p-9 + 1e-6);
}

TEST_CASE("mask_key_0: nobody but the first query sees key 0, rows still sum to 1", "[intervention]") {
  for (const std::string& on : backends()) {
    FirstLayer x("tiny-softmax", on);
    MaskKey0 mask(*x.backend, true);
    const auto plain = x.run(), masked = x.run(&mask);
    for (std::int64_t h = 0; h < x.heads(); ++h)
      for (std::int64_t q = 0; q < FirstLayer::length; ++q) {
        double sum = 0;
        for (std::int64_t k = 0; k <= q; ++k) sum += x.p(masked.probs, h, q, k);
        CHECK(std::fabs(sum - 1) < roundings);
        CHECK(x.p(masked.probs, h, q, 0) == (q == 0 ? 1 : 0));
        if (q == 0) continue;
        // The others keep their ratios: p / (1 - p_0).
        const double rest = 1 - x.p(plain.probs, h, q, 0);
        if (rest > 0.05) CHECK(std::fabs(x.p(masked.probs, h, q, q) - x.p(plain.probs, h, q, q) / rest) < 1e-4);
      }
  }
}

TEST_CASE("zero_v_0: attention's output loses P_q0 v_0, and nothing else", "[intervention]") {
  for (const std::string& on : backends()) {
    FirstLayer x("tiny-softmax", on);
    ZeroV0 zero(*x.backend);
    const auto plain = x.run(), zeroed = x.run(&zero);
    double moved = 0;
    for (std::int64_t q = 0; q < FirstLayer::length; ++q)
      for (std::int64_t h = 0; h < x.heads(); ++h)
        for (std::int64_t i = 0; i < x.config.head_dim(); ++i) {
          const double lost = x.p(plain.probs, h, q, 0) * x.at(plain.v, 0, h, i);
          CHECK(std::fabs(x.at(zeroed.output, q, h, i) - (x.at(plain.output, q, h, i) - lost)) < roundings);
          moved = std::max(moved, std::fabs(lost));
        }
    CHECK(moved > 0.01);  // the identity has something to be wrong about
  }
}

TEST_CASE("constant gates: the output is its ungated self times the constant", "[intervention]") {
  FirstLayer x("tiny-vga-output");
  const auto plain = x.run();
  ConstantGates ones(*x.backend, {});
  std::vector<std::vector<double>> means(static_cast<std::size_t>(x.decoder.layers()));
  for (std::int64_t h = 0; h < x.heads(); ++h) means[0].push_back(0.125 + 0.25 * static_cast<double>(h));
  ConstantGates constant(*x.backend, means);
  const auto ungated = x.run(&ones), scaled = x.run(&constant);
  REQUIRE(plain.gate.shape()[-1] == x.heads());
  for (std::int64_t q = 0; q < FirstLayer::length; ++q)
    for (std::int64_t h = 0; h < x.heads(); ++h) {
      CHECK(ungated.gate.view<float>().data()[q * x.heads() + h] == 1.0F);
      const double gate = static_cast<double>(plain.gate.view<float>().data()[q * x.heads() + h]);
      for (std::int64_t i = 0; i < x.config.head_dim(); ++i) {
        CHECK(std::fabs(x.at(plain.output, q, h, i) - gate * x.at(ungated.output, q, h, i)) < roundings);
        CHECK(std::fabs(x.at(scaled.output, q, h, i) -
                        means[0][static_cast<std::size_t>(h)] * x.at(ungated.output, q, h, i)) < roundings);
      }
    }
}
