// The gpu backend's full-precision operations, quantizers and reductions against the reference backend's on the same inputs.
#include <cmath>

#include "quant/distortion.h"
#include "tests/kernels/gpu/gpu_fixture.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

/// Largest |a - b| over 1 + |a|; NaN where one is.
double worst(const Tensor& a, const Tensor& b) {
  double top = 0;
  for (std::int64_t i = 0; i < a.shape().elements(); ++i) {
    const double x = static_cast<double>(a.view<float>()[i]), y = static_cast<double>(b.view<float>()[i]);
    const double difference = std::fabs(x - y) / (1 + std::fabs(x));
    if (!(difference <= top)) top = difference;
  }
  return top;
}

constexpr double one_rounding = 0x1p-23;  // statistics in double, arithmetic in f32: at most the last bit

}  // namespace

TEST_CASE("operations of a transformer agree with the host's to the last bit of f32") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  for (std::int64_t width : {1, 7, 64, 129, 1536}) {
    const Tensor x = filled(Shape{2, 5, width}, 1, 3), y = filled(Shape{2, 5, width}, 2), gamma = filled(Shape{width}, 3),
                 beta = filled(Shape{width}, 4);
    const auto both = [&](const auto& operation) {
      return worst(host->download(operation(*host)), device->download(operation(*device)));
    };
    CAPTURE(width);
    CHECK(both([&](Backend& b) { return b.add(b.upload(x), b.upload(y)); }) == 0);
    CHECK(both([&](Backend& b) { return b.layer_norm(b.upload(x), b.upload(gamma), b.upload(beta), 1e-5F); }) <= one_rounding);
    CHECK(both([&](Backend& b) { return b.rms_norm(b.upload(x), b.upload(gamma), 1e-5F); }) <= one_rounding);
    for (Activation kind : {Activation::relu, Activation::gelu_erf, Activation::gelu_tanh, Activation::silu})
      CHECK(both([&](Backend& b) { return b.activation(b.upload(x), kind); }) <= one_rounding);
    CHECK(both([&](Backend& b) { return b.slice(b.upload(x), 1, 2); }) == 0);
    Tensor ids(DType::i32, Shape{2, 3});
    for (std::int64_t i = 0; i < 6; ++i) ids.view<std::int32_t>()[i] = static_cast<std::int32_t>(i % 5);
    const Tensor table = filled(Shape{5, width}, 5);
    CHECK(both([&](Backend& b) { return b.embedding(b.upload(ids), b.upload(table)); }) == 0);
  }
  const Tensor heads = filled(Shape{2, 9, 3, 16}, 6);
  CHECK(worst(host->download(host->rotary(host->upload(heads), 3, 10000.0)),
              device->download(device->rotary(device->upload(heads), 3, 10000.0))) <= one_rounding);
}

TEST_CASE("INT8 linears are the reference's bits over range rules, timings, scale rules and awkward sizes") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  const std::vector<quant::Range> range{{-2.5F, 3.0F}};
  for (const char* activations :
       {"int8/tensor", "int8/token", "int8/tensor/percentile(99)", "int8/token/mse", "int8/tensor/fixed(3)",
        "int8/tensor/absmax/static", "uint8/token", "uint8/tensor/affine", "uint8/tensor/absmax/static/affine",
        "int8/token/compressed-tensors", "int8/token/onnx", "int8/token/smoothquant"})
    for (const auto& [in, out, tokens] : {std::tuple{1, 1, 1}, std::tuple{7, 15, 3}, std::tuple{16, 17, 16},
                                          std::tuple{127, 128, 5}, std::tuple{129, 1, 17}}) {
      const Tensor x = filled(Shape{2, tokens, in}, 7), w = filled(Shape{out, in}, 8), bias = filled(Shape{out}, 9);
      LinearProblem p;
      try {
        p = linear_problem(in, out, "int8/channel", activations);
      } catch (const quant::Error& error) { FAIL(activations << ": " << error.what()); }
      const bool is_static = p.activations.timing == quant::Timing::static_;
      const LinearRun expected = run_linear(*host, p, x, w, bias, is_static ? range : std::vector<quant::Range>{});
      const LinearRun got = run_linear(*device, p, x, w, bias, is_static ? range : std::vector<quant::Range>{});
      CAPTURE(activations, in, out, tokens, got.implementation);
      CHECK(same_bits(expected.dst, got.dst));
      CHECK(expected.counts == got.counts);
    }
}

