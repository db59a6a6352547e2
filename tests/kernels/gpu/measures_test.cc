// The reductions behind the measures of coding and of outliers: the device's numbers are the host's.
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "tests/kernels/gpu/gpu_fixture.h"

using namespace qfid;
using namespace qfid::kernels;
using namespace qfid::tests;
using quant::Tensor;

namespace {

bool close(double a, double b) { return std::fabs(a - b) <= 1e-10 * std::fabs(a) + 1e-300; }

/// Causal rows that sum to 1, or to less where a sink has the rest.
Tensor probabilities(const Shape& s, std::uint64_t seed, float sum) {
  quant::Random random(seed);
  Tensor p = Tensor::zeros(DType::f32, s);
  for (std::int64_t r = 0; r < s[0] * s[1] * s[2]; ++r) {
    float* row = p.view<float>().data() + r * s[3];
    const std::int64_t seen = r % s[2] + s[3] - s[2] + 1;
    double total = 0;
    for (std::int64_t k = 0; k < seen; ++k) total += row[k] = static_cast<float>(std::exp(2 * random.normal()));
    for (std::int64_t k = 0; k < seen; ++k) row[k] *= sum / static_cast<float>(total);
  }
  return p;
}

}  // namespace

TEST_CASE("coded weights, their divergence, the histogram and attention's error in parts agree with the host's") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  const Shape s{2, 4, 37, 45};
  for (const bool sink : {false, true}) {
    const Tensor base = probabilities(s, 20, sink ? 0.7F : 1.0F), test = probabilities(s, 21, sink ? 0.6F : 1.0F);
    Tensor codes = Tensor::zeros(DType::u8, s);
    for (std::int64_t i = 0; i < s.elements(); ++i)
      codes.view<std::uint8_t>()[i] =
          static_cast<std::uint8_t>(std::nearbyint(std::fmin(255.0F, 300 * test.view<float>()[i])));
    for (const char* scheme : {"uint8", "uint8/running_forward(16)", "uint8/running_reverse(16)"}) {
      CAPTURE(sink, scheme);
      const ProbScheme p = parse_prob_scheme(scheme);
      const DeviceTensor a = host->reductions().coded_weights(host->upload(test), host->upload(codes), p, sink),
                         b = device->reductions().coded_weights(device->upload(test), device->upload(codes), p, sink);
      const Tensor x = host->download(a), y = device->download(b);
      for (std::int64_t i = 0; i < s.elements(); ++i)
        CHECK(std::fabs(x.view<float>()[i] - y.view<float>()[i]) <= 0x1p-23F * x.view<float>()[i]);
      const auto d = host->reductions().coded_divergence(host->upload(base), host->upload(test), host->upload(x), sink),
                 e = device->reductions().coded_divergence(device->upload(base), device->upload(test), device->upload(x),
                                                           sink);
      REQUIRE(d.size() == e.size());
      for (std::size_t i = 0; i < d.size(); ++i)
        CHECK((d[i].seen == e[i].seen && close(d[i].tv, e[i].tv) && close(d[i].jsd, e[i].jsd) &&
               close(d[i].flushed, e[i].flushed)));
      const Tensor v = filled(Shape{2, 45, 2, 33}, 22), coded = filled(Shape{2, 45, 2, 33}, 23);
      const auto f = host->reductions().output_split(host->upload(base), host->upload(x), host->upload(v),
                                                     host->upload(coded)),
                 g = device->reductions().output_split(device->upload(base), device->upload(x), device->upload(v),
                                                       device->upload(coded));
      REQUIRE(f.size() == g.size());
      for (std::size_t i = 0; i < f.size(); ++i)
        CHECK((close(f[i].output, g[i].output) && close(f[i].error, g[i].error) && close(f[i].p, g[i].p) &&
               close(f[i].p_first, g[i].p_first) && close(f[i].p_others, g[i].p_others) && close(f[i].v, g[i].v) &&
               close(f[i].v_first, g[i].v_first) && close(f[i].v_others, g[i].v_others)));
    }
    for (const bool causal : {true, false})
      CHECK(host->reductions().code_histogram(host->upload(codes), causal) ==
            device->reductions().code_histogram(device->upload(codes), causal));
  }
}

