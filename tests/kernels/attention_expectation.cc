#include "tests/kernels/attention_expectation.h"

#include <bit>
#include <cmath>

#include "tests/support/grid.h"
#include "tests/support/tolerance.h"

namespace qfid::tests {

namespace {

/// Mean of K over the valid keys of each window and head, rounded once: [B, 1, H, D].
Tensor key_means(const Tensor& k, const Tensor& mask) {
  const Shape& s = k.shape();
  Tensor means(DType::f32, Shape{s[0], 1, s[2], s[3]});
  for (std::int64_t b = 0; b < s[0]; ++b)
    for (std::int64_t x = 0; x < s[2] * s[3]; ++x) {
      double sum = 0, n = 0;
      for (std::int64_t t = 0; t < s[1]; ++t) {
        if (!mask.empty() && mask.view<std::uint8_t>()[b * s[1] + t] == 0) continue;
        sum += static_cast<double>(k.view<float>()[(b * s[1] + t) * s[2] * s[3] + x]);
        n += 1;
      }
      means.view<float>()[b * s[2] * s[3] + x] = n > 0 ? static_cast<float>(sum / n) : 0.0F;
    }
  return means;
}

Tensor without_means(const Tensor& k, const Tensor& means) {
  Tensor result = k.clone();
  const std::int64_t row = k.shape()[2] * k.shape()[3], window = row * k.shape()[1];
  for (std::int64_t i = 0; i < k.shape().elements(); ++i)
    result.view<float>()[i] -= means.view<float>()[i / window * row + i % row];
  return result;
}

const Tensor& value_input(const AttentionProblem& p, const Inputs& in, const Run& run) {
  return p.gate && p.gate->site == GateSite::value ? run.taps.at(TapPoint::v_gated) : in.v;
}

bool differs(float a, float b) { return std::bit_cast<std::uint32_t>(a) != std::bit_cast<std::uint32_t>(b); }

}  // namespace

Expectation::Expectation(const std::string& backend, const Case& c, const AttentionProblem& problem, const Inputs& in,
                         const AttentionRanges& ranges, const Run& run)
    : backend_(backend),
      c_(c),
      problem_(problem),
      in_(in),
      ranges_(ranges),
      run_(run),
      means_(key_means(in.k, in.key_mask)),
      smooth_(problem.schemes.smooth_k ? without_means(in.k, means_) : Tensor()),
      k_input_(problem.schemes.smooth_k ? smooth_ : in.k),
      v_input_(value_input(problem, in, run)),
      q_(in.q, problem.schemes.q, ranges.q),
      k_(k_input_, problem.schemes.k, ranges.k),
      v_(v_input_, problem.schemes.v, ranges.v) {}

std::int64_t Expectation::wrong_operand_codes() const {
  // The mean of K is a sum whose order is the backend's: f32 roundings of it reach the codes.
  const double slack = problem_.schemes.smooth_k && backend_ == "gpu" ? 16 * f32_epsilon : 0.0;
  return wrong_codes(in_.q, q_, problem_.schemes.q, run_.taps.at(TapPoint::q_codes), 0) +
         wrong_codes(k_input_, k_, problem_.schemes.k, run_.taps.at(TapPoint::k_codes), slack) +
         wrong_codes(v_input_, v_, problem_.schemes.v, run_.taps.at(TapPoint::v_codes), 0);
}

std::int64_t Expectation::wrong_integer_scores() const {
  const bool integer = quant::is_integer(problem_.schemes.q.format) && problem_.mode != ExecutionMode::emulated;
  if (integer != run_.taps.contains(TapPoint::scores_i32)) return c_.batch * c_.q_heads * c_.q_len * c_.kv_len;
  if (!integer) return 0;
  const auto q = run_.taps.at(TapPoint::q_codes).view<std::int8_t>(),
             k = run_.taps.at(TapPoint::k_codes).view<std::int8_t>();
  const auto got = run_.taps.at(TapPoint::scores_i32).view<std::int32_t>();
  std::int64_t wrong = 0, n = 0;
  for (std::int64_t b = 0; b < c_.batch; ++b)
    for (std::int64_t h = 0; h < c_.q_heads; ++h)
      for (std::int64_t i = 0; i < c_.q_len; ++i)
        for (std::int64_t j = 0; j < c_.kv_len; ++j) {
          const std::int8_t* x = q.data() + ((b * c_.q_len + i) * c_.q_heads + h) * c_.d;
          const std::int8_t* y = k.data() + ((b * c_.kv_len + j) * c_.kv_heads + h / (c_.q_heads / c_.kv_heads)) * c_.d;
          std::int32_t dot = 0;
          for (std::int64_t d = 0; d < c_.d; ++d) dot += x[d] * y[d];
          wrong += dot != got[n++] && visible(c_, in_, b, h, i, j);
        }
  return wrong;
}

std::int64_t Expectation::wrong_scaled_scores() const {
  if (!run_.taps.contains(TapPoint::scores_i32)) return 0;
  const auto raw = run_.taps.at(TapPoint::scores_i32).view<std::int32_t>();
  const auto got = run_.taps.at(TapPoint::scores).view<float>();
  std::int64_t wrong = 0;
  for (std::int64_t n = 0; n < raw.size(); ++n) {
    const std::int64_t j = n % c_.kv_len, i = n / c_.kv_len % c_.q_len, h = n / (c_.kv_len * c_.q_len) % c_.q_heads,
                       b = n / (c_.kv_len * c_.q_len * c_.q_heads);
    if (!visible(c_, in_, b, h, i, j)) continue;
    const float scale = (q_.at(b, i, h, 0) * k_.at(b, j, h / (c_.q_heads / c_.kv_heads), 0)) * problem_.softmax_scale();
    float score = static_cast<float>(raw[n]) * scale;
    if (problem_.schemes.scores_storage != DType::f32) {
      const Grid& grid = Grid::of(quant::Format::bf16);
      score = std::copysign(static_cast<float>(grid.value(grid.nearest(std::fabs(static_cast<double>(score))))), score);
    }
    if (c_.biased) score += in_.bias.view<float>()[(h * c_.q_len + i) * c_.kv_len + j];
    wrong += differs(score, got[n]);
  }
  return wrong;
}

std::int64_t Expectation::wrong_gates() const {
  if (!problem_.gate) return 0;
  const auto gate = run_.taps.at(TapPoint::gate).view<float>(), logits = in_.gate_logits.view<float>();
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < logits.size(); ++i) {
    const double exact = 1 / (1 + std::exp(-static_cast<double>(logits[i])));
    wrong += !(std::fabs(static_cast<double>(gate[i]) - exact) <= (exp_relative + 2 * f32_epsilon) * exact);
  }
  if (problem_.gate->site != GateSite::value) return wrong;
  const auto gated = run_.taps.at(TapPoint::v_gated).view<float>(), v = in_.v.view<float>();
  for (std::int64_t i = 0; i < v.size(); ++i) wrong += differs(gated[i], gate[i / c_.dv] * v[i]);
  return wrong;
}

