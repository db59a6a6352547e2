// What coding P does: the weights that the product with V used against attention's own output, then each reduction by hand,
// and what it can't see.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <initializer_list>

#include "tests/kernels/attention_cases.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

Tensor of(const Shape& shape, std::initializer_list<float> values) {
  Tensor tensor(DType::f32, shape);
  REQUIRE(static_cast<std::int64_t>(values.size()) == shape.elements());
  std::copy(values.begin(), values.end(), tensor.view<float>().data());
  return tensor;
}

Tensor bytes(const Shape& shape, std::initializer_list<int> values) {
  Tensor tensor(DType::u8, shape);
  REQUIRE(static_cast<std::int64_t>(values.size()) == shape.elements());
  std::transform(values.begin(), values.end(), tensor.view<std::uint8_t>().data(),
                 [](int value) { return static_cast<std::uint8_t>(value); });
  return tensor;
}

bool near(double a, double b, double tolerance = 1e-12) { return std::fabs(a - b) <= tolerance; }

std::vector<double> weights_of(const NamedBackend& backend, const Tensor& probs, const Tensor& codes,
                               const std::string& scheme, bool sink) {
  return numbers(backend->download(
      backend->reductions().coded_weights(backend->upload(probs), backend->upload(codes), parse_prob_scheme(scheme), sink)));
}

