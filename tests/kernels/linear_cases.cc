#include "tests/kernels/linear_cases.h"

#include <cmath>

#include "kernels/oracle/oracle.h"
#include "tests/support/grid.h"
#include "tests/support/tolerance.h"

namespace qfid::tests {

namespace {

std::vector<quant::Range> ranges_of(const LinearProblem& p) {
  const bool needed = p.activations.timing == quant::Timing::static_ && p.activations.range.kind != quant::RangeKind::fixed;
  return needed ? std::vector<quant::Range>{{-2.5F, 3.0F}} : std::vector<quant::Range>{};
}

}  // namespace

LinearInputs inputs_of(const LinearCase& c, std::uint64_t seed) {
  quant::Random random(seed);
  LinearInputs in{filled(Shape{c.batch, c.tokens, c.in}, random), filled(Shape{c.out, c.in}, random), {}};
  if (c.bias) in.bias = filled(Shape{c.out}, random);
  return in;
}

LinearProblem linear_problem(const LinearCase& c, const std::string& weights, const std::string& activations,
                             ExecutionMode mode) {
  return {c.in, c.out, quant::parse_scheme(weights), quant::parse_scheme(activations), mode};
}

LinearRun run(Backend& backend, const LinearProblem& p, const LinearInputs& in) {
  const quant::View<const float> bias = in.bias.empty() ? quant::View<const float>() : in.bias.view<float>();
  const auto prepared = backend.prepare(p, {in.w.view<float>(), bias, ranges_of(p)});
  LinearRun r;
  r.y = backend.download(backend.linear(*prepared, backend.upload(in.x), &r.counts));
  r.implementation = prepared->implementation();
  return r;
}

LinearOperands operands_of(const LinearProblem& p, const LinearInputs& in) {
  LinearOperands o;
  const std::int64_t batch = in.x.shape()[0], tokens = in.x.shape()[1], window = tokens * p.in;
  for (std::int64_t b = 0; b < batch; ++b) {  // each window alone
    const quant::View<const float> x(in.x.view<float>().data() + b * window, Shape{1, tokens, 1, p.in});
    const quant::QuantizedTensor q = quant::quantize(x, p.activations, quant::Role::activation, ranges_of(p));
    for (std::int64_t i = 0; i < window; ++i) {
      const std::int64_t granule = q.scales.empty() || q.scales.shape().elements() == 1 ? 0 : i / p.in;
      o.x.push_back(number(q.codes, i) - (q.zero_points.empty() ? 0 : q.zero_points.view<std::int32_t>()[granule]));
      if (i % p.in == 0) o.x_scale.push_back(q.scales.empty() ? 1.0F : q.scales.view<float>()[granule]);
    }
  }
  const quant::QuantizedTensor w =
      quant::quantize(in.w.view<float>().reshaped(Shape{1, p.out, 1, p.in}), p.weights, quant::Role::weight);
  for (std::int64_t i = 0; i < p.in * p.out; ++i) o.w.push_back(number(w.codes, i));
  for (std::int64_t i = 0; i < p.out; ++i)
    o.w_scale.push_back(w.scales.empty() ? 1.0F : w.scales.view<float>()[w.scales.shape().elements() == 1 ? 0 : i]);
  return o;
}

Tensor exact_integer_linear(const LinearProblem& p, const LinearInputs& in) {
  const LinearOperands o = operands_of(p, in);
  const auto rows = static_cast<std::int64_t>(o.x_scale.size());
  const std::vector<double> sums = oracle::linear(o.x, o.w, {}, rows, p.in, p.out);  // whole numbers below 2^53: exact
  Tensor y(DType::f32, Shape{in.x.shape()[0], in.x.shape()[1], p.out});
  for (std::int64_t i = 0; i < rows * p.out; ++i) {
    const auto r = static_cast<std::size_t>(i / p.out), c = static_cast<std::size_t>(i % p.out);
    const float bias = in.bias.empty() ? 0.0F : in.bias.view<float>()[i % p.out];
    y.view<float>()[i] = static_cast<float>(sums[static_cast<std::size_t>(i)]) * (o.x_scale[r] * o.w_scale[c]) + bias;
  }
  return y;
}

double worst_excess(const std::string& backend, const LinearProblem& p, const LinearInputs& in, const Tensor& y,
                    std::int64_t faulty_output, std::int64_t faulty_row) {
  const LinearOperands o = operands_of(p, in);
  const auto rows = static_cast<std::int64_t>(o.x_scale.size());
  const auto magnitudes = [](std::vector<double> x) {
    for (double& v : x) v = std::fabs(v);
    return x;
  };
  const std::vector<double> sums = oracle::linear(o.x, o.w, {}, rows, p.in, p.out),
                            sizes = oracle::linear(magnitudes(o.x), magnitudes(o.w), {}, rows, p.in, p.out);
  const bool emulated = p.mode == ExecutionMode::emulated;
  const double epsilon = accumulator_epsilon(backend, p.activations.format, p.weights.format, emulated);
  double worst = 0;
  for (std::int64_t i = 0; i < rows * p.out; ++i) {
    const auto r = static_cast<std::size_t>(i / p.out), c = static_cast<std::size_t>(i % p.out),
               n = static_cast<std::size_t>(i);
    double scale = static_cast<double>(o.x_scale[r]) * static_cast<double>(o.w_scale[c]);
    if (i % p.out == faulty_output || i / p.out == faulty_row) scale *= fault;
    const double expected =
        sums[n] * scale + (in.bias.empty() ? 0.0 : static_cast<double>(in.bias.view<float>()[i % p.out]));
    const double tolerance = linear(sizes[n] * scale, expected, static_cast<double>(p.in), epsilon, emulated);
    raise(worst, std::fabs(static_cast<double>(y.view<float>()[i]) - expected) / tolerance);
  }
  return worst;
}

double LinearGains::worst() const {
  double all = 0;
  for (const std::vector<Gain>* some : {&outputs, &rows})
    for (const Gain& gain : *some) raise(all, gain.excess());
  return all;
}

LinearGains gains(const std::string& backend, const LinearProblem& p, const LinearInputs& in, const Tensor& y,
                  std::int64_t faulty_output, std::int64_t faulty_row) {
  const LinearOperands o = operands_of(p, in);
  const auto rows = static_cast<std::int64_t>(o.x_scale.size());
  const auto squares = [](std::vector<double> x) {
    for (double& v : x) v *= v;
    return x;
  };
  const std::vector<double> sums = oracle::linear(o.x, o.w, {}, rows, p.in, p.out),
                            sizes = oracle::linear(squares(o.x), squares(o.w), {}, rows, p.in, p.out);
  const double epsilon =
      accumulator_epsilon(backend, p.activations.format, p.weights.format, p.mode == ExecutionMode::emulated);
  LinearGains all{std::vector<Gain>(static_cast<std::size_t>(p.out)), std::vector<Gain>(o.x_scale.size())};
  for (std::int64_t i = 0; i < rows * p.out; ++i) {
    const auto r = static_cast<std::size_t>(i / p.out), c = static_cast<std::size_t>(i % p.out),
               n = static_cast<std::size_t>(i);
    double scale = static_cast<double>(o.x_scale[r]) * static_cast<double>(o.w_scale[c]);
    if (i % p.out == faulty_output || i / p.out == faulty_row) scale *= fault;
    const double bias = in.bias.empty() ? 0.0 : static_cast<double>(in.bias.view<float>()[i % p.out]);
    const double exact = sums[n] * scale, size = std::sqrt(sizes[n]) * scale;
    const double noise = accumulation_rms(static_cast<double>(p.in), epsilon, size, exact) +
                         4 * f32_epsilon * (std::fabs(exact) + std::fabs(bias));
    for (Gain* gain : {&all.outputs[c], &all.rows[r]})
      gain->add(static_cast<double>(y.view<float>()[i]) - bias, exact, noise);
  }
  return all;
}

}  // namespace qfid::tests
