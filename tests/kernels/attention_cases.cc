#include "tests/kernels/attention_cases.h"

#include <cmath>
#include <limits>

namespace qfid::tests {

namespace {

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

std::string Case::to_string() const {
  const auto n = [](std::int64_t x) { return std::to_string(x); };
  std::string text = n(batch) + "x" + n(q_len) + "x" + n(kv_len) + " heads " + n(q_heads) + "/" + n(kv_heads) + " d " +
                     n(d) + "/" + n(dv) + (causal ? " causal" : " full");
  for (const auto& [on, word] : {std::pair{padded, " padded"}, std::pair{biased, " biased"}, std::pair{sink, " sink"}})
    if (on) text += word;
  if (gate) text += gate->site == GateSite::value ? " gate at v" : " gate at output";
  return text + " " + fill;
}

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
  if (c.biased) {
    in.bias = filled(Shape{1, c.q_heads, c.q_len, c.kv_len}, random, 0.5F);
    for (std::int64_t i = 0; i < in.bias.shape().elements(); i += 7)
      in.bias.view<float>()[i] = -std::numeric_limits<float>::infinity();
  }
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

Run run(Backend& backend, const AttentionProblem& p, const Inputs& in, bool listen, const AttentionRanges& ranges) {
  const auto prepared = backend.prepare(p, ranges);
  Collector collector;
  AttentionResult result = backend.attention(*prepared, on(backend, in), listen ? &collector : nullptr);
  Run r{backend.download(result.output), {}, result, prepared->implementation()};
  for (const auto& [point, tensor] : collector.taps) r.taps[point] = backend.download(tensor);
  return r;
}

bool visible(const Case& c, const Inputs& in, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
  if (c.causal && j > i + c.kv_len - c.q_len) return false;
  if (!in.key_mask.empty() && in.key_mask.view<std::uint8_t>()[b * c.kv_len + j] == 0) return false;
  return in.bias.empty() ||
         in.bias.view<float>()[(h * c.q_len + i) * c.kv_len + j] != -std::numeric_limits<float>::infinity();
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
    for (std::int64_t j = 0; j < c.kv_len; ++j) head.visible.push_back(visible(c, in, b, h, i, j) ? 1 : 0);
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

std::vector<Case> lengths() {
  std::vector<Case> all;
  for (std::int64_t n : {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 257})
    all.push_back({.batch = 1, .q_len = n, .kv_len = n});
  return all;
}

std::vector<Case> shapes() {
  return {{},
          {.q_len = 5, .kv_len = 40},
          {.q_len = 40, .kv_len = 7, .causal = false},
          {.q_len = 9, .kv_len = 4},  // the first rows see no key at all
          {.q_heads = 6, .kv_heads = 2, .d = 24, .dv = 40},
          {.causal = false, .padded = true},
          {.padded = true, .fill = "masked"},
          {.causal = false, .biased = true},
          {.q_len = 140, .kv_len = 140, .padded = true, .biased = true},
          {.batch = 1, .q_len = 70, .kv_len = 300, .kv_heads = 1, .d = 100, .dv = 120},
          {.fill = "sink"},
          {.fill = "outlier"},
          {.fill = "zero"}};
}

std::vector<Case> variants() {
  std::vector<Case> all = shapes();
  for (const Case& c : std::vector<Case>{{.gate = Gate{GateInput::value, GateSite::output}},
                                         {.gate = Gate{GateInput::value, GateSite::value}},
                                         {.q_len = 5, .kv_len = 40, .gate = Gate{GateInput::hidden, GateSite::output}},
                                         {.q_heads = 4, .gate = Gate{GateInput::hidden, GateSite::value}},
                                         {.sink = true},
                                         {.q_len = 9, .kv_len = 4, .sink = true},
                                         {.padded = true, .sink = true},
                                         {.sink = true, .gate = Gate{GateInput::value, GateSite::value}}})
    all.push_back(c);
  return all;
}

AttentionSchemes schemes(const std::string& q, const std::string& k, const std::string& p, const std::string& v) {
  return {
      quant::parse_scheme(q), quant::parse_scheme(k), quant::parse_scheme(v), parse_prob_scheme(p), {}, false, DType::f32};
}

AttentionRanges static_ranges(const Case& c, const AttentionSchemes& schemes) {
  const auto of = [](const quant::QuantScheme& s, std::int64_t heads, float range) {
    std::vector<quant::Range> all;
    if (s.timing != quant::Timing::static_ || s.range.kind == quant::RangeKind::fixed) return all;
    for (std::int64_t h = 0; h < (s.granularity.kind == quant::GranularityKind::head ? heads : 1); ++h)
      all.push_back({-range - 0.25F * static_cast<float>(h), range});
    return all;
  };
  return {of(schemes.q, c.q_heads, 3.0F), of(schemes.k, c.kv_heads, 3.5F), of(schemes.v, c.kv_heads, 2.5F), {}};
}

std::vector<Named> quantized_schemes() {
  std::vector<Named> all{
      {"int8 tensor", schemes("int8", "int8", "uint8", "int8")},
      {"int8 token", schemes("int8/token", "int8/token", "uint8", "int8/channel")},
      {"int8 head, P int8", schemes("int8/head", "int8/block(16)", "int8", "int8/head")},
      {"int8 fixed", schemes("int8/tensor/fixed(4)", "int8/block(8)", "uint8", "int8/tensor/fixed(6)")},
      {"int8 static", schemes("int8/head/absmax/static", "int8/tensor/absmax/static", "uint8", "int8/head/absmax/static")},
      {"e4m3 token", schemes("e4m3/token", "e4m3/token", "e4m3", "e4m3/channel")},
      {"e5m2 tensor", schemes("e5m2", "e5m2", "e5m2", "e5m2")},
      {"mixed fp8", schemes("e4m3", "e5m2/token", "e4m3/scale=448", "e4m3/head")},
      {"fp8, p_scale 1", schemes("e4m3/head", "e4m3/block(16)", "e4m3/scale=1", "e4m3/channel")},
      {"bf16", schemes("bf16", "bf16", "bf16", "bf16")},
      {"int8 q k, bf16 p v", schemes("int8/token", "int8/token", "bf16", "bf16")},
      {"bf16 q k, int8 p v", schemes("bf16", "bf16", "uint8", "int8/channel")},
      {"running forward", schemes("int8/token", "int8/token", "uint8/running_forward(16)", "int8")},
      {"running reverse fp8", schemes("e4m3/token", "e4m3/token", "e4m3/running_reverse(16)", "e4m3")},
      {"quantized sum", schemes("int8/token", "int8/token", "uint8/quantized_sum", "int8")},
      {"quantized sum fp8", schemes("f32", "e4m3/token", "e5m2/quantized_sum/running_forward(8)", "f32")}};
  Named smooth{"smooth k, bf16 scores, int8 output", schemes("int8/token", "int8/token", "uint8", "int8")};
  smooth.schemes.smooth_k = true;
  smooth.schemes.scores_storage = DType::bf16;
  smooth.schemes.output = quant::parse_scheme("int8/token");
  all.push_back(smooth);
  Named smooth_fp8{"smooth k fp8, e4m3 output", schemes("e4m3/token", "e4m3/token", "e4m3", "e4m3")};
  smooth_fp8.schemes.smooth_k = true;
  smooth_fp8.schemes.output = quant::parse_scheme("e4m3/head");
  all.push_back(smooth_fp8);
  for (Named rounded : {all[0], all[5]}) {
    rounded.name += ", bf16 scores";
    rounded.schemes.scores_storage = DType::bf16;
    all.push_back(rounded);
  }
  return all;
}

std::vector<Named> all_schemes() {
  std::vector<Named> all = quantized_schemes();
  all.push_back({"f32", {}});
  return all;
}

}  // namespace qfid::tests
