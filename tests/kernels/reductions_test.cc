#include "kernels/reductions.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <utility>

#include "kernels/oracle/oracle.h"
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

TEST_CASE("compare_logits against the definitions in long double, down to a KL of 1e-12 and up to one of 50") {
  for (const tests::NamedBackend& backend : tests::backends()) {
    CAPTURE(backend.name);
    for (std::int64_t vocab : {3, 5, 64, 1003})
      for (double change : {40.0, 1.0, 1e-2, 1e-4, 1e-6}) {
        const Tensor base = filled(Shape{1, 3, vocab}, 1, 3.0);
        Tensor test = base.clone();
        const Tensor noise = filled(Shape{1, 3, vocab}, 2, change);
        for (std::int64_t i = 0; i < 3 * vocab; ++i) test.view<float>()[i] += noise.view<float>()[i];
        Tensor targets(DType::i32, Shape{1, 3});
        for (int i = 0; i < 3; ++i) targets.view<std::int32_t>()[i] = static_cast<std::int32_t>(i % vocab);
        const auto got =
            backend->reductions().compare_logits(backend->upload(base), backend->upload(test), backend->upload(targets));
        for (std::int64_t r = 0; r < 3; ++r) {
          const TokenComparison want = oracle::compare_logits(
              base.view<float>().row(r), std::as_const(test).view<float>().row(r), targets.view<std::int32_t>()[r]);
          CAPTURE(vocab, change);
          const TokenComparison& t = got[static_cast<std::size_t>(r)];
          const auto close = [](double a, double b, double relative) { return std::fabs(a - b) <= relative * std::fabs(b); };
          // The normalizers are doubles: their rounding, 1e-16, shifts every d, and a KL of d^2 by 1e-16 / d.
          const double divergence = change < 1e-5 ? 1e-3 : 1e-6;
          CHECK(close(t.nll_base, want.nll_base, 1e-12));
          CHECK(close(t.nll_test, want.nll_test, 1e-12));
          CHECK(close(t.kl, want.kl, divergence));
          CHECK(close(t.kl_reverse, want.kl_reverse, divergence));
          CHECK(close(t.jsd, want.jsd, divergence));
          CHECK_FALSE(close(t.kl * 1.01, want.kl, divergence));
          CHECK_FALSE(close(t.jsd * 1.01, want.jsd, divergence));
          CHECK(t.jsd <= std::log(2.0));
          CHECK(close(t.p_base, want.p_base, 1e-6));
          CHECK(close(t.p_test, want.p_test, 1e-6));
          CHECK(close(t.top_p_base, want.top_p_base, 1e-6));
          CHECK(t.margin_base == want.margin_base);
          CHECK(t.top5_overlap == want.top5_overlap);
          CHECK(t.top1_base == want.top1_base);
          CHECK(t.top1_test == want.top1_test);
          CHECK(t.target == want.target);
        }
      }
  }
}

TEST_CASE("tokens that one side, or both, give nothing: e^-1000 and less") {
  for (const tests::NamedBackend& backend : tests::backends())
    for (const std::int64_t n : {3, 8, 70}) {
      Tensor base(DType::f32, Shape{1, 1, n}), test(DType::f32, Shape{1, 1, n}), targets(DType::i32, Shape{1, 1});
      for (std::int64_t i = 0; i < n; ++i) base.view<float>()[i] = test.view<float>()[i] = -1000.0F * static_cast<float>(i);
      std::swap(test.view<float>()[0], test.view<float>()[n - 1]);
      targets.view<std::int32_t>()[0] = 0;
      const TokenComparison t =
          backend->reductions().compare_logits(backend->upload(base), backend->upload(test), backend->upload(targets))[0];
      const double apart = 1000.0 * static_cast<double>(n - 1);
      CAPTURE(backend.name, n, t.kl, t.kl_reverse, t.jsd);
      CHECK(std::fabs(t.kl - apart) <= 1e-9 * apart);
      CHECK(std::fabs(t.kl_reverse - apart) <= 1e-9 * apart);
      CHECK(std::fabs(t.jsd - std::log(2.0)) <= 1e-12);
    }
}

