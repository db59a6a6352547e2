// Every reduction on as many rows, heads and windows as keep several threads busy: the same numbers with 1, 2 and 3 of them,
// and by the loops of every instruction set.
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <functional>
#include <utility>

#include "kernels/reductions.h"
#include "quant/core/dispatch.h"
#include "tests/kernels/support.h"

using namespace qfid;
using namespace qfid::kernels;
using namespace qfid::tests;

namespace {

using Numbers = std::vector<double>;

/// Rows of [B, H, T, T] that sum to one less a sink's share, causal.
Tensor probabilities(std::int64_t windows, std::int64_t heads, std::int64_t tokens, std::uint64_t seed) {
  quant::Random random(seed);
  Tensor p = Tensor::zeros(DType::f32, Shape{windows, heads, tokens, tokens});
  for (std::int64_t row = 0; row < windows * heads * tokens; ++row) {
    float* at = p.view<float>().data() + row * tokens;
    double sum = 0.25;
    for (std::int64_t k = 0; k <= row % tokens; ++k) sum += at[k] = static_cast<float>(std::exp(random.normal()));
    for (std::int64_t k = 0; k <= row % tokens; ++k) at[k] = static_cast<float>(at[k] / sum);
  }
  return p;
}

Tensor codes_of(const Tensor& p) {
  Tensor codes(DType::u8, p.shape());
  for (std::int64_t i = 0; i < p.shape().elements(); ++i)
    codes.view<std::uint8_t>()[i] = static_cast<std::uint8_t>(std::lround(255 * p.view<float>()[i]));
  return codes;
}

template <class Items, class Fields>
Numbers flat(const Items& items, Fields&& fields) {
  Numbers all;
  for (const auto& item : items)
    for (const double x : fields(item)) all.push_back(x);
  return all;
}
double d(std::int64_t n) { return static_cast<double>(n); }

struct Tensors {
  DeviceTensor x, y, base, test, codes, factors, targets;
};

Numbers of_values(Reductions& r, const Tensors& t) {
  Numbers all = flat(r.distortion(t.x, t.y), [](const auto& s) {
    const auto q = s.sums();
    return std::array{q.xx,  q.xy,   q.yy,       q.ee,       q.ax,         q.ae,    q.e,
                      q.max, d(q.n), d(q.exact), d(q.flips), d(q.flushed), d(q.nan)};
  });
  const auto add = [&](const Numbers& more) { all.insert(all.end(), more.begin(), more.end()); };
  add(flat(r.row_stats(t.x), [](const RowStats& s) {
    return std::array{s.max_abs, s.inf_norm_sum, s.kurtosis_sum, s.sum, d(s.elements), s.window_kurtosis};
  }));
  add(flat(r.magnitudes(t.x), [](const Magnitudes& m) { return std::array{m.top[0], m.top[1], m.top[2], m.median}; }));
  add(flat(r.outlier_split(t.x, t.y), [](const OutlierSplit& s) {
    return std::array{s.energy, s.product, s.error, s.token_error, s.channel_error, s.first_error, d(s.outlier_tokens)};
  }));
  add(r.norms(t.x));
  add(r.projected_norms(t.x, t.factors));
  add(flat(r.compare_logits(t.base, t.test, t.targets), [](const TokenComparison& c) {
    return std::array{c.nll_base, c.nll_test, c.kl, c.kl_reverse, c.jsd, d(c.top1_base), d(c.top1_test), d(c.target)};
  }));
  return all;
}

Numbers of_attention(const NamedBackend& backend, const Tensors& t) {
  Reductions& r = backend->reductions();
  const DeviceTensor w = r.coded_weights(t.base, t.codes, parse_prob_scheme("uint8"), true);
  Numbers all = numbers(backend->download(w));
  const auto add = [&](const Numbers& more) { all.insert(all.end(), more.begin(), more.end()); };
  add(flat(r.row_divergence(t.base, t.test, true),
           [](const RowDivergence& v) { return std::array{v.kl, v.tv, d(v.seen)}; }));
  add(flat(r.coded_divergence(t.test, t.base, w, true),
           [](const CodedDivergence& v) { return std::array{v.tv, v.jsd, v.flushed, d(v.seen)}; }));
  add(flat(r.code_histogram(t.codes, true), [](std::int64_t n) { return std::array{d(n)}; }));
  add(flat(r.output_split(t.base, w, t.x, t.y),
           [](const OutputSplit& s) { return std::array{s.output, s.error, s.p, s.p_first, s.v, s.v_first}; }));
  add(flat(r.attention_summary(t.base, true), [](const AttentionSummary& s) {
    return std::array{d(s.rows), s.entropy_sum, s.sink_mass_sum, s.gap_sum, d(s.top_key), s.top_key_share};
  }));
  add(r.mean_attention_to(t.base, 0, 1, 13));
  return all;
}

struct Inputs {
  static constexpr std::int64_t windows = 4, tokens = 13, heads = 3, dim = 8;
  Tensor x = filled(Shape{windows, tokens, heads, dim}, 1), y = filled(x.shape(), 2);
  Tensor base = probabilities(windows, heads, tokens, 3), test = probabilities(windows, heads, tokens, 4);
  Tensor targets{DType::i32, Shape{windows, std::int64_t{heads * tokens}}};
  Tensor logits, other, factors = filled(Shape{heads, dim, dim}, 5);

