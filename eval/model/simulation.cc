#include "eval/model/simulation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "quant/core/first_error.h"
#include "quant/quantize.h"

namespace qfid::eval {

using kernels::DeviceTensor;
using quant::Range;
using quant::Shape;
using quant::Tensor;
using quant::View;

namespace {

/// Linear interpolation at p / 100 (n - 1), as numpy.percentile; reorders `values`.
float percentile(std::vector<float>& values, double p) {
  const double place = p / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), at, values.end());
  const double low = *at;
  if (below + 1 == values.size()) return *at;
  const double high = *std::min_element(at + 1, values.end());
  return static_cast<float>(low + (place - static_cast<double>(below)) * (high - low));
}

Range range_of(View<const float> x, std::optional<double> p) {
  if (p) {
    std::vector<float> values(x.span().begin(), x.span().end());
    const float high = percentile(values, *p);
    return {percentile(values, 100 - *p), high};
  }
  const auto [low, high] = std::minmax_element(x.span().begin(), x.span().end());
  return {*low, *high};
}

/// Rounds to the grid of whole multiples of `scale` from low to high.
void round_to(View<float> x, float scale, float low, float high) {
  float* data = x.data();
#pragma omp parallel for simd schedule(static)
  for (std::int64_t i = 0; i < x.size(); ++i) data[i] = std::clamp(std::nearbyintf(data[i] / scale), low, high) * scale;
}

Tensor rounded_weight(const Tensor& weight, bool mse) {
  Tensor copy = weight.clone();
  if (weight.empty()) return copy;
  const View<const float> all = weight.view<float>();
  const bool negative = std::any_of(all.span().begin(), all.span().end(), [](float v) { return v < 0; });
  quant::QuantScheme scheme;
  scheme.format = negative ? quant::Format::int8 : quant::Format::uint8;
  scheme.range.kind = mse ? quant::RangeKind::mse : quant::RangeKind::absmax;
  const View<const float> flat = all.reshaped(Shape{1, 1, 1, all.size()});
  const quant::ScaleZero grid = quant::scale_for(quant::ranges(flat, scheme, quant::Role::weight)[0], scheme);
  round_to(copy.view<float>(), grid.scale, negative ? -128.0F : 0.0F, negative ? 127.0F : 255.0F);
  return copy;
}

float sigmoid(float x) { return static_cast<float>(1 / (1 + std::exp(-static_cast<double>(x)))); }

/// One call of attention in host memory: [B, T, heads, d] operands, scores and probabilities [B, heads, Tq, Tk].
struct HostAttention {
  const kernels::AttentionProblem& p;
  Tensor q, k, v, gates, sink, mask, bias;  ///< gates behind the sigmoid; empty = none
  std::int64_t batch, q_len, kv_len;

  std::int64_t kv_head(std::int64_t h) const { return h / (p.q_heads / p.kv_heads); }
  float gate(std::int64_t b, std::int64_t t, std::int64_t h) const {
    return gates.view<float>()[(b * kv_len + t) * p.gates() + h];
  }
  bool hidden(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) const {
    if (p.causal && j > i + kv_len - q_len) return true;
    if (added(b, h, i, j) == -std::numeric_limits<float>::infinity()) return true;
    return !mask.empty() && mask.view<std::uint8_t>()[b * kv_len + j] == 0;
  }
  /// The additive mask, [1|B, 1|heads, Tq, Tk].
  float added(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) const {
    if (bias.empty()) return 0;
    const Shape& s = bias.shape();
    return bias.view<float>()[(((s[0] == 1 ? 0 : b) * s[1] + (s[1] == 1 ? 0 : h)) * q_len + i) * kv_len + j];
  }
  /// Calls f(window, head, query) for all, in parallel over heads.
  template <class F>
  void each_row(const F& f) const {
    quant::FirstError error;
#pragma omp parallel for schedule(static)
    for (std::int64_t n = 0; n < batch * p.q_heads; ++n)
      error.guard([&] {
        for (std::int64_t i = 0; i < q_len; ++i) f(n / p.q_heads, n % p.q_heads, i);
      });
    error.rethrow();
  }
  float* row(Tensor& s, std::int64_t b, std::int64_t h, std::int64_t i) const {
    return s.view<float>().data() + ((b * p.q_heads + h) * q_len + i) * kv_len;
  }

