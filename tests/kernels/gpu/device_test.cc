// What only a device can get wrong: repeatability, stale memory, which kernel runs, alignment, long rows, exhausted memory,
// the accumulator of FP8 products.
#include <cmath>
#include <set>
#include <string>

#include "quant/distortion.h"
#include "tests/kernels/gpu/gpu_fixture.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

struct Case {
  std::int64_t batch, q_len, kv_len, heads, d, dv;
};

AttentionProblem attention_problem(const Case& c, const char* qk, const char* p, const char* v, bool causal) {
  AttentionProblem problem;
  problem.q_heads = problem.kv_heads = c.heads;
  problem.head_dim = c.d;
  problem.v_head_dim = c.dv;
  problem.causal = causal;
  problem.schemes.q = problem.schemes.k = quant::parse_scheme(qk);
  problem.schemes.p = parse_prob_scheme(p);
  problem.schemes.v = quant::parse_scheme(v);
  return problem;
}

Tensor run_attention(Backend& backend, const AttentionProblem& p, const Case& c) {
  AttentionInputs in;
  in.q = backend.upload(filled(Shape{c.batch, c.q_len, c.heads, c.d}, 21));
  in.k = backend.upload(filled(Shape{c.batch, c.kv_len, p.kv_heads, c.d}, 22));
  in.v = backend.upload(filled(Shape{c.batch, c.kv_len, p.kv_heads, c.dv}, 23));
  const auto prepared = backend.prepare(p, {});
  return backend.download(backend.attention(*prepared, in, nullptr).output);
}

std::string bits_of(const Tensor& t) { return {reinterpret_cast<const char*>(t.raw()), t.bytes()}; }

struct Formats {
  const char *qk, *p, *v;
};
constexpr Formats formats[] = {{"f32", "f32", "f32"},
                               {"bf16", "bf16", "bf16"},
                               {"int8/token", "uint8", "int8/channel"},
                               {"int8/head", "int8", "int8/head"},
                               {"e4m3/token", "e4m3", "e4m3/channel"},
                               {"e4m3", "e5m2", "e4m3"}};

}  // namespace

TEST_CASE("twenty runs give one result, bit for bit") {
  const auto device = gpu();
  const Case c{2, 130, 130, 3, 24, 40};
  for (const Formats& f : formats) {
    std::set<std::string> seen;
    for (int i = 0; i < 20; ++i) seen.insert(bits_of(run_attention(*device, attention_problem(c, f.qk, f.p, f.v, true), c)));
    CAPTURE(f.qk);
    CHECK(seen.size() == 1);
  }
  const Tensor x = filled(Shape{2, 65, 384}, 24), w = filled(Shape{130, 384}, 25), bias = filled(Shape{130}, 26);
  for (const char* format : {"f32", "bf16", "int8", "e4m3", "e5m2"}) {
    const bool scaled = std::string(format) != "f32" && std::string(format) != "bf16";
    const LinearProblem p = linear_problem(384, 130, format + std::string(scaled ? "/channel" : ""),
                                           format + std::string(scaled ? "/token" : ""));
    std::set<std::string> seen;
    for (int i = 0; i < 20; ++i) seen.insert(bits_of(run_linear(*device, p, x, w, bias).dst));
    CAPTURE(format);
    CHECK(seen.size() == 1);
  }
}

TEST_CASE("what lay in memory before changes nothing") {
  const auto device = gpu();
  Tensor before(DType::f32, Shape{64 << 20});  // given back to the pool, from which everything after it is taken
  const auto differs = [&](const auto& run) {
    std::set<std::string> seen;
    for (const int byte : {0xFF, 0x00}) {  // NaN of every format, and zeros
      std::memset(before.raw(), byte, before.bytes());
      device->upload(before);
      seen.insert(bits_of(run()));
    }
    return seen.size() > 1;
  };
  const Case c{2, 130, 130, 3, 24, 40};
  for (const Formats& f : formats)
    for (const ExecutionMode mode : {ExecutionMode::real, ExecutionMode::library}) {
      AttentionProblem p = attention_problem(c, f.qk, f.p, f.v, true);
      p.mode = mode;
      CAPTURE(f.qk, f.p, mode == ExecutionMode::library);
      CHECK_FALSE(differs([&] { return run_attention(*device, p, c); }));
    }
  const Tensor x = filled(Shape{2, 65, 384}, 24), w = filled(Shape{130, 384}, 25), bias = filled(Shape{130}, 26);
  for (const char* format : {"f32", "bf16", "int8", "e4m3", "e5m2"}) {
    const LinearProblem p = linear_problem(384, 130, format, format);
    CAPTURE(format);
    CHECK_FALSE(differs([&] { return run_linear(*device, p, x, w, bias).dst; }));
  }
  for (const char* along_k : {"e4m3/block(128x128)", "e4m3/group(128)"})
    if (const LinearProblem p = linear_problem(384, 130, along_k, "e4m3/group(128)"); device->supports(p))
      CHECK_FALSE(differs([&] { return run_linear(*device, p, x, w, bias).dst; }));
}