  explicit Inputs(std::int64_t vocabulary)
      : logits(filled(Shape{windows, heads * tokens, vocabulary}, 6)), other(filled(logits.shape(), 7)) {
    for (std::int64_t i = 0; i < targets.shape().elements(); ++i)
      targets.view<std::int32_t>()[i] = static_cast<std::int32_t>(i % vocabulary);
  }
  Tensors values(const NamedBackend& b) const {
    return {b->upload(x), b->upload(y), b->upload(logits), b->upload(other), {}, b->upload(factors), b->upload(targets)};
  }
  Tensors attention(const NamedBackend& b) const {
    return {b->upload(x), b->upload(y), b->upload(base), b->upload(test), b->upload(codes_of(base)), {}, {}};
  }
};

}  // namespace

TEST_CASE("reductions give the same numbers with 1, 2 and 3 threads", "[threads]") {
  const Inputs in(13);
  for (const NamedBackend& backend : backends()) {
    const Tensors values = in.values(backend), attention = in.attention(backend);
    const Numbers of_x = of_values(backend->reductions(), values), of_p = of_attention(backend, attention);
    for (const int n : {1, 2, 3}) {
      const Threads threads(n);
      CAPTURE(backend.name, n);
      CHECK(of_values(backend->reductions(), values) == of_x);
      CHECK(of_attention(backend, attention) == of_p);
    }
    // Numbers that are all there, and more than the last digits of one.
    for (const Numbers* all : {&of_x, &of_p}) {
      CHECK(all->size() > 500);
      for (const double number : *all) CHECK(std::isfinite(number));
    }
  }
}

TEST_CASE("reductions give the same bits by the portable, the AVX2 and the AVX-512 loops", "[isa]") {
  for (const NamedBackend& backend : backends()) {
    if (backend.name != "cpu") continue;
    for (const std::int64_t vocabulary : {5, 8, 77}) {
      const Inputs in(vocabulary);
      const Numbers of_x = of_values(backend->reductions(), in.values(backend)),
                    of_p = of_attention(backend, in.attention(backend));
      for (const quant::Isa isa : {quant::Isa::portable, quant::Isa::avx2}) {
        CAPTURE(vocabulary, static_cast<int>(isa));
        const quant::Isa before = quant::force_isa(isa);
        const bool same_x = of_values(backend->reductions(), in.values(backend)) == of_x;
        const bool same_p = of_attention(backend, in.attention(backend)) == of_p;
        quant::force_isa(before);
        CHECK(same_x);
        CHECK(same_p);
      }
    }
  }
}
