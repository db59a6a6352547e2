// What the gpu backend alone can show: attention at large shapes, and how far the algorithm that is pinned for a product
// lies from the best that cuBLASLt offers. Prints Markdown. Random operands (zeros would clock higher); medians.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <format>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "kernels/gpu/gpu_backend.h"
#include "kernels/registry/registry.h"
#include "quant/core/random.h"
#include "quant/distortion.h"

using namespace qfid;
using namespace qfid::kernels;
using quant::Tensor;

namespace {

Tensor filled(const Shape& shape, std::uint64_t seed) {
  constexpr std::size_t period = 65537;
  quant::Random random(seed);
  std::vector<float> numbers(period);
  for (float& x : numbers) x = static_cast<float>(random.normal());
  Tensor tensor(DType::f32, shape);
  std::size_t i = 0;
  for (float& x : tensor.view<float>().span()) x = numbers[i++ % period];
  return tensor;
}

double median(std::vector<double> all) {
  std::ranges::nth_element(all, all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2));
  return all[all.size() / 2];
}

/// Median seconds of `runs` calls after two.
double median_seconds(Backend& backend, int runs, const std::function<void()>& call) {
  std::vector<double> all;
  for (int i = -2; i < runs; ++i) {
    backend.synchronize();
    const auto start = std::chrono::steady_clock::now();
    call();
    backend.synchronize();
    if (i >= 0) all.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return median(std::move(all));
}

/// Seconds of one launch of each of several products: medians of rounds in which they take turns, for clocks change.
std::vector<double> by_turns(Backend& backend, std::size_t candidates, const std::function<void(std::size_t)>& launch) {
  constexpr int rounds = 11, launches = 10;  // one launch alone is mostly its launch
  std::vector<std::vector<double>> all(candidates);
  for (int round = -1; round < rounds; ++round)
    for (std::size_t i = 0; i < candidates; ++i) {
      launch(i);
      backend.synchronize();
      const auto start = std::chrono::steady_clock::now();
      for (int l = 0; l < launches; ++l) launch(i);
      backend.synchronize();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (round >= 0) all[i].push_back(seconds / launches);
    }
  std::vector<double> medians;
  for (std::vector<double>& times : all) medians.push_back(median(std::move(times)));
  return medians;
}

struct Variant {
  const char *name, *qk, *p, *v;
  DType scores;
};
constexpr Variant variants[] = {{"f32", "f32", "f32", "f32", DType::f32},
                                {"bf16", "bf16", "bf16", "bf16", DType::f32},
                                {"bf16, scores bf16", "bf16", "bf16", "bf16", DType::bf16},
                                {"INT8 per tensor", "int8", "uint8", "int8", DType::f32},
                                {"INT8 per token", "int8/token", "uint8", "int8/channel", DType::f32},
                                {"INT8 per token, P int8", "int8/token", "int8", "int8/channel", DType::f32},
                                {"E4M3 per tensor", "e4m3", "e4m3", "e4m3", DType::f32},
                                {"E4M3 per token", "e4m3/token", "e4m3", "e4m3/channel", DType::f32},
                                {"E4M3 per tensor, scores bf16", "e4m3", "e4m3", "e4m3", DType::bf16},
                                {"E4M3 per token, scores bf16", "e4m3/token", "e4m3", "e4m3/channel", DType::bf16}};

struct Big {
  std::int64_t batch, heads, length, d;
};

void attention(Backend& backend, const Big& s) {
  const Shape shape{s.batch, s.length, s.heads, s.d};
  AttentionInputs in;
  in.q = backend.upload(filled(shape, 1));
  in.k = backend.upload(filled(shape, 2));
  in.v = backend.upload(filled(shape, 3));
  std::printf("\n### Attention (batch, heads, S, d) = (%ld, %ld, %ld, %ld), not causal\n\n", s.batch, s.heads, s.length,
              s.d);
  std::puts("| formats | ms | TFLOP/s | NMSE against f32 | implementation |\n|---|---|---|---|---|");
  DeviceTensor exact;
  for (const Variant& v : variants) {
    AttentionProblem p;
    p.q_heads = p.kv_heads = s.heads;
    p.head_dim = p.v_head_dim = s.d;
    p.schemes.q = p.schemes.k = quant::parse_scheme(v.qk);
    p.schemes.p = parse_prob_scheme(v.p);
    p.schemes.v = quant::parse_scheme(v.v);
    p.schemes.scores_storage = v.scores;
    const auto prepared = backend.prepare(p, {});
    DeviceTensor out = backend.attention(*prepared, in, nullptr).output;
    if (!exact.defined()) exact = out;
    quant::DistortionStats all;
    for (const quant::DistortionStats& one : backend.reductions().distortion(exact, out)) all.merge(one);
    const double flop = 4.0 * static_cast<double>(s.batch * s.heads) * static_cast<double>(s.length) *
                        static_cast<double>(s.length) * static_cast<double>(s.d);
    const double seconds = median_seconds(backend, 7, [&] { out = backend.attention(*prepared, in, nullptr).output; });
    std::cout << std::format("| {} | {:.3f} | {:.1f} | {:.2e} | {} |\n", v.name, seconds * 1e3, flop / seconds / 1e12,
                             all.nmse().value_or(0), prepared->implementation())
              << std::flush;
  }
}

struct Prepared {
  std::unique_ptr<PreparedAttention> attention;
  AttentionInputs in;
};
Prepared prepared_of(Backend& backend, const Big& s, const Variant& v) {
  const Shape shape{s.batch, s.length, s.heads, s.d};
  Prepared prepared;
  prepared.in.q = backend.upload(filled(shape, 1));
  prepared.in.k = backend.upload(filled(shape, 2));
  prepared.in.v = backend.upload(filled(shape, 3));
  AttentionProblem p;
  p.q_heads = p.kv_heads = s.heads;
  p.head_dim = p.v_head_dim = s.d;
  p.schemes.q = p.schemes.k = quant::parse_scheme(v.qk);
  p.schemes.p = parse_prob_scheme(v.p);
  p.schemes.v = quant::parse_scheme(v.v);
  p.schemes.scores_storage = v.scores;
  prepared.attention = backend.prepare(p, {});
  return prepared;
}

/// How the size of a chunk of scores changes the time: three shapes of chunk for one format.
void chunks(gpu::GpuBackend& backend, const Big& s, const Variant& v) {
  const auto [prepared, in] = prepared_of(backend, s, v);
  std::cout << std::format(
      "\n### Chunks of scores, {}, S = {}: ms\n\n| MiB | 128 rows | 256 | 512 | 1024 | 2048 |\n"
      "|---|---|---|---|---|---|\n",
      v.name, s.length);
  for (std::int64_t mib : {32, 64, 128, 256, 512}) {
    std::cout << "| " << mib;
    for (std::int64_t rows : {128, 256, 512, 1024, 2048}) {
      backend.set_chunk({mib << 20, rows});
      DeviceTensor out;
      const double seconds = median_seconds(backend, 3, [&] { out = backend.attention(*prepared, in, nullptr).output; });
      std::cout << std::format(" | {:.3f}", seconds * 1e3) << std::flush;
    }
    std::cout << " |\n";
  }
  backend.set_chunk({});
}

/// Operands of a product: random f32, or any codes without NaN (bf16 and FP8 of moderate size, all of s8).
std::shared_ptr<std::uint8_t> numbers_of(gpu::Context& c, gpu::Number a, std::int64_t count) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count) * gpu::size_of(a));
  const Tensor numbers = filled(Shape{65536}, 5);
  if (a == gpu::Number::f32) {
    for (std::size_t i = 0; i < bytes.size(); i += 4) std::memcpy(&bytes[i], numbers.raw() + i % 262144, 4);
  } else {
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::uint8_t>(a == gpu::Number::bf16 && i % 2 == 1 ? 0x3EU + 0x80U * (i / 2 % 3 == 0 ? 1U : 0U)
                                                                                : (i * 2654435761U >> 13) & 0xB7U);
  }
  return c.uploaded(bytes);
}

