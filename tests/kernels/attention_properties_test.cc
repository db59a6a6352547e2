// What must hold whatever the numbers: row sums, masks, causality, repeatability, permuted heads, refusals.
#include "kernels/attention.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>

#include "kernels/registry/registry.h"
#include "tests/kernels/attention_cases.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::kernels;
using namespace qfid::tests;

TEST_CASE("probabilities: rows sum to one, masked positions are exactly 0, masked rows give 0 and are counted") {
  for (const std::string& name : backends()) {
    const auto backend = make_backend(name);
    for (const Case& c : variants()) {
      const Inputs in = inputs_of(c, 12);
      const Run r = run(*backend, problem_of(c, {}), in);
      CAPTURE(name, c.q_len, c.kv_len, c.fill);
      std::int64_t masked_rows = 0, counted = 0;
      for (const ProbCounts& counts : r.probs) counted += counts.masked_rows;
      for (std::int64_t b = 0; b < c.batch; ++b)
        for (std::int64_t h = 0; h < c.q_heads; ++h) {
          const oracle::HeadResult o = judge(c, in, b, h);
          for (std::int64_t i = 0; i < c.q_len; ++i) {
            double sum = 0, expected = 0;
            for (std::int64_t j = 0; j < c.kv_len; ++j) {
              const float p = r.taps.at(TapPoint::probs).view<float>()[((b * c.q_heads + h) * c.q_len + i) * c.kv_len + j];
              const double ref = o.probs[static_cast<std::size_t>(i * c.kv_len + j)];
              if (ref == 0) REQUIRE(p == 0.0F);
              sum += static_cast<double>(p);
              expected += ref;
            }
            REQUIRE(std::fabs(sum - expected) <= 2e-5);
            if (expected == 0) ++masked_rows;
          }
        }
      CHECK(counted == masked_rows);
    }
  }
}

TEST_CASE("a causal prefix is invariant for token, block and static schemes") {
  for (const std::string& name : backends()) {
    const auto backend = make_backend(name);
    AttentionSchemes s = schemes("int8/token", "int8/token", "uint8", "int8/fixed(6)");
    Case c;
    c.batch = 1;
    c.q_len = c.kv_len = 50;
    const Inputs in = inputs_of(c, 15);
    Case shorter = c;
    shorter.q_len = shorter.kv_len = 20;
    Inputs prefix;
    const auto head_of = [](const Tensor& t, std::int64_t n) {
      Tensor part(DType::f32, Shape{1, n, t.shape()[2], t.shape()[3]});
      std::memcpy(part.raw(), t.raw(), part.bytes());
      return part;
    };
    prefix.q = head_of(in.q, 20);
    prefix.k = head_of(in.k, 20);
    prefix.v = head_of(in.v, 20);
    const Run whole = run(*backend, problem_of(c, s), in), part = run(*backend, problem_of(shorter, s), prefix);
    quant::DistortionStats stats;
    const std::int64_t n = part.output.shape().elements();
    stats.add(part.output.view<float>().span(), whole.output.view<float>().span().first(static_cast<std::size_t>(n)));
    CAPTURE(name);
    CHECK(stats.max_abs() <= 1e-5);
  }
}

TEST_CASE("the same inputs give the same bits, with and without a listener") {
  for (const std::string& name : backends()) {
    const auto backend = make_backend(name);
    for (const Named& scheme : quantized_schemes()) {
      Case c;
      c.q_len = c.kv_len = 130;
      const Inputs in = inputs_of(c, 16);
      const Run first = run(*backend, problem_of(c, scheme.schemes), in, false);
      for (int i = 0; i < 3; ++i)
        CHECK(same_bits(first.output, run(*backend, problem_of(c, scheme.schemes), in, false).output));
      // A listener to raw scores sees all keys: the products are the same numbers, the causal skip only leaves out zeros.
      quant::DistortionStats stats;
      stats.add(first.output.view<float>().span(),
                run(*backend, problem_of(c, scheme.schemes), in, true).output.view<float>().span());
      CHECK(stats.max_abs() <= 1e-5);
    }
  }
}

TEST_CASE("heads permuted give outputs permuted") {
  for (const std::string& name : backends()) {
    const auto backend = make_backend(name);
    Case c;
    const Inputs in = inputs_of(c, 17);
    Inputs swapped = inputs_of(c, 17);
    for (Tensor* t : {&swapped.q, &swapped.k, &swapped.v}) {
      auto x = t->view<float>();
      for (std::int64_t r = 0; r < x.size() / 32; ++r)
        for (std::int64_t i = 0; i < 16; ++i) std::swap(x[r * 32 + i], x[r * 32 + 16 + i]);
    }
    const AttentionProblem p = problem_of(c, schemes("int8/token", "int8/token", "uint8", "int8/channel"));
    const Run a = run(*backend, p, in), b = run(*backend, p, swapped);
    for (std::int64_t r = 0; r < a.output.shape().elements() / 32; ++r)
      for (std::int64_t i = 0; i < 16; ++i)
        REQUIRE(a.output.view<float>()[r * 32 + i] == b.output.view<float>()[r * 32 + 16 + i]);
  }
}

TEST_CASE("illegal problems are refused with the field's name") {
  const auto refusal = [](const AttentionSchemes& s) -> std::string {
    AttentionProblem p;
    p.head_dim = p.v_head_dim = 16;
    p.schemes = s;
    const Support support = make_backend("reference")->supports(p);
    return support.ok ? "" : support.reason;
  };
  CHECK(refusal(schemes("int8", "f32", "f32", "f32")).find("q int8 and k f32 don't pair") != std::string::npos);
  CHECK(refusal(schemes("f32", "f32", "uint8", "f32")).find("p uint8 and v f32 don't pair") != std::string::npos);
  CHECK(refusal(schemes("f32", "f32", "uint8", "int8/token")).find("v takes granularity") != std::string::npos);
  CHECK(refusal(schemes("int8/channel", "int8", "f32", "f32")).find("q takes granularity") != std::string::npos);
}