/// Worst excess over its tolerance of attention's output against weights times values, the weights off by `factor`.
double worst_excess(const NamedBackend& backend, const Case& c, const Run& r, const AttentionSchemes& schemes,
                    double factor) {
  const std::vector<double> w = weights_of(backend, r.taps.at(TapPoint::probs), r.taps.at(TapPoint::p_codes),
                                           to_string(schemes.p), c.sink),
                            p = numbers(r.taps.at(TapPoint::probs)), v = numbers(r.taps.at(TapPoint::v_dequantized)),
                            o = numbers(r.output);
  const double epsilon = accumulator_epsilon(backend.name, schemes.p.format, schemes.v.format, false);
  const bool running = schemes.p.reference != PReference::row_max;
  const double blocks = running ? std::ceil(static_cast<double>(c.kv_len) / static_cast<double>(schemes.p.block)) : 1;
  double worst = 0;
  for (std::int64_t row = 0; row < c.batch * c.q_heads * c.q_len; ++row) {
    const std::int64_t i = row % c.q_len, h = row / c.q_len % c.q_heads, b = row / (c.q_len * c.q_heads);
    double mass = 0, largest = 0;
    for (std::int64_t j = 0; j < c.kv_len; ++j) {
      mass += p[static_cast<std::size_t>(row * c.kv_len + j)];
      largest = std::max(largest, p[static_cast<std::size_t>(row * c.kv_len + j)]);
    }
    // 1 / l is the largest probability, rounded twice; where that is the sink's it is 1 less a sum of rounded numbers.
    const double lacks = 1 - mass, n = static_cast<double>(c.kv_len);
    const double l = 2 * f32_epsilon + (c.sink && lacks > largest / 2 ? n * f32_epsilon / lacks : 0);
    for (std::int64_t d = 0; d < c.dv; ++d) {
      double sum = 0, size = 0;
      for (std::int64_t j = 0; j < c.kv_len; ++j) {
        const double term =
            factor * w[static_cast<std::size_t>(row * c.kv_len + j)] *
            v[static_cast<std::size_t>(((b * c.kv_len + j) * c.kv_heads + h / (c.q_heads / c.kv_heads)) * c.dv + d)];
        sum += term;
        size += std::fabs(term);
      }
      const double found = o[static_cast<std::size_t>(((b * c.q_len + i) * c.q_heads + h) * c.dv + d)];
      // A score is read twice, for E and for probs: what its exponential loses, of every block's maximum too. Weights and
      // values are rounded to f32 here, as an emulated product's operands are.
      const double tolerance = attention_output(sum, size, n, epsilon, l + exp_relative, blocks, exp_relative, true);
      raise(worst, std::fabs(found - sum) / tolerance);
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("coded weights times dequantized values are attention's output: formats, running maxima, sinks; 1 % off isn't") {
  for (const NamedBackend& backend : backends())
    for (const auto& [p, v] :
         std::initializer_list<std::pair<const char*, const char*>>{{"uint8", "int8/channel"},
                                                                    {"int8", "int8/head"},
                                                                    {"e4m3", "e4m3/tensor"},
                                                                    {"e5m2/scale=448", "e5m2/channel"},
                                                                    {"bf16", "bf16"},
                                                                    {"f32", "f32"},
                                                                    {"uint8/running_forward(16)", "int8/tensor"},
                                                                    {"e4m3/running_reverse(16)", "e4m3/channel"}})
      for (const Case& c : {Case{}, Case{.q_len = 20, .kv_len = 40, .q_heads = 4, .causal = false, .padded = true},
                            Case{.q_heads = 4, .sink = true}, Case{.fill = "sink"}}) {
        const AttentionSchemes s = schemes("f32", "f32", p, v);
        const AttentionProblem problem = problem_of(c, s);
        if (!backend->supports(problem)) continue;
        const Run r = run(*backend, problem, inputs_of(c, 60));
        CAPTURE(backend.name, p, v, c.to_string());
        CHECK(worst_excess(backend, c, r, s, 1) <= 1);
        if (accumulator_epsilon(backend.name, s.p.format, s.v.format, false) <= f32_epsilon)
          CHECK_FALSE(worst_excess(backend, c, r, s, fault) <= 1);
      }
}

TEST_CASE("coded weights by hand: the row's largest probability, the sink's, and that of the blocks seen so far") {
  for (const NamedBackend& backend : backends()) {
    CAPTURE(backend.name);
    const Shape four{1, 1, 1, 4};
    const Tensor p = of(four, {0.125F, 0.25F, 0.5F, 0.125F}), codes = bytes(four, {51, 102, 255, 0});
    const auto expect = [&](const std::string& scheme, const Tensor& probs, bool sink, std::initializer_list<double> want) {
      const std::vector<double> found = weights_of(backend, probs, codes, scheme, sink);
      CAPTURE(scheme, sink);
      for (std::size_t i = 0; i < want.size(); ++i) CHECK(near(found[i], want.begin()[i], 1e-7));
    };
    expect("uint8", p, false, {0.1, 0.2, 0.5, 0});
    expect("uint8/running_forward(2)", p, false, {0.05, 0.1, 0.5, 0});
    expect("uint8/running_reverse(2)", p, false, {0.1, 0.2, 0.5, 0});
    const Tensor half = of(four, {0.0625F, 0.125F, 0.25F, 0.0625F});
    expect("uint8", half, true, {0.1, 0.2, 0.5, 0});  // the sink has the other half, and E = 1
    expect("uint8", half, false, {0.05, 0.1, 0.25, 0});
    Tensor fp8 = Tensor::zeros(DType::e4m3, four);
    for (std::int64_t i = 0; i < 3; ++i) fp8.raw()[i] = static_cast<std::byte>(0x30 + (i == 1 ? 8 : i == 2 ? 0x48 : 0));
    const std::vector<double> w = weights_of(backend, p, fp8, "e4m3", false);  // of 0.5, 1, 256, 0
    CHECK((near(w[0], 0.5 / 512) && near(w[1], 1.0 / 512) && w[2] == 0.5 && w[3] == 0));
  }
}

TEST_CASE("divergence on codes by hand, a sink among the outcomes; blind to which keys, and JSD to a common factor") {
  for (const NamedBackend& backend : backends()) {
    CAPTURE(backend.name);
    const Shape four{1, 1, 1, 4};
    const auto divergence = [&](const Tensor& base, const Tensor& test, const Tensor& weights, bool sink) {
      return backend->reductions().coded_divergence(backend->upload(base), backend->upload(test), backend->upload(weights),
                                                    sink)[0];
    };
    const Tensor p = of(four, {0.5F, 0.25F, 0.25F, 0}), w = of(four, {0.5F, 0.25F, 0, 0});
    const CodedDivergence d = divergence(p, p, w, false);
    const double third = 1.0 / 3;  // w renormalized: 2/3, 1/3, 0
    const double jsd =
        (0.5 * std::log(2 * 0.5 / (0.5 + 2 * third)) + 0.25 * std::log(0.5 / (0.25 + third)) + 0.25 * std::log(2) +
         2 * third * std::log(4 * third / (0.5 + 2 * third)) + third * std::log(2 * third / (0.25 + third))) /
        2;
    CHECK((d.seen == 1 && near(d.tv, 0.125) && near(d.jsd, jsd) && near(d.flushed, 0.25)));
    CHECK_FALSE(near(d.jsd * 1.0001, jsd, 1e-6 * jsd));
    const CodedDivergence moved = divergence(of(four, {0.25F, 0, 0.25F, 0.5F}), p, of(four, {0, 0, 0.25F, 0.5F}), false);
    CHECK((near(moved.tv, d.tv) && near(moved.jsd, d.jsd) && near(moved.flushed, d.flushed)));
    const CodedDivergence scaled = divergence(p, p, of(four, {0.25F, 0.125F, 0, 0}), false);
    CHECK((near(scaled.jsd, d.jsd) && near(scaled.flushed, d.flushed) && near(scaled.tv, 0.3125)));

    // Half of each row is a sink's: the outcomes are .25 .125 .125 .5 against .25 .125 0 .5.
    const Tensor half = of(four, {0.25F, 0.125F, 0.125F, 0}), flushed = of(four, {0.25F, 0.125F, 0, 0});
    const CodedDivergence s = divergence(half, half, flushed, true);
    const auto part = [](double from, double to) {
      return (from > 0 ? from * std::log(2 * from / (from + to)) : 0) + (to > 0 ? to * std::log(2 * to / (from + to)) : 0);
    };
    const double k = 0.875;
    CHECK((near(s.tv, 0.0625) && near(s.flushed, 0.125)));
    CHECK(near(s.jsd, (part(0.25, 0.25 / k) + part(0.125, 0.125 / k) + part(0.125, 0) + part(0.5, 0.5 / k)) / 2));

    const Tensor zero = of(four, {0, 0, 0, 0});
    CHECK(divergence(zero, zero, zero, false).seen == 0);
    CHECK(near(divergence(p, p, zero, false).jsd, std::log(2.0)));  // nothing left to renormalize
    CHECK(near(divergence(p, p, zero, false).flushed, 1));
    const CodedDivergence close = divergence(p, p, of(four, {0.5F * (1 + 1e-6F), 0.25F, 0.25F, 0}), false);
    const double r = static_cast<double>(0.5F * (1 + 1e-6F)) - 0.5,
                 sum = 1 + r;  // JSD of shares that differ by d: about sum d^2 / (8 p)
    const double shift[3] = {(0.5 + r) / sum - 0.5, 0.25 / sum - 0.25, 0.25 / sum - 0.25};
    const double small = shift[0] * shift[0] / 4 + shift[1] * shift[1] + shift[2] * shift[2] / 2 - shift[1] * shift[1] / 2;
    CHECK(near(close.jsd, small, 1e-5 * small));
  }
}

TEST_CASE("divergence of probabilities with a learnable sink by hand: its mass is one more outcome, down to 1e-5") {
  for (const NamedBackend& backend : backends()) {
    CAPTURE(backend.name);
    const Shape two{1, 1, 1, 2};
    const auto divergence = [&](std::initializer_list<float> base, std::initializer_list<float> test, bool sink) {
      return backend->reductions().row_divergence(backend->upload(of(two, base)), backend->upload(of(two, test)), sink)[0];
    };
    const RowDivergence d = divergence({0.25F, 0.25F}, {0.5F, 0.25F}, true);
    CHECK(near(d.kl, 0.25 * std::log(0.5) + 0.5 * std::log(2)));
    CHECK(near(d.tv, 0.25));
    CHECK(near(divergence({0.25F, 0.25F}, {0.5F, 0.25F}, false).tv, 0.125));
    CHECK(divergence({0.5F, 0.5F}, {0.5F, 0.499999F}, true).kl < 1e-11);  // less than a row of f32 can tell from no sink
  }
}

TEST_CASE("the histogram of codes counts what queries see, by hand; it can't see where a code lies") {
  for (const NamedBackend& backend : backends()) {
    CAPTURE(backend.name);
    const auto histogram = [&](std::initializer_list<int> codes, bool causal = true) {
      return backend->reductions().code_histogram(backend->upload(bytes(Shape{1, 1, 2, 3}, codes)), causal);
    };
    const std::vector<std::int64_t> counts = histogram({7, 0, 9, 255, 7, 7});  // the first query sees two keys
    REQUIRE(counts.size() == 256);
    CHECK((counts[0] == 1 && counts[7] == 3 && counts[255] == 1 && counts[9] == 0));
    CHECK(histogram({0, 7, 0, 7, 255, 7}) == counts);
    const std::vector<std::int64_t> all = histogram({7, 0, 9, 255, 7, 7}, false);  // an encoder's query sees every key
    CHECK((all[0] == 1 && all[7] == 3 && all[255] == 1 && all[9] == 1));
  }
}

TEST_CASE("attention's error in parts by hand; parts that cancel can't be told from none by their sum") {
  for (const NamedBackend& backend : backends()) {
    CAPTURE(backend.name);
    const Shape probs{1, 2, 2, 2}, values{1, 2, 1, 2};  // two heads share one key/value head
    const Tensor p = of(probs, {1, 0, 0.5F, 0.5F, 1, 0, 0.25F, 0.75F}),
                 w = of(probs, {1, 0, 0.25F, 0.5F, 1, 0, 0.25F, 0.5F});
    const Tensor v = of(values, {4, 0, 0, 8}), coded = of(values, {5, 0, 0, 9});
    const auto got = backend->reductions().output_split(backend->upload(p), backend->upload(w), backend->upload(v),
                                                        backend->upload(coded));
    REQUIRE(got.size() == 2);
    // Head 0, query 0: PV (4, 0), by V (1, 0). Query 1: PV (2, 4), by P (-1, 0) of key 0, by V (.25, 0) and (0, .5).
    CHECK((near(got[0].output, 16 + 4 + 16) && near(got[0].p, 1) && near(got[0].p_first, 1) && near(got[0].p_others, 0)));
    CHECK((near(got[0].v, 1 + 0.0625 + 0.25) && near(got[0].v_first, 1 + 0.0625) && near(got[0].v_others, 0.25)));
    CHECK(near(got[0].error, 1 + 0.5625 + 0.25));
    CHECK((near(got[1].p_first, 0) && near(got[1].p_others, 4) && near(got[1].v_first, 1.0625)));
    const Tensor less = of(probs, {0.5F, 0, 0, 0, 0.5F, 0, 0, 0}), twice = of(values, {8, 0, 0, 0});
    const auto cancelled =
        backend->reductions().output_split(backend->upload(of(probs, {1, 0, 0, 0, 1, 0, 0, 0})), backend->upload(less),
                                           backend->upload(v), backend->upload(twice));
    CHECK((cancelled[0].error == 0 && near(cancelled[0].p, 4) && near(cancelled[0].v, 4)));
  }
}
