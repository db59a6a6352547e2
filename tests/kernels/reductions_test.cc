#include "kernels/reductions.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <utility>

#include "kernels/registry/registry.h"
#include "quant/core/random.h"
#include "tests/kernels/support.h"

using namespace qfid;
using namespace qfid::kernels;
using quant::Tensor;

namespace {

Tensor filled(const Shape& shape, std::uint64_t seed, double scale) {
  quant::Random random(seed);
  Tensor tensor(DType::f32, shape);
  for (float& x : tensor.view<float>().span()) x = static_cast<float>(scale * random.normal());
  return tensor;
}

}  // namespace

TEST_CASE("compare_logits against the definitions in long double, down to a KL of 1e-12") {
  for (const tests::NamedBackend& backend : tests::backends()) {
    CAPTURE(backend.name);
    for (std::int64_t vocab : {5, 64, 1003})
      for (double change : {1.0, 1e-2, 1e-4, 1e-6}) {
        const Tensor base = filled(Shape{1, 3, vocab}, 1, 3.0);
        Tensor test = base.clone();
        const Tensor noise = filled(Shape{1, 3, vocab}, 2, change);
        for (std::int64_t i = 0; i < 3 * vocab; ++i) test.view<float>()[i] += noise.view<float>()[i];
        Tensor targets(DType::i32, Shape{1, 3});
        for (int i = 0; i < 3; ++i) targets.view<std::int32_t>()[i] = static_cast<std::int32_t>(i % vocab);
        const auto got =
            backend->reductions().compare_logits(backend->upload(base), backend->upload(test), backend->upload(targets));
        for (std::int64_t r = 0; r < 3; ++r) {
          const float* x = base.view<float>().data() + r * vocab;
          const float* y = std::as_const(test).view<float>().data() + r * vocab;
          const auto lse = [&](const float* row) {
            long double sum = 0;
            for (std::int64_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<long double>(row[i]));
            return std::log(sum);
          };
          const long double lx = lse(x), ly = lse(y);
          long double kl = 0, reverse = 0;
          for (std::int64_t i = 0; i < vocab; ++i) {
            const long double p = x[i] - lx, q = y[i] - ly, d = q - p;
            kl += std::exp(p) * (std::expm1(d) - d);
            reverse += std::exp(q) * (std::expm1(-d) + d);
          }
          CAPTURE(vocab, change);
          const TokenComparison& t = got[static_cast<std::size_t>(r)];
          const auto close = [](double a, long double b, double relative) {
            return std::fabs(a - static_cast<double>(b)) <= relative * std::fabs(static_cast<double>(b));
          };
          CHECK(close(t.nll_base, lx - x[targets.view<std::int32_t>()[r]], 1e-12));
          CHECK(close(t.nll_test, ly - y[targets.view<std::int32_t>()[r]], 1e-12));
          CHECK(close(t.kl, kl, change < 1e-5 ? 1e-3 : 1e-6));
          CHECK(close(t.kl_reverse, reverse, change < 1e-5 ? 1e-3 : 1e-6));
          CHECK_FALSE(close(t.kl * 1.01, kl, 1e-3));
        }
      }
  }
}

TEST_CASE("top-1 takes the lowest index of a tie; the margin is to the runner-up") {
  for (const tests::NamedBackend& backend : tests::backends()) {
    CAPTURE(backend.name);
    Tensor logits(DType::f32, Shape{1, 1, 4});
    const float row[4] = {1, 5, 5, 2};
    std::copy(row, row + 4, logits.view<float>().data());
    const Tensor targets = Tensor::zeros(DType::i32, Shape{1, 1});
    const DeviceTensor x = backend->upload(logits);
    const auto got = backend->reductions().compare_logits(x, x, backend->upload(targets));
    CHECK(got[0].top1_base == 1);
    CHECK(got[0].margin_base == 0.0F);
    CHECK(got[0].kl == 0.0);
  }
}

TEST_CASE("row divergence by hand: KL, total variation, masked rows skipped") {
  for (const tests::NamedBackend& backend : tests::backends()) {
    CAPTURE(backend.name);
    Tensor p = Tensor::zeros(DType::f32, Shape{1, 1, 2, 3}), q = Tensor::zeros(DType::f32, Shape{1, 1, 2, 3});
    p.view<float>()[0] = 0.5F;
    p.view<float>()[1] = 0.5F;
    q.view<float>()[0] = 0.25F;
    q.view<float>()[1] = 0.75F;
    const auto got = backend->reductions().row_divergence(backend->upload(p), backend->upload(q));
    REQUIRE(got[0].rows == 1);
    CHECK(std::fabs(got[0].kl_sum - (0.5 * std::log(2.0) + 0.5 * std::log(0.5 / 0.75))) < 1e-12);
    CHECK(std::fabs(got[0].tv_sum - 0.25) < 1e-12);
  }
}

TEST_CASE("row statistics, norms and attention to a key") {
  for (const tests::NamedBackend& backend : tests::backends()) {
    CAPTURE(backend.name);
    Tensor x = Tensor::zeros(DType::f32, Shape{1, 2, 4});
    const float values[8] = {1, 2, 3, -10, 0.05F, 0.5F, 0.95F, 0.5F};
    std::copy(values, values + 8, x.view<float>().data());
    const auto stats = backend->reductions().row_stats(backend->upload(x))[0];
    CHECK(stats.max_abs == 10);
    CHECK(std::fabs(stats.inf_norm_sum - 10.95) < 1e-6);
    CHECK(stats.below_tenth == 1);
    CHECK(stats.above_nine_tenths == 1);
    x.view<float>()[0] = NAN;
    CHECK(backend->reductions().row_stats(backend->upload(x))[0].non_finite == 1);
    Tensor v = Tensor::zeros(DType::f32, Shape{1, 1, 2, 2});
    v.view<float>()[0] = 3;
    v.view<float>()[1] = 4;
    CHECK(backend->reductions().norms(backend->upload(v))[0] == 5.0);
    Tensor probs = Tensor::zeros(DType::f32, Shape{1, 1, 3, 3});
    for (int i = 0; i < 3; ++i) probs.view<float>()[i * 3] = 0.25F * static_cast<float>(i + 1);
    CHECK(backend->reductions().mean_attention_to(backend->upload(probs), 0, 1, 3)[0] == 0.625);
  }
}
