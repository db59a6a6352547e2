// What must hold whatever the numbers: repeatability, threads, listeners, causal prefixes, chunks, permuted and repeated
// heads, scales of the input, refusals. To the bit wherever the order of operations is the same.
#include "kernels/attention.h"

#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/registry/registry.h"
#include "tests/kernels/attention_cases.h"
#include "tests/kernels/attention_expectation.h"
#include "tests/kernels/linear_cases.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

/// Windows [b, b + 1) and tokens [0, n) of [B, T, H, D].
Tensor part(const Tensor& t, std::int64_t b, std::int64_t n) {
  Tensor result(t.dtype(), Shape{1, n, t.shape()[2], t.shape()[3]});
  const std::size_t window = t.bytes() / static_cast<std::size_t>(t.shape()[0]);
  std::memcpy(result.raw(), t.raw() + static_cast<std::size_t>(b) * window, result.bytes());
  return result;
}

/// Head h of the result is head from[h] of `t` [B, T, H, D].
Tensor with_heads(const Tensor& t, const std::vector<std::int64_t>& from) {
  const Shape& s = t.shape();
  const auto heads = static_cast<std::int64_t>(from.size());
  Tensor result(DType::f32, Shape{s[0], s[1], heads, s[3]});
  for (std::int64_t r = 0; r < s[0] * s[1]; ++r)
    for (std::int64_t h = 0; h < heads; ++h)
      std::copy_n(t.view<float>().data() + (r * s[2] + from[static_cast<std::size_t>(h)]) * s[3], s[3],
                  result.view<float>().data() + (r * heads + h) * s[3]);
  return result;
}

void multiply(Tensor& t, float factor) {
  for (float& x : t.view<float>().span()) x *= factor;
}

/// Whether sums don't depend on the sizes of the product around them: integers never do, and host backends form each head's
/// alone; the GPU's libraries choose how to sum floating products by the whole problem.
bool sums_are_their_own(const NamedBackend& backend, const AttentionSchemes& s) {
  return backend.name != "gpu" || (quant::is_integer(s.q.format) && quant::is_integer(s.p.format));
}

/// Ranges of one token, block or everything beforehand: nothing looks at later tokens.
bool causal(const AttentionSchemes& s) {
  const auto local = [](const quant::QuantScheme& x) {
    return !quant::is_scaled(x.format) || x.granularity.kind == quant::GranularityKind::token ||
           x.range.kind == quant::RangeKind::fixed || x.timing == quant::Timing::static_;
  };
  const auto blocked = [](const quant::QuantScheme& x) { return x.granularity.kind == quant::GranularityKind::block; };
  return (local(s.q) || blocked(s.q)) && (local(s.k) || blocked(s.k)) && local(s.v) && !s.smooth_k &&
         s.output.format == quant::Format::f32 && s.p.reference != PReference::running_reverse;
}

/// One NaN, and which outputs are NaN; no row counts as masked, and no more codes as zero than there are.
void nan_spreads(Backend& backend, const AttentionProblem& p, const Case& c, float nan, bool of_key) {
  constexpr std::int64_t token = 17, head = 1;  // of the first window
  Inputs in = inputs_of(c, 41);
  const std::int64_t at = (token * (of_key ? c.kv_heads : c.q_heads) + head) * c.d + 3;
  (of_key ? in.k : in.q).view<float>()[at] = nan;
  const Run r = run(backend, p, in, false);
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < r.output.shape().elements(); ++i) {
    const std::int64_t h = i / c.dv % c.q_heads, t = i / (c.dv * c.q_heads) % c.q_len, b = i / (c.dv * c.q_heads * c.q_len);
    const bool touched = b == 0 && h == head && (of_key ? visible(c, in, b, h, t, token) : t == token);
    wrong += std::isnan(r.output.view<float>()[i]) == touched ? 0 : 1;
  }
  CHECK(wrong == 0);
  for (const ProbCounts& counts : r.result.probs) {
    CHECK(counts.masked_rows == 0);
    CHECK((0 <= counts.zero_codes && counts.zero_codes <= counts.visible));
  }
}

}  // namespace