TEST_CASE("INT8 and E4M3 attention is one kernel on Hopper, cuBLASLt's products elsewhere and in mode library") {
  const auto device = gpu();
  const bool hopper = device->info().isa == "compute capability 9.0";
  const auto uses = [&](const char* what, const Formats& f, const Case& c, ExecutionMode mode, bool fast_accum = false) {
    AttentionProblem p = attention_problem(c, f.qk, f.p, f.v, true);
    p.mode = mode;
    p.fast_accum = fast_accum;
    AttentionInputs in;
    in.q = device->upload(filled(Shape{c.batch, c.q_len, c.heads, c.d}, 21));
    in.k = in.v = device->upload(filled(Shape{c.batch, c.kv_len, p.kv_heads, c.d}, 22));
    const auto prepared = device->prepare(p, {});
    device->attention(*prepared, in, nullptr);
    return prepared->implementation().find(what) != std::string::npos;
  };
  const Case narrow{1, 33, 33, 2, 64, 64}, widest{1, 5, 130, 1, 128, 128}, wide{1, 33, 33, 2, 136, 136};
  const Formats e4m3{"e4m3/token", "e4m3", "e4m3/channel"};
  for (const Formats& f : {formats[2], formats[3], e4m3}) {
    CAPTURE(f.qk, f.p, device->info().isa);
    for (const Case& c : {narrow, widest}) CHECK(uses("fused wgmma", f, c, ExecutionMode::real) == hopper);
    CHECK_FALSE(uses("fused", f, wide, ExecutionMode::real));
    CHECK_FALSE(uses("fused", f, narrow, ExecutionMode::library));
    CHECK(uses("cublasLt", f, narrow, ExecutionMode::library));
  }
  CHECK_FALSE(uses("fused", formats[0], narrow, ExecutionMode::real));
  for (const ExecutionMode mode : {ExecutionMode::real, ExecutionMode::library}) {
    if (!hopper) continue;  // before compute capability 8.9 there are no FP8 products
    CHECK(uses("fast_accum", e4m3, narrow, mode, true));
    CHECK_FALSE(uses("fast_accum", e4m3, narrow, mode));
  }
}

TEST_CASE("sizes round the alignment rules: attention follows the reference") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  for (std::int64_t kv : {1, 7, 15, 16, 17, 127, 128, 129})
    for (std::int64_t d : {1, 7, 15, 16, 17, 64})
      for (const Formats& f : formats) {
        const Case c{1, 3, kv, 2, d, d + (d == 7 ? 2 : 0)};
        const AttentionProblem p = attention_problem(c, f.qk, f.p, f.v, false);
        const Tensor expected = run_attention(*host, p, c), got = run_attention(*device, p, c);
        quant::DistortionStats stats;
        stats.add(expected.view<float>().span(), got.view<float>().span());
        CAPTURE(kv, d, f.qk, f.p);
        REQUIRE(stats.nan_count() == 0);
        // A handful of P codes and no average over them: a code's step is at most 1/8 of an E4M3 number, 1/4 of E5M2's.
        CHECK(*stats.nmse() <= 1e-3);
      }
}

TEST_CASE("causal chunks of query rows: each row sees its keys and no more, whatever chunk it falls into") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  for (const auto& [q_len, kv_len] : {std::pair{129, 129}, {260, 300}, {513, 513}})
    for (const std::int64_t kv_heads : {4, 2})
      for (const Formats& f : {formats[0], formats[1], formats[2]}) {
        const Case c{1, q_len, kv_len, 4, 24, 40};
        AttentionProblem p = attention_problem(c, f.qk, f.p, f.v, true);
        p.kv_heads = kv_heads;
        const Tensor expected = run_attention(*host, p, c);
        p.mode = ExecutionMode::library;
        const Tensor got = run_attention(*device, p, c);
        const auto row = static_cast<std::size_t>(c.heads * c.dv);
        for (std::size_t i = 0; i < static_cast<std::size_t>(q_len); ++i) {
          quant::DistortionStats stats;
          stats.add(expected.view<float>().span().subspan(i * row, row), got.view<float>().span().subspan(i * row, row));
          CAPTURE(q_len, kv_len, kv_heads, f.qk, f.p, i);
          // A key too many or too few of n moves a row by more than 1/n^2; coded rows are apart by single codes of P too.
          REQUIRE(*stats.nmse() <= (std::string(f.qk) == "f32" ? 1e-10 : 1e-2));
        }
      }
}