std::int64_t Expectation::wrong_outputs() const {
  Tensor expected = run_.taps.at(TapPoint::context).clone();
  if (problem_.gate && problem_.gate->site == GateSite::output) {
    const auto gate = run_.taps.at(TapPoint::gate).view<float>();
    for (std::int64_t i = 0; i < expected.shape().elements(); ++i) {
      const std::int64_t h = i / c_.dv % c_.q_heads, t = i / (c_.dv * c_.q_heads) % c_.q_len,
                         b = i / (c_.dv * c_.q_heads * c_.q_len);
      expected.view<float>()[i] *= gate[(b * c_.kv_len + t + c_.kv_len - c_.q_len) * c_.q_heads + h];
    }
  }
  const quant::QuantScheme& scheme = problem_.schemes.output;
  if (scheme.format != quant::Format::f32) {
    const Scales scales(expected, scheme, ranges_.output);
    const Grid& grid = Grid::of(scheme.format);
    const Shape& s = expected.shape();
    for (std::int64_t i = 0; i < s.elements(); ++i) {
      float& x = expected.view<float>()[i];
      const float scale = scales.at(i / (s[3] * s[2] * s[1]), i / (s[3] * s[2]) % s[1], i / s[3] % s[2], i % s[3]);
      const float code = static_cast<float>(grid.value(grid.nearest(std::fabs(static_cast<double>(x / scale)))));
      x = std::copysign(code, x) * scale;
      if (scheme.format == quant::Format::int8 && x == 0.0F) x = 0.0F;  // integers know no -0
    }
  }
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < expected.shape().elements(); ++i)
    wrong += differs(expected.view<float>()[i], run_.output.view<float>()[i]);
  return wrong + !same_bits(run_.taps.at(TapPoint::output), run_.output);
}

std::int64_t Expectation::wrong_counts() const {
  std::int64_t wrong = 0;
  quant::CodeCounts p;
  for (std::int64_t n = 0; n < c_.batch * c_.q_heads; ++n) {
    ProbCounts counts;
    for (std::int64_t i = 0; i < c_.q_len; ++i) {
      std::int64_t seen = 0;
      for (std::int64_t j = 0; j < c_.kv_len; ++j) {
        if (!visible(c_, in_, n / c_.q_heads, n % c_.q_heads, i, j)) continue;
        ++seen;
        counts.zero_codes += number(run_.taps.at(TapPoint::p_codes), (n * c_.q_len + i) * c_.kv_len + j) == 0;
      }
      counts.visible += seen;
      counts.masked_rows += seen == 0;
    }
    wrong += !(counts == run_.result.probs[static_cast<std::size_t>(n)]);
    p.elements += counts.visible;
    p.flushed += counts.zero_codes;
  }
  return wrong + !(p == run_.result.p);
}

