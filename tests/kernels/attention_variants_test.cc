// What the options of attention mean, each against something simpler that must give the same: gates by hand, smoothing that
// changes nothing, running references of one block, stored scores, denominators from codes, padding by leaving out.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>

#include "tests/kernels/attention_expectation.h"
#include "tests/support/grid.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

/// Largest difference of full-precision outputs from the oracle over its tolerance.
double excess(const Case& c, const Inputs& judged, const Tensor& output, double score_growth) {
  double worst = 0;
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t h = 0; h < c.q_heads; ++h) {
      const oracle::HeadResult o = judge(c, judged, b, h);
      for (std::int64_t i = 0; i < c.q_len; ++i)
        for (std::int64_t x = 0; x < c.dv; ++x) {
          const auto n = static_cast<std::size_t>(i * c.dv + x);
          const double got = number(output, ((b * c.q_len + i) * c.q_heads + h) * c.dv + x);
          raise(worst,
                std::fabs(got - o.output[n]) / attention_f32(o.output[n], o.magnitude[n], static_cast<double>(c.kv_len),
                                                             static_cast<double>(c.d),
                                                             score_growth * o.score_magnitude[static_cast<std::size_t>(i)]));
        }
    }
  return worst;
}

Inputs copy(const Inputs& in) {
  const auto clone = [](const Tensor& t) { return t.empty() ? Tensor() : t.clone(); };
  return {clone(in.q), clone(in.k), clone(in.v), clone(in.gate_logits), clone(in.sink), clone(in.key_mask), clone(in.bias)};
}

}  // namespace

TEST_CASE("a gate at the value site is V scaled by hand; at the output site, the output scaled by hand: to the bit") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : all_schemes())
      for (const GateSite site : {GateSite::value, GateSite::output})
        for (Case c : {Case{.q_heads = 4}, Case{.q_len = 5, .kv_len = 40}}) {
          c.gate = Gate{GateInput::hidden, site};
          const Inputs in = inputs_of(c, 20);
          AttentionSchemes s = scheme.schemes;
          s.output = {};  // an output scheme rounds after the gate
          if (!backend->supports(problem_of(c, s))) continue;
          const AttentionRanges ranges = static_ranges(c, s);
          const Run gated = run(*backend, problem_of(c, s), in, true, ranges);
          const Tensor& gate = gated.taps.at(TapPoint::gate);
          Case plain = c;
          plain.gate = std::nullopt;
          Inputs by_hand = copy(in);
          if (site == GateSite::value)
            for (std::int64_t i = 0; i < in.v.shape().elements(); ++i)
              by_hand.v.view<float>()[i] *= gate.view<float>()[i / c.dv];
          Tensor expected = run(*backend, problem_of(plain, s), by_hand, false, ranges).output;
          for (std::int64_t i = 0; site == GateSite::output && i < expected.shape().elements(); ++i) {
            const std::int64_t h = i / c.dv % c.q_heads, t = i / (c.dv * c.q_heads) % c.q_len,
                               b = i / (c.dv * c.q_heads * c.q_len);
            expected.view<float>()[i] *= gate.view<float>()[(b * c.kv_len + t + c.kv_len - c.q_len) * c.q_heads + h];
          }
          CAPTURE(backend.name, scheme.name, c.to_string());
          CHECK(same_bits(expected, gated.output));
        }
}

TEST_CASE("smoothing K changes nothing in full precision, with a learnable sink and padding too, however far K lies off") {
  for (const NamedBackend& backend : backends())
    for (Case c : {Case{}, Case{.sink = true}, Case{.q_heads = 4, .padded = true, .sink = true}, Case{.padded = true}}) {
      Inputs in = inputs_of(c, 21);
      for (std::int64_t i = 0; i < in.k.shape().elements(); ++i)  // another offset for each head and channel
        in.k.view<float>()[i] += 0.25F * static_cast<float>(i % (c.kv_heads * c.d) % 13 - 5);
      AttentionSchemes s;
      s.smooth_k = true;
      const Tensor output = run(*backend, problem_of(c, s), in, false).output;
      CAPTURE(backend.name, c.to_string());
      // K - mean and the lowered sink are rounded once each: the scores of before and after both count.
      CHECK(excess(c, in, output, 2) <= 1.0);
      if (!c.sink) continue;
      Inputs wrong = copy(in);
      for (float& x : wrong.sink.view<float>().span()) x += 0.01F;
      CHECK_FALSE(excess(c, wrong, output, 2) <= 1.0);
    }
}

