#include "tests/kernels/attention_cases.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>

#include "quant/core/random.h"
#include "tests/support/tolerance.h"

namespace qfid::tests {

namespace {

class Collector : public TapSink {
 public:
  bool wants(TapPoint) const override { return true; }
  void take(TapPoint point, const DeviceTensor& tensor) override { taps[point] = tensor; }
  std::map<TapPoint, DeviceTensor> taps;
};

Tensor filled(const Shape& shape, quant::Random& random, float scale) {
  Tensor tensor(DType::f32, shape);
  for (float& x : tensor.view<float>().span()) x = scale * static_cast<float>(random.normal());
  return tensor;
}

AttentionInputs on(Backend& backend, const Inputs& in) {
  AttentionInputs a;
  a.q = backend.upload(in.q);
  a.k = backend.upload(in.k);
  a.v = backend.upload(in.v);
  if (!in.gate_logits.empty()) a.gate_logits = backend.upload(in.gate_logits);
  if (!in.sink.empty()) a.sink = backend.upload(in.sink);
  if (!in.key_mask.empty()) a.key_mask = backend.upload(in.key_mask);
  if (!in.bias.empty()) a.bias = backend.upload(in.bias);
  return a;
}

}  // namespace

AttentionProblem problem_of(const Case& c, const AttentionSchemes& schemes, ExecutionMode mode) {
  AttentionProblem p;
  p.q_heads = c.q_heads;
  p.kv_heads = c.kv_heads;
  p.head_dim = c.d;
  p.v_head_dim = c.dv;
  p.causal = c.causal;
  p.gate = c.gate;
  p.learnable_sink = c.sink;
  p.schemes = schemes;
  p.mode = mode;
  return p;
}

Inputs inputs_of(const Case& c, std::uint64_t seed) {
  quant::Random random(seed);
  Inputs in;
  in.q = filled(Shape{c.batch, c.q_len, c.q_heads, c.d}, random, 1.0F);
  in.k = filled(Shape{c.batch, c.kv_len, c.kv_heads, c.d}, random, 1.0F);
  in.v = filled(Shape{c.batch, c.kv_len, c.kv_heads, c.dv}, random, 1.0F);
  if (c.gate) {
    const std::int64_t gates = c.gate->site == GateSite::value ? c.kv_heads : c.q_heads;
    in.gate_logits = filled(Shape{c.batch, c.kv_len, gates}, random, 2.0F);
  }
  if (c.sink) in.sink = filled(Shape{c.q_heads}, random, 2.0F);
  if (c.padded) {
    in.key_mask = Tensor::zeros(DType::u8, Shape{c.batch, c.kv_len});
    for (std::int64_t i = 0; i < c.batch * c.kv_len; ++i)
      in.key_mask.view<std::uint8_t>()[i] = i % c.kv_len < c.kv_len - c.kv_len / 3 ? 1 : 0;
    if (c.fill == "masked")
      for (std::int64_t j = 0; j < c.kv_len; ++j) in.key_mask.view<std::uint8_t>()[j] = 0;  // window 0: nothing visible
  }
  if (c.biased) in.bias = filled(Shape{1, c.q_heads, c.q_len, c.kv_len}, random, 0.5F);
  auto k = in.k.view<float>(), v = in.v.view<float>();
  if (c.fill == "sink")  // a first key every query likes, with a small value
    for (std::int64_t b = 0; b < c.batch; ++b)
      for (std::int64_t x = 0; x < c.kv_heads * c.d; ++x) {
        k[b * c.kv_len * c.kv_heads * c.d + x] *= 6.0F;
        if (x < c.kv_heads * c.dv) v[b * c.kv_len * c.kv_heads * c.dv + x] *= 0.05F;
      }
  if (c.fill == "outlier")
    for (std::int64_t i = 3; i < v.size(); i += c.dv) v[i] *= 50.0F;
  if (c.fill == "zero")
    for (std::int64_t i = 0; i < c.kv_heads * c.d; ++i) k[i] = 0.0F;
  return in;
}

Run run(Backend& backend, const AttentionProblem& p, const Inputs& in, bool listen) {
  const auto prepared = backend.prepare(p, {});
  Collector collector;
  const AttentionResult result = backend.attention(*prepared, on(backend, in), listen ? &collector : nullptr);
  Run r{backend.download(result.output), {}, result.probs};
  for (const auto& [point, tensor] : collector.taps) r.taps[point] = backend.download(tensor);
  if (backend.info().name == "cpu") CHECK(prepared->implementation().find("ref") == std::string::npos);
  return r;
}

oracle::HeadResult judge(const Case& c, const Inputs& in, std::int64_t b, std::int64_t h) {
  const std::int64_t kv_head = h / (c.q_heads / c.kv_heads);
  oracle::Head head{c.q_len, c.kv_len, c.d, c.dv, {}, {}, {}, {}, 1.0 / std::sqrt(static_cast<double>(c.d)),
                    NAN,     {},       {},  {}};
  const auto row = [](const Tensor& t, std::int64_t r, std::int64_t n, std::vector<double>& out) {
    for (std::int64_t x = 0; x < n; ++x) out.push_back(static_cast<double>(t.view<float>()[r * n + x]));
  };
  for (std::int64_t i = 0; i < c.q_len; ++i) row(in.q, (b * c.q_len + i) * c.q_heads + h, c.d, head.q);
  for (std::int64_t j = 0; j < c.kv_len; ++j) {
    row(in.k, (b * c.kv_len + j) * c.kv_heads + kv_head, c.d, head.k);
    row(in.v, (b * c.kv_len + j) * c.kv_heads + kv_head, c.dv, head.v);
  }
  for (std::int64_t i = 0; i < c.q_len; ++i)
    for (std::int64_t j = 0; j < c.kv_len; ++j)
      head.visible.push_back((!c.causal || j <= i + c.kv_len - c.q_len) &&
                             (in.key_mask.empty() || in.key_mask.view<std::uint8_t>()[b * c.kv_len + j] != 0));
  if (c.biased)
    for (std::int64_t x = 0; x < c.q_len * c.kv_len; ++x)
      head.bias.push_back(static_cast<double>(in.bias.view<float>()[h * c.q_len * c.kv_len + x]));
  if (c.sink) head.sink = static_cast<double>(in.sink.view<float>()[h]);
  if (c.gate) {
    const auto sigma = [&](std::int64_t t, std::int64_t g, std::int64_t gates) {
      return 1.0 / (1.0 + std::exp(-static_cast<double>(in.gate_logits.view<float>()[(b * c.kv_len + t) * gates + g])));
    };
    if (c.gate->site == GateSite::value) {
      for (std::int64_t j = 0; j < c.kv_len; ++j) head.value_gate.push_back(sigma(j, kv_head, c.kv_heads));
    } else {
      for (std::int64_t i = 0; i < c.q_len; ++i) head.output_gate.push_back(sigma(i + c.kv_len - c.q_len, h, c.q_heads));
    }
  }
  return oracle::attention(head);
}

double worst_excess(const Case& c, const Inputs& in, const Run& r, double fault) {
  double worst = 0;
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t h = 0; h < c.q_heads; ++h) {
      const oracle::HeadResult o = judge(c, in, b, h);
      for (std::int64_t i = 0; i < c.q_len; ++i)
        for (std::int64_t x = 0; x < c.dv; ++x) {
          const auto n = static_cast<std::size_t>(i * c.dv + x);
          const double got =
              fault * static_cast<double>(r.output.view<float>()[((b * c.q_len + i) * c.q_heads + h) * c.dv + x]);
          const double tolerance =
              attention_f32(o.output[n], o.magnitude[n], static_cast<double>(c.kv_len), c.fill == "sink" ? 24.0 : 4.0);
          const double excess = std::fabs(got - o.output[n]) / tolerance;
          if (!(excess <= worst)) worst = excess;
        }
    }
  return worst;
}

