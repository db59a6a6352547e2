// Products by themselves.
#include "kernels/gpu/elementwise.h"
#include "kernels/gpu/gpu_backend.h"
#include "tests/kernels/gpu/gpu_fixture.h"

using namespace qfid;
using namespace qfid::tests;

// compute-sanitizer's initcheck doesn't see what some of cuBLASLt's kernels store (bulk copies), and reports the reads after
// them: whatever it says here, each number was written.
TEST_CASE("a product of ones leaves K everywhere, in memory that wasn't cleared for it") {
  tests::gpu();
  kernels::gpu::GpuBackend backend(0);
  kernels::gpu::Context& c = backend.context();
  using kernels::gpu::Number;
  for (const auto& [type, result] :
       {std::pair{Number::s8, Number::s32}, std::pair{Number::bf16, Number::f32}, std::pair{Number::e4m3, Number::f32}})
    DYNAMIC_SECTION(kernels::gpu::name_of(type)) {
      if (type == Number::e4m3 && c.capability() < 89) SKIP("no FP8 before compute capability 8.9");
      constexpr std::int64_t n = 512;  // large enough for the choice of its algorithm to leave random sums behind
      const kernels::gpu::GemmPlan plan(c, {type, type, result, n, n, n, n, n, n}, 256);
      const auto ones = c.allocate(n * n * kernels::gpu::size_of(type)), dst = c.allocate(n * n * 4);
      const auto wrong = c.zeros<std::uint32_t>(1);
      kernels::gpu::fill_ones(ones.get(), type, n * n, c.stream());
      plan.run({ones.get(), ones.get(), nullptr, dst.get()});
      kernels::gpu::find_unlike(dst.get(), result, n, 0, 1, 0, n, n, n, wrong.get(), c.stream());
      CAPTURE(plan.implementation());
      CHECK(c.fetched(wrong.get(), 1)[0] == 0);
    }
}