TEST_CASE("smoothing is what makes INT8 keys with a common offset usable") {
  for (const NamedBackend& backend : backends()) {
    const Case c{.sink = true};
    Inputs in = inputs_of(c, 22);
    for (float& x : in.k.view<float>().span()) x += 20.0F;
    AttentionSchemes s = schemes("f32", "f32", "uint8", "int8/channel");
    s.q = s.k = quant::parse_scheme("int8/token");
    const auto error = [&](bool smooth) {
      s.smooth_k = smooth;
      const Tensor y = run(*backend, problem_of(c, s), in, false).output,
                   x = run(*backend, problem_of(c, {}), in, false).output;
      quant::DistortionStats stats;
      stats.add(x.view<float>().span(), y.view<float>().span());
      CHECK(stats.nan_count() == 0);
      return *stats.nmse();
    };
    CAPTURE(backend.name);
    CHECK(error(true) * 2 < error(false));
  }
}

TEST_CASE("running references of one block are row_max; both visit what they say") {
  for (const NamedBackend& backend : backends())
    for (const char* pair :
         {"uint8 int8/channel int8/token", "e4m3 e4m3 e4m3/token", "int8 int8 int8/token", "bf16 bf16 f32"}) {
      const std::string text = pair, p = text.substr(0, text.find(' ')), rest = text.substr(p.size() + 1),
                        v = rest.substr(0, rest.find(' ')), q = rest.substr(v.size() + 1);
      const Case c{.q_len = 50, .kv_len = 50};
      Inputs in = inputs_of(c, 23);  // every query likes the first key best
      for (float& x : in.q.view<float>().span()) x = std::fabs(x);
      for (std::int64_t i = 0; i < in.k.shape().elements(); ++i)
        if (i / (c.kv_heads * c.d) % c.kv_len == 0) in.k.view<float>()[i] = 4.0F;
      const auto with = [&](const std::string& suffix) {
        return run(*backend, problem_of(c, schemes(q, q, p + suffix, v)), in);
      };
      const Run plain = with(""), forward = with("/running_forward(50)"), reverse = with("/running_reverse(64)");
      CAPTURE(backend.name, pair);
      CHECK(same_bits(plain.taps.at(TapPoint::p_codes), forward.taps.at(TapPoint::p_codes)));
      CHECK(same_bits(plain.taps.at(TapPoint::p_codes), reverse.taps.at(TapPoint::p_codes)));
      CHECK(same_bits(plain.output, forward.output));
      CHECK(same_bits(plain.output, reverse.output));
      // With the largest score in front, forward codes are row_max's; reverse ones are larger wherever the sink comes last.
      CHECK(same_bits(plain.taps.at(TapPoint::p_codes), with("/running_forward(8)").taps.at(TapPoint::p_codes)));
      CHECK_FALSE(same_bits(plain.taps.at(TapPoint::p_codes), with("/running_reverse(8)").taps.at(TapPoint::p_codes)));
    }
}

TEST_CASE("bf16 scores are bf16 numbers; f32 ones aren't") {
  for (const NamedBackend& backend : backends()) {
    const Case c{.causal = false};
    const Inputs in = inputs_of(c, 24);
    for (const bool bf16 : {true, false}) {
      AttentionSchemes s = schemes("int8/token", "int8/token", "uint8", "int8");
      if (bf16) s.scores_storage = DType::bf16;
      const Run r = run(*backend, problem_of(c, s), in);
      const Tensor& scores = r.taps.at(TapPoint::scores);
      std::int64_t others = 0;
      for (const float x : scores.view<float>().span()) others += (std::bit_cast<std::uint32_t>(x) & 0xFFFFU) != 0;
      CAPTURE(backend.name, bf16, others);
      CHECK((others == 0) == bf16);
    }
  }
}

