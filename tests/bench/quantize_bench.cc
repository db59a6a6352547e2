// Ranges, scales and codes of one window's activations, one thread: as a linear sees them (tokens x 768) and as attention
// does (tokens x 12 heads x 64). Bytes: what is read plus what is written, each once.
#include "quant/quantize.h"
#include "tests/bench/bench.h"
#include "tests/support/tolerance.h"

namespace qfid::bench {

namespace {

using quant::QuantizedTensor;
using quant::QuantScheme;
constexpr quant::Role role = quant::Role::activation;

struct Layout {
  std::string name;
  std::int64_t heads, head_dim;
};

void bench_ranges(const Registry& registry, const std::string& scheme, const Layout& layout, std::int64_t tokens) {
  registry.add("ranges/" + scheme + "/" + layout.name + "/T:" + std::to_string(tokens), [=](benchmark::State& state) {
    const QuantScheme s = quant::parse_scheme(scheme);
    const Tensor x = filled(Shape{1, tokens, layout.heads, layout.head_dim}, 2);
    for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(quant::ranges(x.view<float>(), s, role));
    state.SetBytesProcessed(static_cast<std::int64_t>(x.bytes()) * state.iterations());
    count_tokens(state, tokens);
  });
}

/// Empty, or what is wrong with the codes.
std::string checked(const Tensor& x, const QuantizedTensor& q) {
  Tensor back(DType::f32, x.shape());
  quant::dequantize(q, role, back.view<float>());
  if (q.counts.nan != 0 || q.counts.elements != x.shape().elements()) return "counts are wrong";
  return difference(x, back, false, 1, tests::quantization_nmse(q.scheme.format));
}

void bench_codes(const Registry& registry, const std::string& scheme, const Layout& layout, std::int64_t tokens) {
  const std::string suffix = "/" + scheme + "/" + layout.name + "/T:" + std::to_string(tokens);
  const auto bench = [&](const std::string& what, const auto& work) {
    registry.add(what + suffix, [=](benchmark::State& state) {
      const Tensor x = filled(Shape{1, tokens, layout.heads, layout.head_dim}, 3);
      QuantizedTensor q = quant::quantize(x.view<float>(), quant::parse_scheme(scheme), role);
      if (const std::string wrong = checked(x, q); !wrong.empty()) return fail(state, wrong);
      Tensor back(DType::f32, x.shape());
      for ([[maybe_unused]] auto _ : state) {
        work(x, q, back);
        benchmark::ClobberMemory();
      }
      state.SetBytesProcessed(static_cast<std::int64_t>(x.bytes() + q.codes.bytes()) * state.iterations());
      count_tokens(state, tokens);
    });
  };
  bench("quantize", [](const Tensor& x, const QuantizedTensor& q, Tensor&) {
    benchmark::DoNotOptimize(quant::quantize(x.view<float>(), q.scheme, role));
  });
  bench("quantize_into", [](const Tensor& x, QuantizedTensor& q, Tensor&) {
    const auto zero = q.zero_points.empty() ? quant::View<std::int32_t>() : q.zero_points.view<std::int32_t>();
    quant::quantize_into(x.view<float>(), q.scheme, role, {}, q.codes.raw(), q.scales.view<float>(), zero);
  });
  bench("dequantize",
        [](const Tensor&, const QuantizedTensor& q, Tensor& back) { quant::dequantize(q, role, back.view<float>()); });
}

}  // namespace

void register_quantizers(const Registry& registry) {
  const std::vector<Layout> layouts{{"1x768", 1, 768}, {"12x64", 12, 64}};
  for (const Layout& layout : layouts)
    for (const char* format : {"int8", "e4m3", "e5m2"})
      for (const char* granularity : {"tensor", "token", "channel"}) {
        if (layout.heads == 1 && std::string_view(granularity) == "channel") continue;  // no linear's activation has it
        const std::string scheme = std::string(format) + "/" + granularity;
        for (std::int64_t tokens : registry.sizes({512, 2048})) {
          if (std::string_view(format) == "int8") bench_ranges(registry, scheme, layout, tokens);
          bench_codes(registry, scheme, layout, tokens);
        }
      }
  for (const char* scheme : {"int8/token/percentile(99.9)", "int8/token/mse"})
    bench_ranges(registry, scheme, layouts[0], registry.smoke() ? 16 : 512);
  bench_codes(registry, "uint8/token/affine", layouts[0], 512);
}

}  // namespace qfid::bench