TEST_CASE("magnitudes, errors beside outliers and projected norms agree with the host's") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  Tensor x = filled(Shape{3, 70, 2, 33}, 24), y = x.clone();
  const Tensor noise = filled(x.shape(), 25, 1e-2F);
  for (std::int64_t i = 0; i < x.shape().elements(); ++i) y.view<float>()[i] += noise.view<float>()[i];
  for (const std::int64_t i : {5, 700, 5000, 9301}) x.view<float>()[i] = 500;
  x.view<float>()[66 * 3] = NAN;
  y.view<float>()[66 * 9 + 1] = INFINITY;
  const auto a = host->reductions().magnitudes(host->upload(x)), b = device->reductions().magnitudes(device->upload(x));
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK((a[i].elements == b[i].elements && a[i].massive == b[i].massive && a[i].median == b[i].median));
    CHECK((a[i].top[0] == b[i].top[0] && a[i].top[1] == b[i].top[1] && a[i].top[2] == b[i].top[2]));
  }
  const auto d = host->reductions().outlier_split(host->upload(x), host->upload(y)),
             e = device->reductions().outlier_split(device->upload(x), device->upload(y));
  for (std::size_t i = 0; i < d.size(); ++i) {
    CHECK((d[i].tokens == e[i].tokens && d[i].channels == e[i].channels));
    CHECK((d[i].outlier_tokens == e[i].outlier_tokens && d[i].outlier_channels == e[i].outlier_channels &&
           d[i].outlier_tokens > 0));
    CHECK((close(d[i].energy, e[i].energy) && close(d[i].product, e[i].product) && close(d[i].error, e[i].error)));
    CHECK((close(d[i].token_error, e[i].token_error) && close(d[i].channel_error, e[i].channel_error)));
    CHECK((close(d[i].first_energy, e[i].first_energy) && close(d[i].first_product, e[i].first_product) &&
           close(d[i].first_error, e[i].first_error)));
  }
  const Tensor factors = filled(Shape{2, 33, 33}, 26);
  const auto f = host->reductions().projected_norms(host->upload(y), host->upload(factors)),
             g = device->reductions().projected_norms(device->upload(y), device->upload(factors));
  for (std::size_t i = 0; i < f.size(); ++i) CHECK((close(f[i], g[i]) || (!std::isfinite(f[i]) && !std::isfinite(g[i]))));
}

TEST_CASE("comparing logits: ties, plateaus longer than the kernel's list, infinities, few numbers") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  quant::Random random(30);
  for (const std::int64_t n : {1, 4, 5, 7, 300, 1003, 8192}) {
    Tensor base = filled(Shape{1, 6, n}, 31, 3), test = base.clone();
    for (float& x : test.view<float>().span()) x += static_cast<float>(0.3 * random.normal());  // near and far differences
    const auto row = [&](Tensor& of, std::int64_t r) {
      return of.view<float>().span().subspan(static_cast<std::size_t>(r * n), static_cast<std::size_t>(n));
    };
    for (Tensor* of : {&base, &test}) {
      for (float& x : row(*of, 1)) x = std::nearbyint(x);   // many ties
      for (float& x : row(*of, 2)) x = std::fmin(x, 0.0F);  // half of a row is its largest
      for (float& x : row(*of, 3)) x = of == &base ? 2.0F : 3.0F;
      row(*of, 4)[0] = 40.0F;  // one far above the rest
      for (std::size_t i = 1; i < row(*of, 5).size(); ++i) row(*of, 5)[i] = -INFINITY;
    }
    const Tensor targets = Tensor::zeros(DType::i32, Shape{1, 6});
    const auto s = host->reductions().compare_logits(host->upload(base), host->upload(test), host->upload(targets));
    const auto t = device->reductions().compare_logits(device->upload(base), device->upload(test), device->upload(targets));
    REQUIRE(s.size() == t.size());
    for (std::size_t i = 0; i < s.size(); ++i) {
      CAPTURE(n, i, s[i].jsd, t[i].jsd);
      CHECK(
          (s[i].top1_base == t[i].top1_base && s[i].top1_test == t[i].top1_test && s[i].top5_overlap == t[i].top5_overlap));
      if (n > 1) CHECK(s[i].margin_base == t[i].margin_base);
      // A sure token's NLL is what is left of two numbers of 40.
      const auto nll_near = [](double a, double b) { return std::fabs(a - b) <= 1e-12 * (40 + std::fabs(a)); };
      CHECK((nll_near(s[i].nll_base, t[i].nll_base) && nll_near(s[i].nll_test, t[i].nll_test)));
      if (i == 5) continue;  // -infinity beside -infinity has no difference
      // Rows that only differ by a shift have a divergence of nothing but rounding.
      const auto near = [](double a, double b) { return std::fabs(a - b) <= 1e-10 * std::fabs(a) + 1e-25; };
      CHECK((near(s[i].kl, t[i].kl) && near(s[i].kl_reverse, t[i].kl_reverse) && near(s[i].jsd, t[i].jsd)));
    }
  }
}

TEST_CASE("distortion by group for widths below, at, above a block's threads and no multiple of them") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  for (const Shape& shape : {Shape{2, 19, 3, 1}, Shape{1, 300, 2, 3}, Shape{2, 5, 1, 100}, Shape{1, 40, 6, 64},
                             Shape{2, 3, 2, 256}, Shape{1, 7, 3, 300}, Shape{2, 2, 2, 9000}}) {
    const Tensor x = filled(shape, 32);
    Tensor y = filled(shape, 33);
    for (std::int64_t i = 0; i < shape.elements(); i += 3) y.view<float>()[i] = i % 2 == 0 ? 0.0F : x.view<float>()[i];
    y.view<float>()[shape.elements() / 2] = NAN;
    const auto a = host->reductions().distortion(host->upload(x), host->upload(y)),
               b = device->reductions().distortion(device->upload(x), device->upload(y));
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      const auto p = a[i].sums(), q = b[i].sums();
      CAPTURE(shape.to_string(), i);
      CHECK((close(p.xx, q.xx) && std::fabs(p.xy - q.xy) <= 1e-12 * (p.xx + p.yy) && close(p.yy, q.yy) &&
             close(p.ee, q.ee) && close(p.ax, q.ax) && close(p.ae, q.ae) && p.max == q.max));
      CHECK((p.n == q.n && p.exact == q.exact && p.flips == q.flips && p.flushed == q.flushed && p.nan == q.nan));
    }
  }
}