void product(gpu::GpuBackend& backend, gpu::Number a, gpu::Number dst, std::int64_t m, std::int64_t n, std::int64_t k) {
  gpu::Context& c = backend.context();
  const gpu::GemmShape shape{a, a, dst, m, n, k, k, k, n};
  const gpu::GemmPlan plan(c, shape, 256);
  const auto x = numbers_of(c, a, m * k), w = numbers_of(c, a, n * k);
  const auto bytes = static_cast<std::size_t>(m * n) * 4;
  const auto out = c.allocate(bytes);
  const auto result = [&](std::size_t candidate) {
    std::vector<std::byte> host(bytes);
    plan.run({x.get(), w.get(), nullptr, out.get()}, candidate);
    c.download(host.data(), out.get(), bytes);
    return host;
  };
  const std::vector<std::byte> expected = result(plan.chosen());
  const std::vector<double> seconds =
      by_turns(backend, plan.candidates(), [&](std::size_t i) { plan.run({x.get(), w.get(), nullptr, out.get()}, i); });
  const auto best = static_cast<std::size_t>(std::ranges::min_element(seconds) - seconds.begin());
  const double chosen = seconds[plan.chosen()];
  double best_alike = chosen;
  for (std::size_t i = 0; i < seconds.size(); ++i)
    if (seconds[i] < best_alike && result(i) == expected) best_alike = seconds[i];
  const double flop = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  std::cout << std::format("| {} | {}, {} of {} | {:.1f} | {:.1f} | {:.3f} | {:.3f} | {} |\n", shape.to_string(),
                           plan.chosen() + 1, best + 1, seconds.size(), flop / chosen / 1e12, flop / seconds[best] / 1e12,
                           seconds[best] / chosen, best_alike / chosen, plan.implementation())
            << std::flush;
}

