#include "eval/experiment/attention_tensors.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "eval/model/checkpoint.h"
#include "eval/model/safetensors.h"
#include "quant/core/error.h"
#include "quant/core/random.h"

namespace qfid::eval {

using quant::Error;
using quant::ErrorKind;
using quant::Shape;
using quant::Tensor;

namespace {

/// [B, H, T, D] -> [B, T, H, D].
Tensor heads_last(const Tensor& x) {
  const Shape& s = x.shape();
  Tensor y(quant::DType::f32, Shape{s[0], s[2], s[1], s[3]});
  const float* from = x.view<float>().data();
  float* to = y.view<float>().data();
  for (std::int64_t b = 0; b < s[0]; ++b)
    for (std::int64_t h = 0; h < s[1]; ++h)
      for (std::int64_t t = 0; t < s[2]; ++t, from += s[3]) std::copy_n(from, s[3], to + ((b * s[2] + t) * s[1] + h) * s[3]);
  return y;
}

std::string bracketed(const Shape& s) {
  std::vector<std::int64_t> all;
  for (int i = 0; i < s.rank(); ++i) all.push_back(s[i]);
  return shape_text(all);
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(path) {}

  bool has(const char* name) const { return file_.tensors().contains(name); }
  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    throw Error(ErrorKind::input, file_.path().string() + ": tensor \"" + name + "\": " + what);
  }
  Tensor numbers(const std::string& name, bool minus_infinity = false) const {
    Tensor tensor = file_.load_f32(name);
    const auto values = tensor.view<float>().span();
    const auto bad = std::find_if(values.begin(), values.end(),
                                  [&](float x) { return !std::isfinite(x) && !(minus_infinity && x == -INFINITY); });
    if (bad != values.end())
      fail(name, "element " + std::to_string(bad - values.begin()) + " is " + std::to_string(*bad) +
                     (minus_infinity ? ", expected finite numbers or -inf" : ", expected finite numbers"));
    return tensor;
  }
  Tensor four(const std::string& name, const char* axes) const {
    const Tensor tensor = numbers(name);
    if (tensor.shape().rank() != 4 || tensor.empty())
      fail(name,
           std::string("expected ") + axes + " with nothing empty, found " + shape_text(file_.tensors().at(name).shape));
    return heads_last(tensor);
  }
  Tensor exactly(const std::string& name, const Shape& shape, const std::string& axes) const {
    Tensor tensor = numbers(name);
    if (tensor.shape() != shape)
      fail(name, "expected " + axes + " = " + bracketed(shape) + ", found " + shape_text(file_.tensors().at(name).shape));
    return tensor;
  }
  /// Added to the scores, [1|B, 1|H, q, kv].
  Tensor mask(const Shape& full) const {
    const std::string dtype = file_.tensors().at("mask").dtype;
    const bool seen = dtype == "BOOL" || dtype == "U8";
    const Tensor raw = seen ? file_.load_bytes("mask") : numbers("mask", true);
    const Shape& s = raw.shape();
    std::int64_t dims[4] = {1, 1, 1, 1};
    bool fits = s.rank() <= 4;
    for (int i = 0; fits && i < s.rank(); ++i) dims[4 - s.rank() + i] = s[i];
    for (int i = 0; fits && i < 4; ++i) fits = dims[i] == full[i] || dims[i] == 1;
    if (!fits)
      fail("mask",
           "found " + shape_text(file_.tensors().at("mask").shape) + ", which doesn't broadcast to " + bracketed(full));
    Tensor bias(quant::DType::f32, Shape{dims[0], dims[1], full[2], full[3]});
    float* out = bias.view<float>().data();
    for (std::int64_t outer = 0; outer < dims[0] * dims[1]; ++outer)
      for (std::int64_t i = 0; i < full[2]; ++i)
        for (std::int64_t j = 0; j < full[3]; ++j) {
          const std::int64_t at = (outer * dims[2] + (dims[2] == 1 ? 0 : i)) * dims[3] + (dims[3] == 1 ? 0 : j);
          *out++ = !seen ? raw.view<float>()[at] : raw.view<std::uint8_t>()[at] != 0 ? 0.0F : -INFINITY;
        }
    return bias;
  }

 private:
  SafetensorsFile file_;
};

/// [B, gates, len] of the last len positions -> [B, kv_len, gates], zeros before.
Tensor gate_rows(const Tensor& gate, std::int64_t kv_len) {
  const std::int64_t B = gate.shape()[0], gates = gate.shape()[1], len = gate.shape()[2];
  Tensor out = Tensor::zeros(quant::DType::f32, Shape{B, kv_len, gates});
  for (std::int64_t b = 0; b < B; ++b)
    for (std::int64_t g = 0; g < gates; ++g)
      for (std::int64_t i = 0; i < len; ++i)
        out.view<float>()[(b * kv_len + kv_len - len + i) * gates + g] = gate.view<float>()[(b * gates + g) * len + i];
  return out;
}

void need(const Reader& reader, const char* name, bool right, const std::string& what) {
  if (!right) reader.fail(name, what);
}

}  // namespace

