// Blocks are sized by the caches (kernels/host/cache_size.h): their sizes may never be seen in a result.
#include <catch2/catch_test_macros.hpp>

#include "kernels/host/cache_size.h"
#include "tests/kernels/attention_cases.h"

using namespace qfid;
using namespace qfid::tests;

TEST_CASE("attention gives the same bits whatever the caches hold: whole panels, small ones, none", "[isa]") {
  for (const NamedBackend& backend : backends()) {
    if (backend.name != "cpu") continue;
    for (const Named& scheme : all_schemes())
      for (const Case& c : {Case{.batch = 1, .q_len = 203, .kv_len = 330, .q_heads = 2, .kv_heads = 1},
                            Case{.batch = 1, .q_len = 150, .kv_len = 150, .causal = false, .padded = true, .sink = true}}) {
        const AttentionProblem p = problem_of(c, scheme.schemes);
        if (!backend->supports(p)) continue;
        const Inputs in = inputs_of(c, 35);
        const AttentionRanges ranges = static_ranges(c, scheme.schemes);
        const Run own = run(*backend, p, in, true, ranges);
        for (const std::int64_t l2 : {0, 1, 100'000, 200'000, 1 << 24}) {
          const std::int64_t before = kernels::host::force_l2_bytes(l2);
          const Run tapped = run(*backend, p, in, true, ranges), alone = run(*backend, p, in, false, ranges);
          kernels::host::force_l2_bytes(before);
          CAPTURE(scheme.name, c.to_string(), l2);
          CHECK(same_bits(own.output, tapped.output));
          CHECK(same_bits(own.output, alone.output));
          for (const TapPoint point : {TapPoint::scores, TapPoint::probs, TapPoint::p_codes, TapPoint::lse})
            CHECK(same_bits(own.taps.at(point), tapped.taps.at(point)));
          CHECK(own.result.probs == alone.result.probs);
          CHECK(own.result.probs == tapped.result.probs);
        }
      }
  }
}

TEST_CASE("a cache's size is the system's or what a test said") {
  const std::int64_t own = kernels::host::l2_bytes();
  CHECK(own >= 256 << 10);
  CHECK(own <= 4 << 20);
  const std::int64_t before = kernels::host::force_l2_bytes(12345);
  CHECK(kernels::host::l2_bytes() == 12345);
  kernels::host::force_l2_bytes(before);
  CHECK(kernels::host::l2_bytes() == own);
}
