// Casts against the reference backend's: codes and counts of numbers on and beside every boundary between codes.
#include <cmath>
#include <cstring>
#include <map>

#include "tests/kernels/gpu/gpu_fixture.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

struct Codes : TapSink {
  bool wants(TapPoint point) const override { return point == TapPoint::q_codes || point == TapPoint::k_codes; }
  void take(TapPoint point, const DeviceTensor& tensor) override { taps[point] = tensor; }
  std::map<TapPoint, DeviceTensor> taps;
};

/// All upper halves of f32 with the lower halves at and beside ties: [96, 64, 1, 64].
Tensor patterns() {
  constexpr std::uint32_t lows[] = {0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
  Tensor x(DType::f32, Shape{96, 64, 1, 64});
  std::int64_t i = 0;
  for (std::uint32_t high = 0; high < 0x10000; ++high)
    for (const std::uint32_t low : lows) {
      const std::uint32_t bits = high << 16 | low;
      std::memcpy(&x.view<float>()[i++], &bits, sizeof bits);
    }
  return x;
}

struct Cast {
  Tensor q, k;
  quant::CodeCounts q_counts, k_counts;
};
Cast cast(Backend& backend, const std::string& scheme, const Tensor& x) {
  AttentionProblem p;
  p.head_dim = p.v_head_dim = 64;
  p.schemes.q = p.schemes.k = quant::parse_scheme(scheme);
  const bool integer = quant::is_integer(p.schemes.q.format);
  p.schemes.p = parse_prob_scheme(integer ? "uint8" : "e4m3");
  p.schemes.v = quant::parse_scheme(integer ? "int8/channel" : "e4m3/channel");
  const DeviceTensor src = backend.upload(x), v = backend.upload(filled(x.shape(), 3));
  const auto prepared = backend.prepare(p, {});
  Codes taps;
  AttentionInputs in;
  in.q = in.k = src;
  in.v = v;
  const AttentionResult result = backend.attention(*prepared, in, &taps);
  return {backend.download(taps.taps.at(TapPoint::q_codes)), backend.download(taps.taps.at(TapPoint::k_codes)), result.q,
          result.k};
}

}  // namespace

TEST_CASE("codes and counts of FP8 and INT8 casts are the reference's on and beside every boundary") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  const Tensor all = patterns();
  for (const char* scheme : {"e4m3/tensor/fixed(448)", "e4m3/tensor/fixed(448)/nosat", "e4m3/tensor/fixed(100)",
                             "e4m3/token", "e4m3/head", "e5m2/tensor/fixed(57344)", "e5m2/tensor/fixed(57344)/nosat",
                             "e5m2/token", "int8/tensor/fixed(127)", "int8/token", "int8/tensor/fixed(3)"}) {
    const Cast expected = cast(*host, scheme, all), got = cast(*device, scheme, all);
    CAPTURE(scheme);
    CHECK(same_bits(expected.q, got.q));
    CHECK(same_bits(expected.k, got.k));
    CHECK(expected.q_counts == got.q_counts);
    CHECK(expected.k_counts == got.k_counts);
    CHECK((got.q_counts.nan > 0 && got.q_counts.flushed > 0));
  }
}

TEST_CASE("casts by token of more windows than blocks are wanted, and of more tokens than a block has at once") {
  const auto device = gpu();
  const auto host = make_backend("reference");
  const Tensor x = filled(Shape{4300, 70, 64}, 41), w = filled(Shape{8, 64}, 42), bias = filled(Shape{8}, 43);
  const LinearProblem p = linear_problem(64, 8, "int8/channel", "int8/token");
  const LinearRun expected = run_linear(*host, p, x, w, bias), got = run_linear(*device, p, x, w, bias);
  CHECK(same_bits(expected.dst, got.dst));
  CHECK(expected.counts.flushed == got.counts.flushed);
}
