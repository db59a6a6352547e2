// Casts and expansions over one span, one thread: the vectorized path, checked against the scalar reference, and the scalar
// reference itself. Bytes: what is read plus what is written.
#include <algorithm>
#include <cmath>

#include "quant/codec.h"
#include "tests/bench/bench.h"

namespace qfid::bench {

namespace {

constexpr std::int64_t elements = 512 * 768;
constexpr float scale = 0.037F;
using quant::CodeCounts;
using quant::Overflow;

/// Bytes per second of `bytes` an iteration.
void count_bytes(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * state.iterations());
}

template <class Code, class Cast, class One>
void cast_pair(const Registry& registry, const std::string& format, Cast cast, One one) {
  const auto scalar = [one](const Tensor& src, Tensor& dst) {
    const auto x = src.view<float>();
    const auto codes = dst.view<Code>();
    for (std::int64_t i = 0; i < x.size(); ++i) codes[i] = one(x[i]);
  };
  registry.add("cast/" + format + "/vectorized", [=](benchmark::State& state) {
    const Tensor src = filled(Shape{elements}, 1);
    Tensor dst(quant::dtype_of<Code>, src.shape()), expected(quant::dtype_of<Code>, src.shape());
    cast(src.view<float>().span(), dst.view<Code>().span());
    scalar(src, expected);
    if (const std::string wrong = difference(expected, dst, true, 0, 0); !wrong.empty()) return fail(state, wrong);
    for ([[maybe_unused]] auto _ : state) {
      cast(src.view<float>().span(), dst.view<Code>().span());
      benchmark::ClobberMemory();
    }
    count_bytes(state, src.bytes() + dst.bytes());
  });
  registry.add("cast/" + format + "/scalar", [=](benchmark::State& state) {
    const Tensor src = filled(Shape{elements}, 1);
    Tensor dst(quant::dtype_of<Code>, src.shape());
    for ([[maybe_unused]] auto _ : state) {
      scalar(src, dst);
      benchmark::ClobberMemory();
    }
    count_bytes(state, src.bytes() + dst.bytes());
  });
}

template <class Code, class Number>
void expansion(const Registry& registry, const std::string& name) {
  registry.add("expand/" + name, [](benchmark::State& state) {
    const Tensor src = Tensor::zeros(quant::dtype_of<Code>, Shape{elements});
    Tensor dst(quant::dtype_of<Number>, src.shape());
    for ([[maybe_unused]] auto _ : state) {
      quant::expand(src.view<Code>().span(), dst.view<Number>().span());
      benchmark::ClobberMemory();
    }
    count_bytes(state, src.bytes() + dst.bytes());
  });
}

}  // namespace

void register_codecs(const Registry& registry) {
  using quant::bf16, quant::e4m3, quant::e5m2;
  using Src = std::span<const float>;
  cast_pair<e4m3>(
      registry, "e4m3",
      [](Src x, std::span<e4m3> y) {
        CodeCounts counts;
        quant::cast_to_e4m3(x, scale, Overflow::satfinite, y, counts);
      },
      [](float x) { return quant::to_e4m3(x / scale); });
  cast_pair<e5m2>(
      registry, "e5m2",
      [](Src x, std::span<e5m2> y) {
        CodeCounts counts;
        quant::cast_to_e5m2(x, scale, Overflow::satfinite, y, counts);
      },
      [](float x) { return quant::to_e5m2(x / scale); });
  cast_pair<bf16>(
      registry, "bf16", [](Src x, std::span<bf16> y) { quant::cast_to_bf16(x, y); },
      [](float x) { return quant::to_bf16(x); });
  cast_pair<std::int8_t>(
      registry, "int8",
      [](Src x, std::span<std::int8_t> y) {
        CodeCounts counts;
        quant::cast_to_int8(x, scale, -127, y, counts);
      },
      [](float x) { return static_cast<std::int8_t>(std::clamp(std::nearbyint(x / scale), -127.0F, 127.0F)); });
  cast_pair<std::uint8_t>(
      registry, "uint8",
      [](Src x, std::span<std::uint8_t> y) {
        CodeCounts counts;
        quant::cast_to_uint8(x, scale, 128, y, counts);
      },
      [](float x) { return static_cast<std::uint8_t>(std::clamp(std::nearbyint(x / scale) + 128.0F, 0.0F, 255.0F)); });
  expansion<e4m3, float>(registry, "e4m3-to-f32");
  expansion<e5m2, float>(registry, "e5m2-to-f32");
  expansion<bf16, float>(registry, "bf16-to-f32");
  expansion<e4m3, bf16>(registry, "e4m3-to-bf16");
  expansion<e5m2, bf16>(registry, "e5m2-to-bf16");
}

}  // namespace qfid::bench