TEST_CASE("rows of P sum to one with the sink's share; a denominator of codes makes P codes sum to one exactly") {
  for (const NamedBackend& backend : backends())
    for (const Case& c : variants()) {
      const Inputs in = inputs_of(c, 12);
      const Run r = run(*backend, problem_of(c, {}), in),
                q = run(*backend, problem_of(c, schemes("int8/token", "int8/token", "uint8/quantized_sum", "int8")), in);
      CAPTURE(backend.name, c.to_string());
      std::int64_t wrong = 0, n = 0;
      for (std::int64_t row = 0; row < c.batch * c.q_heads * c.q_len; ++row) {
        double sum = 0, codes = 0, biggest = -INFINITY;
        for (std::int64_t j = 0; j < c.kv_len; ++j) {
          sum += number(r.taps.at(TapPoint::probs), row * c.kv_len + j);
          codes += number(q.taps.at(TapPoint::p_codes), row * c.kv_len + j);
          biggest = std::max(biggest, number(q.taps.at(TapPoint::scores), row * c.kv_len + j));
        }
        if (biggest == -INFINITY) continue;
        ++n;
        const double keys = static_cast<double>(c.kv_len);
        const double lse = number(r.taps.at(TapPoint::lse), row);
        const double sink =
            c.sink ? std::exp(static_cast<double>(in.sink.view<float>()[row / c.q_len % c.q_heads]) - lse) : 0;
        // A sum of keys probabilities, each with the error of exp, a division, and of l; lse is rounded at its own size.
        wrong += !(std::fabs(sum + sink - 1) <=
                   accumulation(keys, f32_epsilon, 2) + exp_relative + (3 + std::fabs(lse)) * f32_epsilon);
        // lse = m + log(sum of codes / 255 + the sink's E), m the larger of both.
        const double logit = c.sink ? static_cast<double>(in.sink.view<float>()[row / c.q_len % c.q_heads]) : -INFINITY,
                     m = std::max(biggest, logit);
        const double expected = m + std::log(codes / 255 + (c.sink ? std::exp(logit - m) : 0));
        wrong += !(std::fabs(number(q.taps.at(TapPoint::lse), row) - expected) <=
                   exp_relative + (4 + std::fabs(expected)) * 2 * f32_epsilon);
      }
      CHECK(wrong == 0);
      CHECK(n > 0);
    }
}

TEST_CASE("padding keys is leaving them out") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : all_schemes()) {
      const Case c{.batch = 1, .q_len = 12, .kv_len = 30, .causal = false, .padded = true},
          kept{.batch = 1, .q_len = 12, .kv_len = 20, .causal = false};
      Inputs in = inputs_of(c, 25);  // the last third is padding
      const auto local = [](const quant::QuantScheme& s) { return s.granularity.kind != quant::GranularityKind::block; };
      if (!backend->supports(problem_of(c, scheme.schemes)) || !local(scheme.schemes.k) ||
          scheme.schemes.p.reference == PReference::running_reverse)
        continue;
      for (Tensor* t : {&in.k, &in.v})  // padding must not reach ranges: they are of the whole window
        for (std::int64_t i = 20 * c.kv_heads * 16; i < t->shape().elements(); ++i) t->view<float>()[i] = 0.0F;
      Inputs less = copy(in);
      less.key_mask = Tensor();
      for (Tensor* t : {&less.k, &less.v}) {
        Tensor shorter(DType::f32, Shape{1, 20, c.kv_heads, 16});
        std::memcpy(shorter.raw(), t->raw(), shorter.bytes());
        *t = std::move(shorter);
      }
      const AttentionRanges ranges = static_ranges(c, scheme.schemes);
      const Run padded = run(*backend, problem_of(c, scheme.schemes), in, true, ranges);
      const Run shorter = run(*backend, problem_of(kept, scheme.schemes), less, true, ranges);
      const AttentionProblem kept_problem = problem_of(kept, scheme.schemes);
      const Expectation e(backend.name, kept, kept_problem, less, ranges, shorter);
      CAPTURE(backend.name, scheme.name);
      std::int64_t wrong = 0;
      for (std::int64_t h = 0; h < c.q_heads; ++h) {
        const HeadExpectation head = e.head(0, h);
        for (std::int64_t i = 0; i < c.q_len; ++i) {
          const std::vector<double> allowed = head.allowance(i).output;
          for (std::int64_t x = 0; x < c.dv; ++x) {
            const std::int64_t n = (i * c.q_heads + h) * c.dv + x;
            wrong += !(std::fabs(number(padded.taps.at(TapPoint::context), n) -
                                 number(shorter.taps.at(TapPoint::context), n)) <= 2 * allowed[static_cast<std::size_t>(x)]);
          }
        }
      }
      CHECK(wrong == 0);
    }
}
