// What attention in panels is made of, each alone and in cache, one thread: block products (the most that the whole can
// reach is theirs) and row passes. Names: block/IMPLEMENTATION/MxNxK, rows/scores|codes/SCHEME/ROWSx64. `op`:
// multiplications and additions a second; `scores`: of the row passes.
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_blocks.h"
#include "tests/bench/cpu/cpu_bench.h"

namespace qfid::bench {

namespace {

using namespace kernels;
using cpu::BlockType;

struct Scheme {
  const char *name, *qk, *p;
};
constexpr Scheme schemes[] = {
    {"f32", "f32", "f32"}, {"bf16", "bf16", "bf16"}, {"int8", "int8/token", "uint8"}, {"e4m3", "e4m3/token", "e4m3"}};

std::optional<cpu::BlockRoute> route_of(const Scheme& scheme, const cpu::Isa& isa) {
  const quant::Format format = quant::parse_scheme(scheme.qk).format;
  return cpu::block_route(cpu::product_types(format, format, ExecutionMode::real, isa), isa);
}

void bench_product(const cpu::Isa& isa, const cpu::BlockRoute& route, std::int64_t M, std::int64_t K) {
  const std::string name = "block/" + cpu::block_name(route.type) + "/" + std::to_string(M) + "x64x" + std::to_string(K);
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    const cpu::BlockProduct product({route.type, M, cpu::key_block, K, K, cpu::key_block, false}, isa.amx);
    cpu::Grown a, b, c, scratch;
    const auto bytes = static_cast<std::int64_t>(route.bytes);
    std::fill_n(a.reserve(M * K * bytes), M * K * bytes, std::byte{0});
    std::fill_n(b.reserve(K * cpu::key_block * bytes), K * cpu::key_block * bytes, std::byte{0});
    c.reserve(M * cpu::key_block * 4);
    scratch.reserve(static_cast<std::int64_t>(product.scratch_bytes()) + 64);
    const cpu::BlockProduct* tiles = nullptr;
    for ([[maybe_unused]] auto _ : state) {
      product.run(a.raw(), b.raw(), c.raw(), scratch.raw(), tiles);
      benchmark::ClobberMemory();
    }
    cpu::BlockProduct::release(isa.amx);
    state.counters["op"] =
        benchmark::Counter(2.0 * static_cast<double>(M * cpu::key_block * K), benchmark::Counter::kIsIterationInvariantRate);
  });
}

void count_scores(benchmark::State& state, std::int64_t rows) {
  state.counters["scores"] =
      benchmark::Counter(static_cast<double>(rows * cpu::key_block), benchmark::Counter::kIsIterationInvariantRate);
}

void bench_scores(const Scheme& scheme, bool integer) {
  constexpr std::int64_t rows = 64;
  const std::string name = std::string("rows/scores/") + scheme.name + "/64x64";
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    std::vector<float> scales(cpu::key_block, 0.01F), top(rows * cpu::row_lanes), sums(rows * cpu::key_block);
    std::vector<std::int32_t> integers(rows * cpu::key_block, 500);
    const std::vector<std::int32_t> excess(cpu::key_block, 3);
    const cpu::ScoreBlock block{
        rows, scales.data(), 0.125F, scales.data(), !integer, integer ? excess.data() : nullptr, 64, 0, 64, nullptr,
        0,    nullptr,       false,  top.data()};
    for ([[maybe_unused]] auto _ : state) {
      if (integer) {
        cpu::score_block(block, integers.data());
      } else {
        cpu::score_block(block, sums.data());
      }
      benchmark::ClobberMemory();
    }
    count_scores(state, rows);
  });
}

void bench_codes(const Scheme& scheme, const cpu::BlockRoute& route) {
  constexpr std::int64_t rows = 64;
  const std::string name = std::string("rows/codes/") + scheme.name + "/64x64";
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    const Tensor scores = filled(Shape{rows, cpu::key_block}, 5);
    const std::vector<float> m(rows, 4.0F);
    std::vector<float> sum(rows * cpu::row_lanes), p(rows * cpu::key_block);
    const ProbScheme prob = parse_prob_scheme(scheme.p);
    const cpu::CodeBlock block{
        rows,   scores.view<float>().data(), m.data(), &prob, route.type, p.data(), cpu::key_block, sum.data(), nullptr,
        nullptr};
    for ([[maybe_unused]] auto _ : state) {
      benchmark::DoNotOptimize(cpu::code_block(block));
      benchmark::ClobberMemory();
    }
    count_scores(state, rows);
  });
}

}  // namespace

void register_blocks() {
  const cpu::Isa isa = cpu::effective_isa();
  std::vector<BlockType> seen;
  for (const Scheme& scheme : schemes) {
    const auto route = route_of(scheme, isa);
    if (!route) continue;
    bench_scores(scheme, route->integer());
    bench_codes(scheme, *route);
    if (std::find(seen.begin(), seen.end(), route->type) != seen.end()) continue;
    seen.push_back(route->type);
    for (const std::int64_t M : {48, 64, 128})
      for (const std::int64_t K : {64, 128, 256}) bench_product(isa, *route, M, K);
  }
}

}  // namespace qfid::bench
