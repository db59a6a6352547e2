// The same bits, run after run, on 1 to 16 threads (more than there are cores, too): what the ordinary tests try twice and
// on three. Hidden: kernels_test "[.repeat]", by scripts/soak repeat. QFID_REPEAT_RUNS: runs of each (100).
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <string>

#include "tests/kernels/attention_cases.h"
#include "tests/kernels/linear_cases.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

constexpr int most_threads = 16;

int runs() {
  const char* text = std::getenv("QFID_REPEAT_RUNS");
  return text == nullptr ? 100 : std::max(2, std::atoi(text));
}

/// Runs `f` on 1, 2, ... 16 threads, over and over; how many results have other bits than the first.
template <class F>
int different(const F& f) {
  const Tensor first = f();
  int count = 0;
  for (int i = 0; i < runs(); ++i) {
    const Threads threads(1 + i % most_threads);
    count += same_bits(first, f()) ? 0 : 1;
  }
  return count;
}

}  // namespace

TEST_CASE("attention gives the same bits 100 times, on 1 to 16 threads", "[.repeat]") {
  const std::vector<Named> all{{"f32", AttentionSchemes{}},
                               {"int8", schemes("int8/token", "int8/token", "uint8", "int8/channel")},
                               {"e4m3", schemes("e4m3/token", "e4m3/token", "e4m3", "e4m3/channel")},
                               {"bf16", schemes("bf16", "bf16", "bf16", "bf16")}};
  int compared = 0;
  for (const NamedBackend& backend : backends()) {
    if (backend.name == "reference") continue;
    for (const Named& scheme : all)
      for (const Case& c :
           {Case{.batch = 1, .q_len = 512, .kv_len = 512, .q_heads = 6, .kv_heads = 6, .d = 64, .dv = 64, .causal = true},
            Case{.batch = 2,
                 .q_len = 333,
                 .kv_len = 333,
                 .q_heads = 4,
                 .kv_heads = 2,
                 .d = 128,
                 .dv = 128,
                 .causal = false}}) {
        const AttentionProblem p = problem_of(c, scheme.schemes);
        const Inputs in = inputs_of(c, 40);
        CAPTURE(backend.name, scheme.name, c.to_string());
        CHECK(different([&] { return run(*backend, p, in, false, static_ranges(c, scheme.schemes)).output; }) == 0);
        ++compared;
      }
  }
  CHECK(compared >= 8);
}

TEST_CASE("linears give the same bits 100 times, on 1 to 16 threads", "[.repeat]") {
  for (const NamedBackend& backend : backends()) {
    if (backend.name == "reference") continue;
    for (const auto& [weights, activations] :
         {std::pair{"f32", "f32"}, std::pair{"bf16", "bf16"}, std::pair{"int8/channel", "int8/token"},
          std::pair{"e4m3/channel", "e4m3/token"}})
      for (const LinearCase& c : {LinearCase{384, 1536, 333}, LinearCase{1536, 384, 512}}) {
        const LinearProblem p = linear_problem(c, weights, activations);
        const LinearInputs in = inputs_of(c, 41);
        CAPTURE(backend.name, weights, c.in, c.out);
        CHECK(different([&] { return run(*backend, p, in).y; }) == 0);
      }
  }
}
