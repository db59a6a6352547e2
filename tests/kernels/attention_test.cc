// Attention: every backend against the oracle, end to end in full precision, and stage by stage given the same codes, over
// variants, lengths and schemes; INT8 to the bit.
#include "kernels/attention.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "tests/kernels/attention_expectation.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

std::vector<Case> all_cases() {
  std::vector<Case> all = variants();
  for (const Case& c : lengths()) all.push_back(c);
  return all;
}

/// Largest excess of |o - oracle| over its tolerance; `factor` scales the output (to show the test's power).
double worst_excess(const Case& c, const Inputs& in, const Run& r, double factor = 1.0) {
  double worst = 0;
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t h = 0; h < c.q_heads; ++h) {
      const oracle::HeadResult o = judge(c, in, b, h);
      for (std::int64_t i = 0; i < c.q_len; ++i)
        for (std::int64_t x = 0; x < c.dv; ++x) {
          const auto n = static_cast<std::size_t>(i * c.dv + x);
          const double got =
              factor * static_cast<double>(r.output.view<float>()[((b * c.q_len + i) * c.q_heads + h) * c.dv + x]);
          const double tolerance = attention_f32(o.output[n], o.magnitude[n], static_cast<double>(c.kv_len),
                                                 static_cast<double>(c.d), o.score_magnitude[static_cast<std::size_t>(i)]);
          raise(worst, std::fabs(got - o.output[n]) / tolerance);
        }
    }
  return worst;
}

/// Codes of P that differ from the exact ones, over everything a test ran.
struct Tally {
  double differing = 0, expected = 0;
};

void agree(const NamedBackend& backend, const Named& scheme, const Case& c, ExecutionMode mode, Tally& tally,
           bool fast_accum = false) {
  const Inputs in = inputs_of(c, 13);
  AttentionProblem p = problem_of(c, scheme.schemes, mode);
  p.fast_accum = fast_accum;
  if (!backend->supports(p)) return;
  const AttentionRanges ranges = static_ranges(c, scheme.schemes);
  const Run r = run(*backend, p, in, true, ranges);
  CAPTURE(backend.name, scheme.name, c.to_string(), r.implementation);
  const Expectation expected(backend.name, c, p, in, ranges, r);
  CHECK(expected.wrong_operand_codes() == 0);
  CHECK(expected.wrong_integer_scores() == 0);
  CHECK(expected.wrong_scaled_scores() == 0);
  CHECK(expected.wrong_gates() == 0);
  CHECK(expected.wrong_outputs() == 0);
  CHECK(expected.wrong_counts() == 0);
  Excess all;
  double gain = 0;
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t h = 0; h < c.q_heads; ++h) {
      const HeadExpectation head = expected.head(b, h);
      all += head.judge_all();
      raise(gain, head.worst_gain());
    }
  CHECK(all.scores <= 1.0);
  CHECK(all.codes <= 1.0);
  CHECK(all.lse <= 1.0);
  CHECK(all.probs <= 1.0);
  CHECK(all.context <= 1.0);
  CHECK(gain <= 1.0);
  CHECK(all.differing <= at_most(all.expected));
  tally.differing += all.differing;
  tally.expected += all.expected;
}

}  // namespace

TEST_CASE("full precision agrees with the oracle, and a 1 % fault would not") {
  for (const NamedBackend& backend : backends())
    for (const Case& c : all_cases()) {
      const Inputs in = inputs_of(c, 11);
      const Run r = run(*backend, problem_of(c, {}), in, false);
      CAPTURE(backend.name, c.to_string(), r.implementation);
      CHECK(worst_excess(c, in, r) <= 1.0);
      CHECK(worst_excess(c, in, r, fault) > 1.0);
    }
}

TEST_CASE("codes, scores, P codes, denominators and outputs follow from the inputs and from each other", "[isa]") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : all_schemes()) {
      Tally tally;
      for (const Case& c : variants()) agree(backend, scheme, c, ExecutionMode::real, tally);
      CAPTURE(backend.name, scheme.name, tally.differing, tally.expected);
      CHECK(tally.differing <= at_most(tally.expected));
    }
}

TEST_CASE("the same at every length round the kernels' blocks") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : all_schemes()) {
      Tally tally;
      for (const Case& c : lengths()) agree(backend, scheme, c, ExecutionMode::real, tally);
      CAPTURE(backend.name, scheme.name, tally.differing, tally.expected);
      CHECK(tally.differing <= at_most(tally.expected));
    }
}

TEST_CASE("emulated attention obeys the same oracle, one quantized operand beside full-precision ones too") {
  std::vector<Named> all = quantized_schemes();
  for (const auto& [name, s] : {std::pair{"q alone", schemes("int8/token", "f32", "f32", "f32")},
                                std::pair{"k alone", schemes("f32", "int8/head", "f32", "f32")},
                                std::pair{"p alone", schemes("f32", "bf16", "uint8", "f32")},
                                std::pair{"v alone", schemes("e4m3", "int8", "e4m3", "int8/channel")}})
    all.push_back({name, s});
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : all) {
      Tally tally;
      for (const Case& c : variants()) agree(backend, scheme, c, ExecutionMode::emulated, tally);
      CAPTURE(backend.name, scheme.name);
      CHECK(tally.differing <= at_most(tally.expected));
    }
}

TEST_CASE("attention by the library's products obeys the same oracle") {
  const NamedBackend backend = backends().back();
  if (const Support library = backend->supports(problem_of({}, {}, ExecutionMode::library)); !library) SKIP(library.reason);
  for (const Named& scheme : all_schemes()) {
    Tally tally;
    for (const Case& c : variants()) agree(backend, scheme, c, ExecutionMode::library, tally);
    CAPTURE(backend.name, scheme.name);
    CHECK(tally.differing <= at_most(tally.expected));
  }
}

TEST_CASE("FP8 products with fast_accum obey the same oracle") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : quantized_schemes()) {
      if (!quant::is_fp8(scheme.schemes.q.format) && !quant::is_fp8(scheme.schemes.p.format)) continue;
      Tally tally;
      for (const ExecutionMode mode : {ExecutionMode::real, ExecutionMode::library})
        for (const Case& c : variants()) agree(backend, scheme, c, mode, tally, true);
      CAPTURE(backend.name, scheme.name);
      CHECK(tally.differing <= at_most(tally.expected));
    }
}

TEST_CASE("integers beside other formats are refused where the products are real") {
  for (const NamedBackend& backend : backends()) {
    const Case c{};
    for (const AttentionSchemes& s : {schemes("int8/token", "f32", "f32", "f32"), schemes("f32", "f32", "uint8", "f32")}) {
      CHECK_FALSE(backend->supports(problem_of(c, s)).ok);
      if (backend.name != "gpu") CHECK(backend->supports(problem_of(c, s, ExecutionMode::emulated)).ok);
    }
  }
}