  Tensor scores() const {
    Tensor s = Tensor::zeros(quant::DType::f32, Shape{batch, p.q_heads, q_len, kv_len});
    const std::int64_t d = p.head_dim;
    each_row([&](std::int64_t b, std::int64_t h, std::int64_t i) {
      const float* x = q.view<float>().data() + ((b * q_len + i) * p.q_heads + h) * d;
      float* out = row(s, b, h, i);
      for (std::int64_t j = 0; j < kv_len; ++j) {
        const float* y = k.view<float>().data() + ((b * kv_len + j) * p.kv_heads + kv_head(h)) * d;
        double sum = 0;
        for (std::int64_t c = 0; c < d; ++c) sum += static_cast<double>(x[c]) * static_cast<double>(y[c]);
        out[j] = static_cast<float>(sum) * p.softmax_scale();
      }
    });
    return s;
  }

  /// Scores -> probabilities, in place; counts what a query sees.
  void softmax(Tensor& s, std::vector<kernels::ProbCounts>& counts) const {
    each_row([&](std::int64_t b, std::int64_t h, std::int64_t i) {
      float* x = row(s, b, h, i);
      float top = sink.empty() ? -std::numeric_limits<float>::infinity() : sink.view<float>()[h];
      std::int64_t seen = 0;
      for (std::int64_t j = 0; j < kv_len; ++j)
        if (!hidden(b, h, i, j)) {
          ++seen;
          x[j] += added(b, h, i, j);
          top = std::max(top, x[j]);
        }
      kernels::ProbCounts& count = counts[static_cast<std::size_t>(b * p.q_heads + h)];
      count.visible += seen;
      count.masked_rows += seen == 0;
      double sum = sink.empty() ? 0 : std::exp(static_cast<double>(sink.view<float>()[h]) - static_cast<double>(top));
      std::vector<double> e(static_cast<std::size_t>(kv_len));
      for (std::int64_t j = 0; j < kv_len; ++j) {
        double& one = e[static_cast<std::size_t>(j)];
        if (!hidden(b, h, i, j)) one = std::exp(static_cast<double>(x[j]) - static_cast<double>(top));
        sum += one;
      }
      for (std::int64_t j = 0; j < kv_len; ++j)
        x[j] = seen == 0 ? 0.0F : static_cast<float>(e[static_cast<std::size_t>(j)] / sum);
    });
  }

  Tensor context(Tensor& probs) const {
    const std::int64_t d = p.v_head_dim;
    Tensor out = Tensor::zeros(quant::DType::f32, Shape{batch, q_len, p.q_heads, d});
    each_row([&](std::int64_t b, std::int64_t h, std::int64_t i) {
      const float* weight = row(probs, b, h, i);
      std::vector<double> sum(static_cast<std::size_t>(d));
      for (std::int64_t j = 0; j < kv_len; ++j) {
        if (weight[j] == 0.0F) continue;
        const float* y = v.view<float>().data() + ((b * kv_len + j) * p.kv_heads + kv_head(h)) * d;
        for (std::int64_t c = 0; c < d; ++c)
          sum[static_cast<std::size_t>(c)] += static_cast<double>(weight[j]) * static_cast<double>(y[c]);
      }
      float* to = out.view<float>().data() + ((b * q_len + i) * p.q_heads + h) * d;
      for (std::int64_t c = 0; c < d; ++c) to[c] = static_cast<float>(sum[static_cast<std::size_t>(c)]);
    });
    return out;
  }

  /// x [B, T, heads, d] times the gate of each row's head, `first` rows into the gates.
  void apply_gate(Tensor& x, std::int64_t first) const {
    const Shape& s = x.shape();
    float* at = x.view<float>().data();
    for (std::int64_t b = 0; b < s[0]; ++b)
      for (std::int64_t t = 0; t < s[1]; ++t)
        for (std::int64_t h = 0; h < s[2]; ++h, at += s[3])
          for (std::int64_t c = 0; c < s[3]; ++c) at[c] *= gate(b, t + first, h);
  }
};

}  // namespace