TEST_CASE("the same inputs give the same bits: run after run, with 1, 2 and 3 threads, with and without a listener",
          "[isa][threads]") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : all_schemes())
      for (const Case& c :
           {Case{.q_len = 130, .kv_len = 130}, Case{.q_heads = 4, .causal = false, .padded = true, .sink = true}}) {
        const Inputs in = inputs_of(c, 16);
        const AttentionProblem p = problem_of(c, scheme.schemes);
        if (!backend->supports(p)) continue;
        const AttentionRanges ranges = static_ranges(c, scheme.schemes);
        const Tensor first = run(*backend, p, in, false, ranges).output;
        CAPTURE(backend.name, scheme.name, c.to_string());
        CHECK(same_bits(first, run(*backend, p, in, false, ranges).output));
        CHECK(same_bits(first, run(*backend, p, in, true, ranges).output));
        for (const int n : {1, 2, 3}) {
          const Threads threads(n);
          CAPTURE(n);
          CHECK(same_bits(first, run(*backend, p, in, false, ranges).output));
        }
      }
}

TEST_CASE("linears give the same bits with 1, 2 and 3 threads", "[isa][threads]") {
  for (const NamedBackend& backend : backends())
    for (const auto& [weights, activations] : {std::pair{"f32", "f32"}, std::pair{"int8/channel", "uint8/token/affine"},
                                               std::pair{"e4m3/channel", "e4m3/tensor"}}) {
      const LinearCase c{130, 67, 150};
      const LinearInputs in = inputs_of(c, 17);
      const Tensor first = run(*backend, linear_problem(c, weights, activations), in).y;
      for (const int n : {1, 2, 3}) {
        const Threads threads(n);
        CAPTURE(backend.name, weights, n);
        CHECK(same_bits(first, run(*backend, linear_problem(c, weights, activations), in).y));
      }
    }
}

TEST_CASE("a window's result doesn't depend on its batch") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : all_schemes()) {
      const Case c{.batch = 3}, one{.batch = 1};
      const Inputs in = inputs_of(c, 18);
      if (!sums_are_their_own(backend, scheme.schemes)) continue;
      if (!backend->supports(problem_of(c, scheme.schemes))) continue;
      const AttentionRanges ranges = static_ranges(c, scheme.schemes);
      const Tensor all = run(*backend, problem_of(c, scheme.schemes), in, false, ranges).output;
      for (std::int64_t b = 0; b < 3; ++b) {
        const Inputs alone{part(in.q, b, 33), part(in.k, b, 33), part(in.v, b, 33), {}, {}, {}, {}};
        CAPTURE(backend.name, scheme.name, b);
        CHECK(same_bits(part(all, b, 33), run(*backend, problem_of(one, scheme.schemes), alone, false, ranges).output));
      }
    }
}

// Codes and integer products are the same numbers whatever follows; floating sums may run over more (zero) terms, in another
// order: they get the tolerance of two runs against the oracle.
TEST_CASE("a causal prefix is invariant for token, block and static schemes; for dynamic tensor ranges it isn't") {
  for (const NamedBackend& backend : backends()) {
    std::vector<Named> all = all_schemes();
    all.push_back({"int8 all local", schemes("int8/token", "int8/block(4)", "uint8", "int8/tensor/fixed(5)")});
    all.push_back(
        {"int8 running", schemes("int8/token", "int8/token", "uint8/running_forward(16)", "int8/head/absmax/static")});
    int seen = 0;
    for (const Named& scheme : all) {
      const Case c{.batch = 1, .q_len = 150, .kv_len = 150}, shorter{.batch = 1, .q_len = 20, .kv_len = 20};
      const Inputs in = inputs_of(c, 15), prefix{part(in.q, 0, 20), part(in.k, 0, 20), part(in.v, 0, 20), {}, {}, {}, {}};
      const AttentionProblem p = problem_of(c, scheme.schemes), short_p = problem_of(shorter, scheme.schemes);
      if (!backend->supports(p)) continue;
      const AttentionRanges ranges = static_ranges(c, scheme.schemes);
      const Run whole = run(*backend, p, in, true, ranges), start = run(*backend, short_p, prefix, true, ranges);
      const Tensor expected = part(whole.output, 0, 20);
      CAPTURE(backend.name, scheme.name);
      if (!causal(scheme.schemes)) {
        // f32 and the like are causal; what looks ahead must show that it does.
        if (quant::is_scaled(scheme.schemes.q.format)) CHECK_FALSE(same_bits(expected, start.output));
        continue;
      }
      ++seen;
      CHECK(same_bits(part(whole.taps.at(TapPoint::q_codes), 0, 20), start.taps.at(TapPoint::q_codes)));
      CHECK(same_bits(part(whole.taps.at(TapPoint::k_codes), 0, 20), start.taps.at(TapPoint::k_codes)));
      CHECK(same_bits(part(whole.taps.at(TapPoint::v_codes), 0, 20), start.taps.at(TapPoint::v_codes)));
      if (quant::is_integer(scheme.schemes.q.format) && quant::is_integer(scheme.schemes.p.format)) {
        CHECK(same_bits(expected, start.output));
      } else {
        const Expectation e(backend.name, shorter, short_p, prefix, ranges, start);
        for (std::int64_t h = 0; h < c.q_heads; ++h)
          for (std::int64_t i = 0; i < 20; ++i) {
            const auto allowed = e.head(0, h).allowance(i).output;
            for (std::int64_t x = 0; x < c.dv; ++x) {
              const std::int64_t n = (i * c.q_heads + h) * c.dv + x;
              const double d =
                  static_cast<double>(expected.view<float>()[n]) - static_cast<double>(start.output.view<float>()[n]);
              CHECK(std::fabs(d) <= 2 * allowed[static_cast<std::size_t>(x)]);
            }
          }
      }
    }
    CHECK(seen >= 4);
  }
}