std::vector<Case> shapes() {
  std::vector<Case> all;
  for (std::int64_t kv : {1, 2, 127, 128, 129, 255, 257}) {
    Case c;
    c.q_len = c.kv_len = kv;
    c.batch = 1;
    all.push_back(c);
  }
  all.push_back({.q_len = 5, .kv_len = 40});
  all.push_back({.q_len = 40, .kv_len = 7, .causal = false});
  all.push_back({.q_len = 9, .kv_len = 4});  // the first rows see no key at all
  all.push_back({.q_heads = 6, .kv_heads = 2, .d = 24, .dv = 40});
  all.push_back({.causal = false, .padded = true});
  all.push_back({.padded = true, .fill = "masked"});
  all.push_back({.causal = false, .biased = true});
  all.push_back({.fill = "sink"});
  all.push_back({.fill = "outlier"});
  all.push_back({.fill = "zero"});
  return all;
}

std::vector<Case> variants() {
  std::vector<Case> all = shapes();
  all.push_back({.gate = Gate{GateInput::value, GateSite::output}});
  all.push_back({.gate = Gate{GateInput::value, GateSite::value}});
  all.push_back({.q_len = 5, .kv_len = 40, .gate = Gate{GateInput::hidden, GateSite::output}});
  all.push_back({.q_heads = 4, .kv_heads = 2, .gate = Gate{GateInput::hidden, GateSite::value}});
  all.push_back({.sink = true});
  all.push_back({.q_len = 9, .kv_len = 4, .sink = true});
  all.push_back({.sink = true, .gate = Gate{GateInput::value, GateSite::value}});
  return all;
}

AttentionSchemes schemes(const std::string& q, const std::string& k, const std::string& p, const std::string& v) {
  AttentionSchemes s;
  s.q = quant::parse_scheme(q);
  s.k = quant::parse_scheme(k);
  s.v = quant::parse_scheme(v);
  s.p = parse_prob_scheme(p);
  return s;
}

std::vector<Named> quantized_schemes() {
  std::vector<Named> all{{"int8 tensor", schemes("int8", "int8", "uint8", "int8")},
                         {"int8 token", schemes("int8/token", "int8/token", "uint8", "int8/channel")},
                         {"int8 head, P int8", schemes("int8/head", "int8/block(16)", "int8", "int8/head")},
                         {"e4m3 token", schemes("e4m3/token", "e4m3/token", "e4m3", "e4m3/channel")},
                         {"e5m2 tensor", schemes("e5m2", "e5m2", "e5m2", "e5m2")},
                         {"mixed fp8", schemes("e4m3", "e5m2/token", "e4m3/scale=448", "e4m3/head")},
                         {"bf16", schemes("bf16", "bf16", "bf16", "bf16")},
                         {"int8 q k, bf16 p v", schemes("int8/token", "int8/token", "bf16", "bf16")},
                         {"running forward", schemes("int8/token", "int8/token", "uint8/running_forward(16)", "int8")},
                         {"running reverse fp8", schemes("e4m3/token", "e4m3/token", "e4m3/running_reverse(16)", "e4m3")},
                         {"quantized sum", schemes("int8/token", "int8/token", "uint8/quantized_sum", "int8")}};
  Named smooth{"smooth k", schemes("int8/token", "int8/token", "uint8", "int8")};
  smooth.schemes.smooth_k = true;
  smooth.schemes.scores_storage = DType::bf16;
  smooth.schemes.output = quant::parse_scheme("int8/token");
  all.push_back(smooth);
  return all;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

}  // namespace qfid::tests