TEST_CASE("32k keys: codes of one row in 32-bit sums, long rows, all formats") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  const Case c{1, 3, 32771, 1, 64, 64};
  for (const Formats& f : formats) {
    const AttentionProblem p = attention_problem(c, f.qk, f.p, f.v, true);
    const Tensor expected = run_attention(*host, p, c), got = run_attention(*device, p, c);
    quant::DistortionStats stats;
    stats.add(expected.view<float>().span(), got.view<float>().span());
    CAPTURE(f.qk, f.p, *stats.gain(), *stats.nmse());
    CHECK(stats.nan_count() == 0);
    CHECK(std::fabs(*stats.gain() - 1) <= 5e-3);  // the mean of 32k values is small: mostly what rounding left
    CHECK(*stats.nmse() <= 1e-4);
  }
}

TEST_CASE("memory that isn't there is an error that says how much, and the backend goes on") {
  const auto device = gpu();
  const DeviceTensor ids = device->upload(Tensor::zeros(DType::i32, Shape{1, 1 << 20}));
  const DeviceTensor table = device->upload(Tensor::zeros(DType::f32, Shape{1, 1 << 20}));
  try {
    device->embedding(ids, table);
    FAIL("4 TiB were handed out");
  } catch (const quant::Error& error) {
    CHECK(error.kind() == quant::ErrorKind::unavailable);
    CHECK(std::string(error.what()).find("out of memory") != std::string::npos);
    CHECK(std::string(error.what()).find("4194304 MiB") != std::string::npos);
  }
  const Tensor x = filled(Shape{1, 2, 3}, 27);
  CHECK(
      same_bits(device->download(device->add(device->upload(x), device->upload(Tensor::zeros(DType::f32, x.shape())))), x));
}

TEST_CASE("a device that isn't there is refused by its number") {
  gpu();
  const Support support = make_backend("gpu", 99)->available();
  CHECK_FALSE(support.ok);
  CHECK(support.reason.find("device 99") != std::string::npos);
}

TEST_CASE("the FP8 accumulator's width, and what promotion gives back") {
  const auto device = gpu();
  const std::int64_t in = 512;
  // 2^up + 2^-down: the largest up + down for which the small product survives, by its distance along K from the large one.
  const auto kept_bits = [&](std::int64_t distance, bool fast) {
    for (int bits = 1; bits <= 24; ++bits) {
      Tensor x = Tensor::zeros(DType::f32, Shape{1, 1, in}), w = Tensor::zeros(DType::f32, Shape{16, in});
      const int up = bits / 2, down = bits - up;  // each split over both operands, to stay inside E4M3
      const auto pow2 = [](int e) { return static_cast<float>(std::ldexp(1.0, e)); };
      x.view<float>()[0] = pow2(up / 2);
      x.view<float>()[distance] = pow2(-(down / 2));
      for (std::int64_t o = 0; o < 16; ++o) {
        w.view<float>()[o * in] = pow2(up - up / 2);
        w.view<float>()[o * in + distance] = pow2(-(down - down / 2));
      }
      LinearProblem p = linear_problem(in, 16, "e4m3/tensor/fixed(448)", "e4m3/tensor/fixed(448)");
      p.fast_accum = fast;
      const Tensor bias = Tensor::zeros(DType::f32, Shape{16});
      const Tensor y = run_linear(*device, p, x, w, bias).dst;
      if (static_cast<double>(y.view<float>()[0]) != std::ldexp(1.0, up) + std::ldexp(1.0, -down)) return bits - 1;
    }
    return 24;
  };
  const int within = kept_bits(1, false), across = kept_bits(300, false), fast = kept_bits(300, true);
  WARN("FP8 accumulator: a product survives beside one 2^n larger up to n = " << within << " within one instruction, "
                                                                              << across << " at distance 300 along K, "
                                                                              << fast << " there with fast_accum");
  CHECK(within >= 12);      // tolerance.h's 2^-13
  CHECK(across >= within);  // promotion to f32 along K never keeps less
  CHECK(within < 24);       // were it f32, tolerance.h would be too loose
}
