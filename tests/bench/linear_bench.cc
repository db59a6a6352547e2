// Linears of a model of width 768, f32 in and f32 out: the cast of the activations, the product, scales and bias. Weights
// are packed beforehand. The reference backend runs 16 rows only.
#include <algorithm>
#include <memory>

#include "kernels/registry/registry.h"
#include "tests/bench/bench.h"
#include "tests/support/tolerance.h"

namespace qfid::bench {

namespace {

using kernels::DeviceTensor;
using kernels::LinearProblem;

struct Scheme {
  const char *name, *weights, *activations;
};
constexpr Scheme schemes[] = {{"f32", "f32", "f32"},
                              {"bf16", "bf16", "bf16"},
                              {"int8-tensor", "int8/tensor", "int8/tensor"},
                              {"int8-token", "int8/channel", "int8/token"},
                              {"e4m3-tensor", "e4m3/tensor", "e4m3/tensor"},
                              {"e4m3-token", "e4m3/channel", "e4m3/token"}};

struct Size {
  std::int64_t in, out;
  std::vector<std::int64_t> rows;
};

/// One linear with its weights packed on one backend.
struct Packed {
  std::unique_ptr<kernels::Backend> backend;
  std::unique_ptr<kernels::PreparedLinear> linear;
  std::string wrong;

  Packed(const std::string& name, const LinearProblem& p) : backend(kernels::make_backend(name)) {
    const Tensor w = filled(Shape{p.out, p.in}, 7), bias = filled(Shape{p.out}, 8);
    linear = backend->prepare(p, {w.view<float>(), bias.view<float>(), {}});
    if (name == "reference") return;
    const auto reference = kernels::make_backend("reference");
    const auto slow = reference->prepare(p, {w.view<float>(), bias.view<float>(), {}});
    const Tensor x = filled(Shape{1, 3, p.in}, 9);
    const Tensor expected = reference->download(reference->linear(*slow, reference->upload(x), nullptr));
    const Tensor got = backend->download(backend->linear(*linear, backend->upload(x), nullptr));
    const auto k = static_cast<double>(p.in);
    const double epsilon =
        tests::accumulator_epsilon(name, p.activations.format, p.weights.format, p.mode == kernels::ExecutionMode::emulated);
    wrong = difference(expected, got, quant::is_integer(p.weights.format), tests::gain_real_emulated,
                       std::max(tests::accumulation_nmse(k), tests::accumulation_nmse(epsilon, k)));
  }
};

/// The linear last asked for: Google Benchmark calls a body several times, and packing a vocabulary takes a second.
Packed& packed(const std::string& backend, const LinearProblem& p) {
  static std::string key;
  static std::unique_ptr<Packed> kept;
  const std::string wanted = backend + " " + p.to_string();
  if (key != wanted) {
    kept.reset();
    kept = std::make_unique<Packed>(backend, p);
    key = wanted;
  }
  return *kept;
}

void bench(const Registry& registry, const std::string& backend, const Scheme& scheme, std::int64_t in, std::int64_t out,
           std::int64_t rows) {
  const LinearProblem p{in, out, quant::parse_scheme(scheme.weights), quant::parse_scheme(scheme.activations)};
  const std::string name = "linear/" + backend + "/" + scheme.name + "/" + std::to_string(in) + "x" + std::to_string(out) +
                           "/M:" + std::to_string(rows);
  registry.add(name, [=](benchmark::State& state) {
    Packed& w = packed(backend, p);
    if (!w.wrong.empty()) return fail(state, w.wrong);
    // Two inputs in turn: a backend may keep the codes of the last one.
    const Tensor x = filled(Shape{1, rows, in}, 10);
    const DeviceTensor src[] = {w.backend->upload(x), w.backend->upload(x)};
    int turn = 0;
    for ([[maybe_unused]] auto _ : state) {
      benchmark::DoNotOptimize(w.backend->linear(*w.linear, src[turn ^= 1], nullptr));
      w.backend->synchronize();
    }
    count_operations(state, 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out));
    count_tokens(state, rows);
    state.SetLabel(w.linear->implementation());
  });
}

}  // namespace

void register_linears(const Registry& registry) {
  const std::vector<Size> sizes{{768, 768, {128, 512, 2048}},
                                {768, 3072, {128, 512, 2048}},
                                {3072, 768, {128, 512, 2048}},
                                {384, 8192, {512}},
                                {768, 50272, {512}}};  // vocabularies: the lm-* models' and OPT-125M's
  for (const std::string& backend : backends())
    for (const Scheme& scheme : schemes) {
      if (backend == "reference") {
        bench(registry, backend, scheme, 768, 768, registry.smoke() ? 1 : 16);
        continue;
      }
      for (const Size& size : sizes) {
        if (registry.smoke() && size.out > 3072) continue;
        for (std::int64_t rows : registry.sizes(size.rows)) bench(registry, backend, scheme, size.in, size.out, rows);
      }
    }
}

}  // namespace qfid::bench
