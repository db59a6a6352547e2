// Causal attention of one window, 12 heads of 64, f32 in and f32 out: casts, both products, softmax, gate. Operations: those
// of the two products over the visible (query, key) pairs. The reference backend runs 64 tokens only. Family sdpa: plain
// self-attention at the shapes of peer_sdpa.py and over a growing number of tokens.
#include <memory>

#include "kernels/registry/registry.h"
#include "tests/bench/bench.h"
#include "tests/support/tolerance.h"

namespace qfid::bench {

namespace {

using namespace kernels;

struct Scheme {
  const char *name, *qk, *p, *v;
};
constexpr Scheme schemes[] = {{"f32", "f32", "f32", "f32"},
                              {"bf16", "bf16", "bf16", "bf16"},
                              {"int8-tensor", "int8/tensor", "uint8", "int8/tensor"},
                              {"int8-token", "int8/token", "uint8", "int8/channel"},
                              {"e4m3-tensor", "e4m3/tensor", "e4m3", "e4m3/tensor"},
                              {"e4m3-token", "e4m3/token", "e4m3", "e4m3/channel"},
                              {"e5m2-tensor", "e5m2/tensor", "e5m2", "e5m2/tensor"}};

struct Variant {
  const char* name;
  std::optional<Gate> gate;
};
const Variant variants[] = {{"softmax", {}},
                            {"vga-output", Gate{GateInput::value, GateSite::output}},
                            {"vga-value", Gate{GateInput::value, GateSite::value}}};

AttentionProblem problem_of(const Scheme& scheme, const Variant& variant) {
  AttentionProblem p;
  p.q_heads = p.kv_heads = 12;
  p.head_dim = p.v_head_dim = 64;
  p.causal = true;
  p.gate = variant.gate;
  p.schemes.q = p.schemes.k = quant::parse_scheme(scheme.qk);
  p.schemes.p = parse_prob_scheme(scheme.p);
  p.schemes.v = quant::parse_scheme(scheme.v);
  return p;
}

AttentionInputs inputs_of(Backend& backend, const AttentionProblem& p, std::int64_t tokens) {
  const Shape shape{1, tokens, p.q_heads, p.head_dim};
  AttentionInputs in;
  in.q = backend.upload(filled(shape, 11));
  in.k = backend.upload(filled(shape, 12));
  in.v = backend.upload(filled(shape, 13));
  if (p.gate) in.gate_logits = backend.upload(filled(Shape{1, tokens, p.gates()}, 14));
  return in;
}

Tensor output_of(Backend& backend, const AttentionProblem& p, std::int64_t tokens) {
  const auto prepared = backend.prepare(p, {});
  return backend.download(backend.attention(*prepared, inputs_of(backend, p, tokens), nullptr).output);
}

/// Self-attention without variants at the shapes its peers are measured at, batch 1.
struct Shape4 {
  std::int64_t heads, tokens, head_dim;
  bool causal;
  std::string name() const {
    return std::string(causal ? "causal" : "full") + "/1x" + std::to_string(heads) + "x" + std::to_string(tokens) + "x" +
           std::to_string(head_dim);
  }
};

void bench_shape(const Registry& registry, const std::string& name, const Scheme& scheme, const Shape4& shape) {
  AttentionProblem p = problem_of(scheme, variants[0]);
  p.q_heads = p.kv_heads = shape.heads;
  p.head_dim = p.v_head_dim = shape.head_dim;
  p.causal = shape.causal;
  registry.add("sdpa/" + name + "/" + scheme.name + "/" + shape.name(), [=](benchmark::State& state) {
    const auto backend = make_backend(name), reference = make_backend("reference");
    constexpr std::int64_t check = 97;  // two key blocks, the second not whole
    if (const std::string wrong = difference(output_of(*reference, p, check), output_of(*backend, p, check), false,
                                             tests::gain_real_emulated, tests::prob_codes_nmse);
        !wrong.empty())
      return fail(state, wrong);
    const auto prepared = backend->prepare(p, {});
    const AttentionInputs in = inputs_of(*backend, p, shape.tokens);
    for ([[maybe_unused]] auto _ : state) {
      benchmark::DoNotOptimize(backend->attention(*prepared, in, nullptr).output);
      backend->synchronize();
    }
    const auto tokens = static_cast<double>(shape.tokens);
    const double pairs = shape.causal ? tokens * (tokens + 1) / 2 : tokens * tokens;
    count_operations(state, 4.0 * pairs * static_cast<double>(p.q_heads * p.head_dim));
    count_tokens(state, shape.tokens);
    state.SetLabel(prepared->implementation());
  });
}

/// Sizes of the growth with the number of tokens, and those of peers; the smoke run takes the first of each.
void register_shapes(const Registry& registry, const std::string& backend) {
  for (const Scheme& scheme : schemes)
    for (const bool causal : {false, true})
      for (const std::int64_t tokens : registry.sizes({256, 512, 1024, 2048, 4096, 8192, 16384, 32768})) {
        bench_shape(registry, backend, scheme, {8, tokens, 64, causal});
        if (registry.smoke() || tokens == 2048) bench_shape(registry, backend, scheme, {8, tokens, 128, causal});
        if (tokens == 8192) bench_shape(registry, backend, scheme, {4, tokens, 128, causal});
      }
}

void bench(const Registry& registry, const std::string& name, const Scheme& scheme, const Variant& variant,
           std::int64_t tokens) {
  const AttentionProblem p = problem_of(scheme, variant);
  registry.add("attention/" + name + "/" + scheme.name + "/" + variant.name + "/T:" + std::to_string(tokens),
               [=](benchmark::State& state) {
                 const auto backend = make_backend(name), reference = make_backend("reference");
                 constexpr std::int64_t check = 33;
                 if (const std::string wrong = difference(output_of(*reference, p, check), output_of(*backend, p, check),
                                                          false, tests::gain_real_emulated, tests::prob_codes_nmse);
                     !wrong.empty())
                   return fail(state, wrong);
                 const auto prepared = backend->prepare(p, {});
                 const AttentionInputs in = inputs_of(*backend, p, tokens);
                 for ([[maybe_unused]] auto _ : state) {
                   benchmark::DoNotOptimize(backend->attention(*prepared, in, nullptr).output);
                   backend->synchronize();
                 }
                 const double pairs = static_cast<double>(tokens) * static_cast<double>(tokens + 1) / 2;
                 count_operations(state, 4.0 * pairs * static_cast<double>(p.q_heads * p.head_dim));
                 count_tokens(state, tokens);
                 state.SetLabel(prepared->implementation());
               });
}

}  // namespace

void register_attention(const Registry& registry) {
  for (const std::string& backend : backends())
    for (const Scheme& scheme : schemes)
      for (const Variant& variant : variants)
        for (std::int64_t tokens : registry.sizes(backend == "reference" ? std::vector<std::int64_t>{64}
                                                                         : std::vector<std::int64_t>{128, 512, 2048}))
          bench(registry, backend, scheme, variant, tokens);
  for (const std::string& backend : backends())
    if (backend != "reference") register_shapes(registry, backend);
}

}  // namespace qfid::bench