TEST_CASE("reductions agree with the host's to 1e-12") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  const auto close = [](double a, double b) { return std::fabs(a - b) <= 1e-12 * std::fabs(a) + 1e-300; };
  Tensor x = filled(Shape{3, 70, 2, 33}, 10), y = x.clone();
  const Tensor noise = filled(x.shape(), 11, 1e-3);
  for (std::int64_t i = 0; i < x.shape().elements(); ++i)
    if (i % 3 != 0) y.view<float>()[i] += noise.view<float>()[i];
  y.view<float>()[5] = 0;
  x.view<float>()[7] = NAN;
  const auto a = host->reductions().distortion(host->upload(x), host->upload(y));
  const auto b = device->reductions().distortion(device->upload(x), device->upload(y));
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto p = a[i].sums(), q = b[i].sums();
    CHECK((close(p.xx, q.xx) && close(p.xy, q.xy) && close(p.yy, q.yy) && close(p.ee, q.ee) && close(p.ax, q.ax) &&
           close(p.ae, q.ae) && std::fabs(p.e - q.e) <= 1e-12 * p.ae));
    CHECK(p.max == q.max);
    CHECK((p.n == q.n && p.exact == q.exact && p.flips == q.flips && p.flushed == q.flushed && p.nan == q.nan));
  }
  for (const auto& [s, t] : {std::pair{host->reductions().row_stats(host->upload(x)), device->reductions().row_stats(device->upload(x))},
                             std::pair{host->reductions().row_stats(host->upload(y)), device->reductions().row_stats(device->upload(y))}})
    for (std::size_t i = 0; i < s.size(); ++i) {
      CHECK((s[i].rows == t[i].rows && s[i].elements == t[i].elements && s[i].non_finite == t[i].non_finite));
      CHECK((s[i].max_abs == t[i].max_abs && close(s[i].inf_norm_sum, t[i].inf_norm_sum) &&
             close(s[i].kurtosis_sum, t[i].kurtosis_sum)));
      CHECK(std::fabs(s[i].sum - t[i].sum) <= 1e-10);
    }
  const auto n = host->reductions().norms(host->upload(y)), m = device->reductions().norms(device->upload(y));
  for (std::size_t i = 0; i < n.size(); ++i) CHECK(close(n[i], m[i]));

  Tensor p = Tensor::zeros(DType::f32, Shape{2, 2, 40, 40}), q = Tensor::zeros(DType::f32, Shape{2, 2, 40, 40});
  quant::Random random(12);
  for (std::int64_t r = 1; r < 160; ++r)
    for (std::int64_t j = 0; j <= r % 40; ++j) {
      p.view<float>()[r * 40 + j] = static_cast<float>(std::fabs(random.normal())) / 40;
      q.view<float>()[r * 40 + j] = j == 3 ? 0.0F : p.view<float>()[r * 40 + j] * 1.01F;
    }
  const auto d = host->reductions().row_divergence(host->upload(p), host->upload(q), true);
  const auto e = device->reductions().row_divergence(device->upload(p), device->upload(q), true);
  REQUIRE(d.size() == e.size());
  for (std::size_t i = 0; i < d.size(); ++i) {
    CHECK(d[i].seen == e[i].seen);
    // A sink's mass is 1 less a sum of doubles: its last digits are the order's.
    CHECK((std::fabs(d[i].kl - e[i].kl) <= 1e-9 * d[i].kl && std::fabs(d[i].tv - e[i].tv) <= 1e-9 * d[i].tv));
  }
  const auto f = host->reductions().mean_attention_to(host->upload(p), 1, 4, 38);
  const auto g = device->reductions().mean_attention_to(device->upload(p), 1, 4, 38);
  for (std::size_t i = 0; i < f.size(); ++i) CHECK(close(f[i], g[i]));

  const Tensor base = filled(Shape{1, 6, 1003}, 13, 3);
  Tensor test = base.clone();
  const Tensor change = filled(base.shape(), 14, 1e-2);
  for (std::int64_t i = 0; i < base.shape().elements(); ++i) test.view<float>()[i] += change.view<float>()[i];
  const Tensor targets = Tensor::zeros(DType::i32, Shape{1, 6});
  const auto s = host->reductions().compare_logits(host->upload(base), host->upload(test), host->upload(targets));
  const auto t = device->reductions().compare_logits(device->upload(base), device->upload(test), device->upload(targets));
  for (std::size_t i = 0; i < s.size(); ++i) {
    CHECK((close(s[i].nll_base, t[i].nll_base) && close(s[i].nll_test, t[i].nll_test)));
    CHECK((std::fabs(s[i].kl - t[i].kl) <= 1e-10 * s[i].kl && std::fabs(s[i].kl_reverse - t[i].kl_reverse) <= 1e-10 * s[i].kl));
    CHECK((s[i].top1_base == t[i].top1_base && s[i].top1_test == t[i].top1_test && s[i].margin_base == t[i].margin_base));
    CHECK((s[i].p_base == t[i].p_base && s[i].p_test == t[i].p_test && s[i].top_p_base == t[i].top_p_base));
  }
}