TEST_CASE("heads permuted give outputs permuted, grouped heads are repeated heads: to the bit") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : all_schemes()) {
      const Case c{.q_heads = 4, .kv_heads = 2, .sink = true}, full{.q_heads = 4, .kv_heads = 4, .sink = true};
      const Inputs in = inputs_of(c, 17);
      if (!sums_are_their_own(backend, scheme.schemes)) continue;
      if (!backend->supports(problem_of(c, scheme.schemes))) continue;
      const auto output = [&](const Case& x, const Inputs& inputs, AttentionRanges ranges) {
        return run(*backend, problem_of(x, scheme.schemes), inputs, false, ranges).output;
      };
      const AttentionRanges ranges = static_ranges(c, scheme.schemes);
      AttentionRanges swapped_ranges = ranges, repeated_ranges = ranges;
      const auto reordered = [](std::vector<quant::Range>& r, const std::vector<std::size_t>& from) {
        if (r.size() < 2) return;
        const std::vector<quant::Range> before = r;
        r.clear();
        for (const std::size_t i : from) r.push_back(before[i]);
      };
      reordered(swapped_ranges.q, {2, 3, 0, 1});
      for (auto* r : {&swapped_ranges.k, &swapped_ranges.v}) reordered(*r, {1, 0});
      for (auto* r : {&repeated_ranges.k, &repeated_ranges.v}) reordered(*r, {0, 0, 1, 1});
      Inputs swapped{
          with_heads(in.q, {2, 3, 0, 1}), with_heads(in.k, {1, 0}), with_heads(in.v, {1, 0}), {}, in.sink.clone(), {}, {}};
      for (std::int64_t h = 0; h < 4; ++h) swapped.sink.view<float>()[h] = in.sink.view<float>()[(h + 2) % 4];
      const Inputs repeated{
          in.q.clone(), with_heads(in.k, {0, 0, 1, 1}), with_heads(in.v, {0, 0, 1, 1}), {}, in.sink.clone(), {}, {}};
      const Tensor plain = output(c, in, ranges);
      CAPTURE(backend.name, scheme.name);
      CHECK(same_bits(with_heads(plain, {2, 3, 0, 1}), output(c, swapped, swapped_ranges)));
      CHECK(same_bits(plain, output(full, repeated, repeated_ranges)));
      CHECK_FALSE(same_bits(plain, with_heads(plain, {1, 0, 2, 3})));
    }
}

// Powers of two pass through scales, codes and products unchanged, where ranges are dynamic.
TEST_CASE("V twice as large gives an output twice as large; Q twice and K half as large change nothing: to the bit") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : all_schemes()) {
      bool fixed = false;
      for (const quant::QuantScheme* s : {&scheme.schemes.q, &scheme.schemes.k, &scheme.schemes.v})
        fixed = fixed || s->range.kind == quant::RangeKind::fixed || s->timing == quant::Timing::static_;
      const Case c{.q_len = 40, .kv_len = 40};
      const AttentionProblem p = problem_of(c, scheme.schemes);
      if (fixed || !backend->supports(p)) continue;
      Inputs in = inputs_of(c, 19);
      Tensor once = run(*backend, p, in, false).output;
      multiply(in.v, 2.0F);
      multiply(in.q, 2.0F);
      multiply(in.k, 0.5F);
      const Tensor twice = run(*backend, p, in, false).output;
      multiply(once, 2.0F);
      CAPTURE(backend.name, scheme.name);
      CHECK(same_bits(once, twice));
    }
}