TEST_CASE("top-5 overlap by hand: ties by the lowest index, order within the five doesn't matter, fewer than five tokens") {
  for (const tests::NamedBackend& backend : tests::backends()) {
    CAPTURE(backend.name);
    const auto overlap = [&](std::vector<float> base, std::vector<float> test) {
      Tensor x(DType::f32, Shape{1, 1, static_cast<std::int64_t>(base.size())}), y = x.clone();
      std::copy(base.begin(), base.end(), x.view<float>().data());
      std::copy(test.begin(), test.end(), y.view<float>().data());
      const Tensor targets = Tensor::zeros(DType::i32, Shape{1, 1});
      return backend->reductions()
          .compare_logits(backend->upload(x), backend->upload(y), backend->upload(targets))[0]
          .top5_overlap;
    };
    CHECK(overlap({9, 8, 7, 6, 5, 0, 0}, {5, 6, 7, 8, 9, 0, 0}) == 1.0F);
    CHECK(overlap({9, 8, 7, 6, 5, 0, 0}, {9, 8, 7, 0, 0, 6, 5}) == 0.6F);
    CHECK(overlap({0, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0}) == 1.0F);  // both keep 0 to 4
    CHECK(overlap({1, 1, 1, 1, 1, 1, 1}, {0, 0, 0, 0, 0, 1, 1}) == 0.6F);  // 0 1 2 3 4 against 5 6 0 1 2
    CHECK(overlap({3, 2}, {1, 2}) == 1.0F);                                // blind: all of fewer than five
    std::vector<float> long_base(200, 0.0F), long_test(200, 0.0F);
    for (std::size_t i : {3U, 70U, 71U, 130U, 199U}) long_base[i] = static_cast<float>(i);
    for (std::size_t i : {4U, 70U, 71U, 131U, 199U}) long_test[i] = static_cast<float>(i);
    CHECK(overlap(long_base, long_test) == 0.6F);
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

TEST_CASE("distortion of every head of every window by a plain loop, and by hand; blind to the other heads") {
  for (const tests::NamedBackend& backend : tests::backends()) {
    CAPTURE(backend.name);
    const std::int64_t windows = 3, rows = 5, heads = 2, columns = 7;
    Tensor x(DType::f32, Shape{windows, rows, heads, columns});
    quant::Random random(3);
    for (float& v : x.view<float>().span()) v = static_cast<float>(static_cast<int>(random.normal() * 4));  // sums are exact
    Tensor y = x.clone();
    // Head 0 of window 1: one error of 2; head 1 of window 2: every number 1 too large.
    y.view<float>()[1 * rows * heads * columns + 3] -= 2;
    for (std::int64_t t = 0; t < rows; ++t)
      for (std::int64_t d = 0; d < columns; ++d) y.view<float>()[((2 * rows + t) * heads + 1) * columns + d] += 1;
    const auto got = backend->reductions().distortion(backend->upload(x), backend->upload(y));
    REQUIRE(got.size() == 6);
    for (std::int64_t i = 0; i < windows * heads; ++i) {
      CAPTURE(i);
      double xx = 0, xy = 0, yy = 0;
      for (std::int64_t t = 0; t < rows; ++t)
        for (std::int64_t d = 0; d < columns; ++d) {
          const std::int64_t at = ((i / heads * rows + t) * heads + i % heads) * columns + d;
          const double a = x.view<float>()[at], b = y.view<float>()[at];
          xx += a * a, xy += a * b, yy += b * b;
        }
      const auto s = got[static_cast<std::size_t>(i)].sums();
      CHECK((s.n == rows * columns && s.nan == 0 && s.xx == xx && s.xy == xy && s.yy == yy));
      CHECK(s.ee == (i == 2 ? 4 : i == 5 ? 35 : 0));
      CHECK(s.e == (i == 2 ? -2 : i == 5 ? 35 : 0));
      CHECK(s.max == (i == 2 ? 2 : i == 5 ? 1 : 0));
      CHECK(s.exact == (i == 2 ? 34 : i == 5 ? 0 : 35));
    }
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
    const auto got = backend->reductions().row_divergence(backend->upload(p), backend->upload(q), false);
    REQUIRE((got.size() == 2 && got[0].seen == 1 && got[1].seen == 0));
    CHECK(std::fabs(got[0].kl - (0.5 * std::log(2.0) + 0.5 * std::log(0.5 / 0.75))) < 1e-12);
    CHECK(std::fabs(got[0].tv - 0.25) < 1e-12);
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

TEST_CASE("kurtosis of a window as one row, by hand; rows with NaN are left out of it") {
  for (const tests::NamedBackend& backend : tests::backends()) {
    CAPTURE(backend.name);
    Tensor x(DType::f32, Shape{2, 2, 4});
    const float values[16] = {1, 2, 3, 4, 11, 12, 13, 14, 1, 2, 3, 4, 11, 12, 13, 14};
    std::copy(values, values + 16, x.view<float>().data());
    x.view<float>()[12] = NAN;
    const auto stats = backend->reductions().row_stats(backend->upload(x));
    const auto kurtosis = [](const float* first, int n) {
      double mean = 0, second = 0, fourth = 0;
      for (int i = 0; i < n; ++i) mean += static_cast<double>(first[i]) / n;
      for (int i = 0; i < n; ++i) {
        const double d = static_cast<double>(first[i]) - mean;
        second += d * d / (n - 1);
        fourth += d * d * d * d / n;
      }
      return fourth / (second * second + 1e-6);
    };
    CHECK(std::fabs(stats[0].window_kurtosis - kurtosis(values, 8)) < 1e-12);
    CHECK(std::fabs(stats[1].window_kurtosis - kurtosis(values, 4)) < 1e-12);
    CHECK(std::fabs(stats[0].kurtosis_sum / 2 - kurtosis(values, 4)) <
          1e-12);  // rows alike: the token form can't see the jump
    CHECK(std::fabs(kurtosis(values, 8) - kurtosis(values, 4)) > 0.01);
  }
}

TEST_CASE("a head's attention by hand: entropy, a learnable sink's mass, the gap of the first key, the key that gets most") {
  for (const tests::NamedBackend& backend : tests::backends()) {
    CAPTURE(backend.name);
    Tensor p = Tensor::zeros(DType::f32, Shape{1, 2, 4, 4});
    const float rows[2][16] = {{1, 0, 0, 0, 0.5F, 0.5F, 0, 0, 0.5F, 0.25F, 0.25F, 0, 0.25F, 0.125F, 0.125F, 0.5F},
                               {0, 0, 0, 0, 0.25F, 0.25F, 0, 0, 0, 0.5F, 0, 0, 0.125F, 0.5F, 0.125F, 0.25F}};
    std::copy(&rows[0][0], &rows[0][0] + 32, p.view<float>().data());
    const auto got = backend->reductions().attention_summary(backend->upload(p), true);
    REQUIRE(got.size() == 2);
    const double two = std::log(2.0);
    CHECK(got[0].rows == 4);
    CHECK(std::fabs(got[0].entropy_sum - (0 + two + 1.5 * two + 1.75 * two)) < 1e-12);
    CHECK(got[0].sink_mass_sum == 0);
    CHECK(got[0].gap_rows == 2);
    CHECK(std::fabs(got[0].gap_sum - (two + two)) < 1e-12);  // ln 1/2 - ln 1/4, ln 1/4 - ln 1/8
    CHECK(got[0].top_key == 0);
    CHECK(std::fabs(got[0].top_key_share - 2.25 / 4) < 1e-12);
    CHECK(got[1].rows == 3);  // the first row is all zero
    CHECK(std::fabs(got[1].sink_mass_sum - 1) < 1e-12);
    CHECK(std::fabs(got[1].entropy_sum - (1.5 * two + two + 1.75 * two)) < 1e-12);
    CHECK(got[1].top_key == 1);
    CHECK(std::fabs(got[1].top_key_share - 1.25 / 2) < 1e-12);
    CHECK(got[1].gap_rows == 2);  // of them one whose first key got nothing: the smallest normal f32 stands in
    CHECK(got[1].gap_sum < -80);
  }
}

TEST_CASE("an encoder's attention by hand: every key of a row counts, and no gap of the first key is told") {
  for (const tests::NamedBackend& backend : tests::backends()) {
    CAPTURE(backend.name);
    Tensor p = Tensor::zeros(DType::f32, Shape{1, 1, 3, 4});
    const float rows[12] = {0.5F, 0, 0, 0.5F, 0.25F, 0.25F, 0, 0.5F, 0, 0, 0.25F, 0.5F};
    std::copy(rows, rows + 12, p.view<float>().data());
    const auto got = backend->reductions().attention_summary(backend->upload(p), false);
    const double two = std::log(2.0);
    CHECK(got[0].rows == 3);
    CHECK(std::fabs(got[0].entropy_sum - (two + 1.5 * two + (0.5 + 0.5) * two + 0.5 * two)) < 1e-12);
    CHECK(std::fabs(got[0].sink_mass_sum - 0.25) < 1e-12);
    CHECK(got[0].gap_rows == 0);
    CHECK(got[0].top_key == 3);
    CHECK(std::fabs(got[0].top_key_share - 1.5 / 2.75) < 1e-12);
  }
}
