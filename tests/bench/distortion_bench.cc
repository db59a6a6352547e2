// DistortionStats and Moments, one thread: over a span, and over one head of [tokens, heads, head_dim] after another.
#include "quant/distortion.h"

#include "tests/bench/bench.h"

namespace qfid::bench {

namespace {

constexpr std::int64_t heads = 12, head_dim = 64;

void bench_distortion(const Registry& registry, std::int64_t tokens, bool by_head) {
  const std::string name = std::string("distortion/") + (by_head ? "by-head" : "span") + "/T:" + std::to_string(tokens);
  registry.add(name, [=](benchmark::State& state) {
    const Shape shape{tokens, heads, head_dim};
    const Tensor x = filled(shape, 4), y = filled(shape, 5);
    const auto once = [&] {
      quant::DistortionStats all;
      const float *a = x.view<float>().data(), *b = y.view<float>().data();
      if (!by_head) all.add(x.view<float>().span(), y.view<float>().span());
      for (std::int64_t h = 0; by_head && h < heads; ++h)
        all.add(a + h * head_dim, b + h * head_dim, tokens, head_dim, heads * head_dim);
      return all;
    };
    if (once().count() != shape.elements()) return fail(state, "elements are missing");
    for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(once());
    state.SetBytesProcessed(static_cast<std::int64_t>(x.bytes() + y.bytes()) * state.iterations());
    count_tokens(state, tokens);
  });
}

void bench_moments(const Registry& registry, std::int64_t tokens) {
  registry.add("moments/rows/T:" + std::to_string(tokens), [=](benchmark::State& state) {
    const Tensor x = filled(Shape{tokens, heads * head_dim}, 6);
    const auto view = x.view<float>();
    for ([[maybe_unused]] auto _ : state)
      for (std::int64_t r = 0; r < tokens; ++r) {
        quant::Moments row;
        row.add(view.row(r));
        benchmark::DoNotOptimize(row);
      }
    state.SetBytesProcessed(static_cast<std::int64_t>(x.bytes()) * state.iterations());
    count_tokens(state, tokens);
  });
}

}  // namespace

void register_distortion(const Registry& registry) {
  for (std::int64_t tokens : registry.sizes({512, 2048})) {
    bench_distortion(registry, tokens, false);
    bench_distortion(registry, tokens, true);
    bench_moments(registry, tokens);
  }
}

}  // namespace qfid::bench