kernels::AttentionProblem AttentionTensors::problem() const {
  kernels::AttentionProblem p;
  p.q_heads = q.shape()[2];
  p.kv_heads = k.shape()[2];
  p.head_dim = q.shape()[3];
  p.v_head_dim = v.shape()[3];
  p.causal = causal;
  p.scale = scale;
  if (!gate_logits.empty()) p.gate = kernels::Gate{kernels::GateInput::value, gate_site};
  p.learnable_sink = !sink.empty();
  kernels::validate(p);
  return p;
}

AttentionTensors load_attention(const std::filesystem::path& file, kernels::GateSite gate_site) {
  const Reader reader(file);
  AttentionTensors a;
  a.name = file.filename().string();
  a.content_hash = file_hash(file);
  a.gate_site = gate_site;
  a.q = reader.four("q", "[batch, heads, q_len, d]");
  a.k = reader.four("k", "[batch, kv_heads, kv_len, d]");
  a.v = reader.four("v", "[batch, kv_heads, kv_len, d_v]");
  const Shape &q = a.q.shape(), &k = a.k.shape(), &v = a.v.shape();
  const auto text = [](std::int64_t n) { return std::to_string(n); };
  need(reader, "k", k[0] == q[0], "batch " + text(k[0]) + ", expected q's " + text(q[0]));
  need(reader, "v", v[0] == q[0], "batch " + text(v[0]) + ", expected q's " + text(q[0]));
  need(reader, "k", k[3] == q[3], "head size " + text(k[3]) + ", expected q's " + text(q[3]));
  need(reader, "v", v[1] == k[1] && v[2] == k[2],
       text(v[2]) + " heads of " + text(v[1]) + " tokens, expected k's " + text(k[2]) + " of " + text(k[1]));
  need(reader, "k", q[2] % k[2] == 0, text(k[2]) + " heads, which don't divide q's " + text(q[2]));
  need(reader, "k", k[1] >= q[1], text(k[1]) + " tokens, expected at least q's " + text(q[1]));
  if (reader.has("gate")) {
    const bool value = gate_site == kernels::GateSite::value;
    a.gate_logits =
        gate_rows(value ? reader.exactly("gate", Shape{q[0], k[2], k[1]}, "[batch, kv_heads, kv_len] (value site)")
                        : reader.exactly("gate", Shape{q[0], q[2], q[1]}, "[batch, heads, q_len] (output site)"),
                  k[1]);
  }
  if (reader.has("sink")) a.sink = reader.exactly("sink", Shape{q[2]}, "[heads]");
  if (reader.has("mask")) a.bias = reader.mask(Shape{q[0], q[2], q[1], k[1]});
  return a;
}

AttentionTensors generate_attention(std::int64_t batch, std::int64_t heads, std::int64_t length, std::int64_t head_dim,
                                    Fill fill, std::uint64_t seed) {
  quant::Random random(seed);
  AttentionTensors a;
  for (Tensor* tensor : {&a.q, &a.k, &a.v}) {
    *tensor = Tensor(quant::DType::f32, Shape{batch, length, heads, head_dim});
    for (float& x : tensor->view<float>().span()) x = static_cast<float>(random.normal());
  }
  const std::int64_t stride = heads * head_dim;
  if (fill == Fill::sink) {
    // A constant vector of norm s in every query and in key 0 adds s^2 / sqrt(d) to key 0's logit: ln of all others, and 3.
    const double s2 = (std::log(static_cast<double>(length)) + 3) * std::sqrt(static_cast<double>(head_dim));
    const auto part = static_cast<float>(std::sqrt(s2 / static_cast<double>(head_dim)));
    for (float& x : a.q.view<float>().span()) x += part;
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t i = 0; i < stride; ++i) {
        a.k.view<float>()[b * length * stride + i] = part;
        a.v.view<float>()[b * length * stride + i] *= 0.05F;
      }
  }
  if (fill == Fill::outlier)
    for (Tensor* tensor : {&a.k, &a.v})
      for (std::int64_t i = 0; i < tensor->shape().elements(); ++i)
        if (i % head_dim % 64 == 0) tensor->view<float>()[i] *= 20.0F;
  return a;
}

ProblemSizes parse_problem(const std::string& text) {
  std::int64_t sizes[4] = {};
  const char* at = text.data();
  const char* const end = at + text.size();
  for (int i = 0; i < 4; ++i) {
    const auto [next, error] = std::from_chars(at, end, sizes[i]);
    const bool last = i == 3;
    if (error != std::errc() || sizes[i] < 1 || sizes[i] > (1 << 24) || (last ? next != end : next == end || *next != 'x'))
      throw Error(ErrorKind::usage, "--problem " + text + ": expected BATCHxHEADSxLENGTHxHEAD_DIM, e.g. 4x16x2048x128");
    at = next + 1;
  }
  return {sizes[0], sizes[1], sizes[2], sizes[3]};
}

}  // namespace qfid::eval