/// By query row: smoothing lowers every score of a row by c q . kbar, and the sink with them.
std::vector<double> Expectation::sink_logits(std::int64_t b, std::int64_t h) const {
  const std::int64_t kv_head = h / (c_.q_heads / c_.kv_heads);
  std::vector<double> logits;
  for (std::int64_t i = 0; i < c_.q_len; ++i) {
    double lowered = 0;
    for (std::int64_t d = 0; problem_.schemes.smooth_k && d < c_.d; ++d)
      lowered += static_cast<double>(in_.q.view<float>()[((b * c_.q_len + i) * c_.q_heads + h) * c_.d + d]) *
                 static_cast<double>(means_.view<float>()[(b * c_.kv_heads + kv_head) * c_.d + d]);
    logits.push_back(static_cast<double>(in_.sink.view<float>()[h]) -
                     lowered * static_cast<double>(problem_.softmax_scale()));
  }
  return logits;
}

HeadExpectation Expectation::head(std::int64_t b, std::int64_t h) const {
  const std::int64_t kv_head = h / (c_.q_heads / c_.kv_heads);
  HeadExpectation e;
  e.problem_ = &problem_;
  e.run_ = &run_;
  e.b_ = b;
  e.h_ = h;
  const AttentionSchemes& s = problem_.schemes;
  const bool emulated = problem_.mode == ExecutionMode::emulated;
  e.qk_epsilon_ = accumulator_epsilon(backend_, s.q.format, s.k.format, emulated);
  e.pv_epsilon_ = accumulator_epsilon(backend_, s.p.format, s.v.format, emulated);
  for (const auto& [point, to] : {std::pair{TapPoint::scores, &e.scores_}, std::pair{TapPoint::p_codes, &e.codes_},
                                  std::pair{TapPoint::probs, &e.probs_}})
    for (std::int64_t x = 0; x < c_.q_len * c_.kv_len; ++x)
      to->push_back(number(run_.taps.at(point), (b * c_.q_heads + h) * c_.q_len * c_.kv_len + x));
  oracle::CodedHead& head = e.coded;
  head.q_len = c_.q_len;
  head.kv_len = c_.kv_len;
  head.d = c_.d;
  head.dv = c_.dv;
  head.scale = static_cast<double>(problem_.softmax_scale());
  head.p_scale = static_cast<double>(s.p.effective_scale());
  head.block = s.p.reference == PReference::row_max ? 0 : s.p.block;
  head.reverse = s.p.reference == PReference::running_reverse;
  head.quantized_sum = s.p.quantized_sum;
  const auto take = [&](TapPoint point, std::int64_t row, std::int64_t n, std::vector<double>& to) {
    for (std::int64_t x = 0; x < n; ++x) to.push_back(number(run_.taps.at(point), row * n + x));
  };
  for (std::int64_t i = 0; i < c_.q_len; ++i) {
    take(TapPoint::q_codes, (b * c_.q_len + i) * c_.q_heads + h, c_.d, head.q);
    head.q_scale.push_back(static_cast<double>(q_.at(b, i, h, 0)));
    for (std::int64_t j = 0; j < c_.kv_len; ++j) head.visible.push_back(visible(c_, in_, b, h, i, j) ? 1 : 0);
  }
  for (std::int64_t j = 0; j < c_.kv_len; ++j) {
    take(TapPoint::k_codes, (b * c_.kv_len + j) * c_.kv_heads + kv_head, c_.d, head.k);
    take(TapPoint::v_codes, (b * c_.kv_len + j) * c_.kv_heads + kv_head, c_.dv, head.v);
    head.k_scale.push_back(static_cast<double>(k_.at(b, j, kv_head, 0)));
  }
  for (std::int64_t c = 0; c < c_.dv; ++c) head.v_scale.push_back(static_cast<double>(v_.at(b, 0, kv_head, c)));
  for (std::int64_t x = 0; c_.biased && x < c_.q_len * c_.kv_len; ++x)
    head.bias.push_back(static_cast<double>(in_.bias.view<float>()[h * c_.q_len * c_.kv_len + x]));
  if (c_.sink) head.sink = sink_logits(b, h);
  return e;
}

}  // namespace qfid::tests