TEST_CASE("illegal problems are refused with the field's name, by every backend") {
  for (const NamedBackend& backend : backends()) {
    const auto refusal = [&](const AttentionSchemes& s) -> std::string {
      AttentionProblem p;
      p.head_dim = p.v_head_dim = 16;
      p.schemes = s;
      const Support support = backend->supports(p);
      return support.ok ? "" : support.reason;
    };
    CHECK(refusal(schemes("int8", "f32", "f32", "f32")).find("q int8 and k f32 don't pair") != std::string::npos);
    CHECK(refusal(schemes("f32", "f32", "uint8", "f32")).find("p uint8 and v f32 don't pair") != std::string::npos);
    CHECK(refusal(schemes("f32", "f32", "uint8", "int8/token")).find("v takes granularity") != std::string::npos);
    CHECK(refusal(schemes("int8/channel", "int8", "f32", "f32")).find("q takes granularity") != std::string::npos);
  }
}

TEST_CASE("integer sums that may pass 2^31 are refused; the longest that can't are exact") {
  const auto refusal = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const quant::Error& error) { return error.what(); }
    return "";
  };
  for (const NamedBackend& backend : backends())
    for (const auto& [format, most] : {std::pair{"uint8", 65793}, std::pair{"int8", 131071}}) {
      CAPTURE(backend.name, format);
      for (const std::int64_t keys : {most, most + 1}) {
        const Case c{.batch = 1, .q_len = 1, .kv_len = keys, .q_heads = 1, .kv_heads = 1, .d = 1, .dv = 1};
        Inputs in = inputs_of(c, 42);
        for (Tensor* t : {&in.k, &in.v})  // every code is the largest there is
          for (float& x : t->view<float>().span()) x = 3.0F;
        const AttentionProblem p = problem_of(c, schemes("f32", "f32", format, "int8/channel"));
        Tensor output;
        const std::string said = refusal([&] { output = run(*backend, p, in, false).output; });
        if (keys > most)
          CHECK(said.find(std::to_string(keys) + " keys may overflow, at most " + std::to_string(most)) !=
                std::string::npos);
        if (keys == most) CHECK(std::fabs(output.view<float>()[0] - 3.0F) <= 3e-6F);
      }
      const auto problem = [&](std::int64_t in) {
        return tests::linear_problem(LinearCase{in, 1, 1, 1, false}, "int8/channel", format);
      };
      LinearInputs in = inputs_of(LinearCase{most, 1, 1, 1, false}, 43);
      for (Tensor* t : {&in.x, &in.w})
        for (float& x : t->view<float>().span()) x = 3.0F;
      CHECK(same_bits(exact_integer_linear(problem(most), in), run(*backend, problem(most), in).y));
      CHECK(backend->supports(problem(most + 1)).reason.find("over " + std::to_string(most + 1) + " inputs may overflow") !=
            std::string::npos);
    }
}

TEST_CASE("NaN in a query or a key reaches every output that it has a part in, and none other", "[isa]") {
  Named rounded{"e4m3, bf16 scores", schemes("e4m3/token", "e4m3/token", "e4m3", "e4m3/channel")};
  rounded.schemes.scores_storage = DType::bf16;
  const Named cases[] = {{"f32", {}},
                         {"bf16", schemes("bf16", "bf16", "bf16", "bf16")},
                         {"bf16 P of f32 scores", schemes("f32", "f32", "bf16", "bf16")},
                         {"e4m3", schemes("e4m3/token", "e4m3/token", "e4m3", "e4m3/channel")},
                         {"e4m3 per tensor", schemes("e4m3", "e4m3", "e4m3", "e4m3")},
                         {"e5m2", schemes("e5m2/token", "e5m2/token", "e5m2", "e5m2/channel")},
                         {"uint8 P", schemes("f32", "f32", "uint8", "int8/channel")},
                         {"sum of codes", schemes("f32", "f32", "uint8/quantized_sum", "int8/channel")},
                         {"running", schemes("e4m3/token", "e4m3/token", "e4m3/running_forward(64)", "e4m3/channel")},
                         {"running backwards", schemes("f32", "f32", "uint8/running_reverse(8)", "int8/channel")},
                         rounded};
  const Case sizes[] = {
      {}, {.kv_len = 300, .sink = true}, {.q_len = 130, .kv_len = 130, .d = 64, .dv = 64}, {.padded = true}};
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : cases)
      for (const Case& c : sizes)
        for (const std::uint32_t nan : {0x7FC00000U, 0x7FFFFFFFU})  // x86's and CUDA's
          for (const bool of_key : {false, true})
            for (const ExecutionMode mode : {ExecutionMode::real, ExecutionMode::library}) {
              const AttentionProblem p = problem_of(c, scheme.schemes, mode);
              if (!backend->supports(p)) continue;
              CAPTURE(backend.name, scheme.name, nan, of_key, mode == ExecutionMode::library, c.to_string());
              nan_spreads(*backend, p, c, std::bit_cast<float>(nan), of_key);
            }
}