void products(gpu::GpuBackend& backend) {
  std::cout << "\n## Products: the pinned algorithm against the best of those offered\n\n"
            << "| product | pinned, best offer | pinned, TFLOP/s | best, TFLOP/s | pinned / best | pinned / best of its "
               "bits | sets the bits |\n"
            << "|---|---|---|---|---|---|---|\n";
  for (const auto& [m, n, k] : {std::tuple{32768, 384, 384}, std::tuple{32768, 1536, 384}, std::tuple{32768, 384, 1536},
                                std::tuple{4096, 4096, 4096}, std::tuple{8192, 8192, 8192}}) {
    if (m < 8192 || k < 8192) product(backend, gpu::Number::f32, gpu::Number::f32, m, n, k);
    product(backend, gpu::Number::bf16, gpu::Number::f32, m, n, k);
    product(backend, gpu::Number::s8, gpu::Number::s32, m, n, k);
    product(backend, gpu::Number::e4m3, gpu::Number::f32, m, n, k);
  }
}

}  // namespace

/// Arguments: which parts to run, of products, chunks, attention; none = all. profile: three calls at the first shape, to be
/// looked at by a profiler.
int main(int argc, char** argv) {
  const std::vector<std::string> parts(argv + 1, argv + argc);
  const auto asked = [&](const char* part) { return parts.empty() || std::ranges::find(parts, part) != parts.end(); };
  gpu::GpuBackend backend(0);
  if (const Support here = backend.available(); !here) {
    std::cerr << "backend gpu isn't here: " << here.reason << "\n";
    return 4;
  }
  const BackendInfo info = backend.info();
  std::cout << "Device: " << info.device << ", " << info.isa;
  for (const auto& [name, version] : info.libraries) std::cout << ", " << name << " " << version;
  std::cout << "\n";
  if (asked("products")) products(backend);
  if (asked("chunks")) {
    for (const Variant& v : {variants[4], variants[7], variants[9]}) chunks(backend, {4, 16, 8192, 128}, v);
    chunks(backend, {64, 12, 1024, 64}, variants[7]);
  }
  if (asked("attention"))
    for (const Big& shape : {Big{4, 16, 8192, 128}, Big{16, 16, 2048, 128}, Big{64, 12, 1024, 64}})
      attention(backend, shape);
  if (!parts.empty() && asked("profile"))
    for (const Variant& v : {variants[4], variants[7], variants[9]}) {
      const auto [prepared, in] = prepared_of(backend, {4, 16, 8192, 128}, v);
      backend.attention(*prepared, in, nullptr);
    }
  return 0;
}