DecoderWeights simulated_weights(const DecoderWeights& weights, const SimulationSpec& spec) {
  const auto rounded = [&](const Tensor& w) { return rounded_weight(w, spec.mse_weights); };
  DecoderWeights copy;
  copy.config = weights.config;
  copy.embed_tokens = rounded(weights.embed_tokens);
  copy.embed_positions = rounded(weights.embed_positions);
  copy.token_types = rounded(weights.token_types);
  copy.embed_norm_gamma = rounded(weights.embed_norm_gamma);
  copy.embed_norm_beta = weights.embed_norm_beta.clone();
  for (const DecoderWeights::Layer& from : weights.layers) {
    DecoderWeights::Layer layer;
    using Part = Tensor DecoderWeights::Layer::*;
    using Layer = DecoderWeights::Layer;
    for (const Part part : {&Layer::attn_norm_gamma, &Layer::q_w, &Layer::k_w, &Layer::v_w, &Layer::out_w,
                            &Layer::ffn_norm_gamma, &Layer::fc1_w, &Layer::fc2_w})
      layer.*part = rounded(from.*part);
    for (const Part part : {&Layer::attn_norm_beta, &Layer::q_b, &Layer::k_b, &Layer::v_b, &Layer::out_b, &Layer::gate_w,
                            &Layer::gate_b, &Layer::sink, &Layer::ffn_norm_beta, &Layer::fc1_b, &Layer::fc2_b})
      layer.*part = (from.*part).clone();
    copy.layers.push_back(std::move(layer));
  }
  // A decoder's final norm belongs to its body, an encoder's to its head.
  copy.final_norm_gamma = weights.config.causal ? rounded(weights.final_norm_gamma) : weights.final_norm_gamma.clone();
  copy.final_norm_beta = weights.final_norm_beta.clone();
  copy.head_dense_w = weights.head_dense_w.clone();
  copy.head_dense_b = weights.head_dense_b.clone();
  copy.lm_head = (weights.lm_head.empty() ? weights.embed_tokens : weights.lm_head).clone();
  copy.lm_head_b = weights.lm_head_b.clone();
  return copy;
}

void Simulation::round(const std::string& site, View<float> x) {
  if (estimating_) {
    const Range seen = range_of(x, spec_.percentile);
    const auto [found, first] = ranges_.try_emplace(site, seen);
    if (!first) {
      const auto mean = [&](float old, float now) {
        return static_cast<float>(spec_.momentum * static_cast<double>(old) +
                                  (1 - spec_.momentum) * static_cast<double>(now));
      };
      found->second = {mean(found->second.min, seen.min), mean(found->second.max, seen.max)};
    }
  }
  const auto found = ranges_.find(site);
  quant::require(found != ranges_.end(), "simulation: no range for site " + site);
  quant::QuantScheme scheme;
  scheme.format = quant::Format::uint8;
  scheme.affine = true;
  const Range wide{std::min(found->second.min, 0.0F), std::max(found->second.max, 1e-8F)};
  const quant::ScaleZero grid = quant::scale_for(wide, scheme);
  const auto zero = static_cast<float>(grid.zero_point);
  round_to(x, grid.scale, -zero, 255.0F - zero);
}

DeviceTensor Simulation::at(const std::string& site, const DeviceTensor& x) {
  Tensor host = backend_.download(x);
  round(site, host.view<float>());
  return backend_.upload(host);
}

kernels::AttentionResult Simulation::attention(const std::string& prefix, const kernels::AttentionProblem& problem,
                                               const kernels::AttentionInputs& inputs, kernels::TapSink* taps) {
  const auto host = [&](const DeviceTensor& x) { return x.defined() ? backend_.download(x) : Tensor(); };
  const auto give = [&](kernels::TapPoint point, const Tensor& x) {
    if (taps != nullptr && taps->wants(point)) taps->take(point, backend_.upload(x));
  };
  HostAttention a{problem,           host(inputs.q),        host(inputs.k),    host(inputs.v),    host(inputs.gate_logits),
                  host(inputs.sink), host(inputs.key_mask), host(inputs.bias), inputs.q.shape[0], inputs.q.shape[1],
                  inputs.k.shape[1]};
  if (problem.gate) {
    for (float& x : a.gates.view<float>().span()) x = sigmoid(x);
    give(kernels::TapPoint::gate, a.gates);
    if (problem.gate->site == kernels::GateSite::value) {
      a.apply_gate(a.v, 0);
      give(kernels::TapPoint::v_gated, a.v);
    }
  }
  kernels::AttentionResult result;
  result.probs.resize(static_cast<std::size_t>(a.batch * problem.q_heads));
  Tensor s = a.scores();
  round(prefix + "scores", s.view<float>());
  a.softmax(s, result.probs);
  give(kernels::TapPoint::probs, s);
  round(prefix + "probs", s.view<float>());
  for (std::int64_t n = 0; n < a.batch * problem.q_heads * a.q_len; ++n)
    for (std::int64_t j = 0; j < a.kv_len; ++j)
      result.probs[static_cast<std::size_t>(n / a.q_len)].zero_codes +=
          s.view<float>()[n * a.kv_len + j] == 0.0F &&
          !a.hidden(n / a.q_len / problem.q_heads, n / a.q_len % problem.q_heads, n % a.q_len, j);
  Tensor context = a.context(s);
  const bool output_gate = problem.gate && problem.gate->site == kernels::GateSite::output;
  if (problem.causal) round(prefix + "context", context.view<float>());
  if (output_gate) a.apply_gate(context, a.kv_len - a.q_len);
  if (!problem.causal) round(prefix + "context", context.view<float>());
  result.output = backend_.upload(context);
  return result;
}

}  // namespace qfid::eval
