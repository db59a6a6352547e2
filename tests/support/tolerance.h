// Every tolerance of the tests, with its reason. Comparisons are written !(difference <= tolerance), so that NaN fails.
// u is the unit roundoff of f32: one rounding changes a number by at most u of itself.
#pragma once

#include <cmath>
#include <string_view>

#include "quant/scheme.h"

namespace qfid::tests {

inline constexpr double f32_epsilon = 0x1p-24;

/// Smallest normal f32: below it nothing is promised in relative terms (exp flushes there).
inline constexpr double f32_smallest = 0x1p-126;

/// Keeps the worst of many excesses; once NaN, always NaN.
inline void raise(double& worst, double excess) {
  if (!std::isnan(worst) && !(excess <= worst)) worst = excess;
}

/// A sum of n products in any order, accumulated with roundings of `epsilon`: n roundings of random sign, each at most
/// epsilon of a partial sum that never exceeds sum |x||y|, are a random walk of sqrt(n) steps (Higham and Mary 2019); four
/// standard deviations of it.
inline double accumulation(double n, double epsilon, double magnitude) { return 4 * std::sqrt(n) * epsilon * magnitude; }

/// Relative error that one step of a product's accumulator may leave. Integers: none. Hosts round f32. On the GPU: f32
/// products are real f32; tensor cores sum FP8 products aligned to their largest, keeping about 14 bits between promotions
/// to f32; bf16 products, and those of E5M2 by E5M2 and of FP8 by bf16, which are expanded to it, in f32 that is cut, not
/// rounded (2^-23), once for every 16 terms: fewer steps of one sign than accumulation() allows up to 4096 terms.
/// Emulated products are of f32 numbers, whatever the formats.
inline double accumulator_epsilon(std::string_view backend, quant::Format a, quant::Format b, bool emulated) {
  if (emulated) return f32_epsilon;
  if (quant::is_integer(a)) return 0;
  if (backend != "gpu" || a == quant::Format::f32 || b == quant::Format::f32) return f32_epsilon;
  const bool tensor_cores_have_it =
      quant::is_fp8(a) && quant::is_fp8(b) && (a == quant::Format::e4m3 || b == quant::Format::e4m3);
  return tensor_cores_have_it ? 0x1p-13 : 0x1p-23;
}

/// exp of the kernels: 2 units in the last place (kernels/cpu/softmax.cc), each at most 2u of the number.
inline constexpr double exp_ulps = 2;
inline constexpr double exp_relative = 2 * exp_ulps * f32_epsilon;

/// One score: the dot product; then f32(s32), the product of two scales, times c, times the sum: 4 roundings; the additive
/// mask rounds once more. Emulated scores multiply dequantized numbers, each rounded once: 2 roundings of every term.
inline double score(double d, double epsilon, double magnitude, double result, bool emulated) {
  return accumulation(d, epsilon, magnitude) + (emulated ? 2 : 0) * f32_epsilon * magnitude + 4 * f32_epsilon * magnitude +
         f32_epsilon * std::fabs(result) + f32_smallest;
}

/// exp(S - m), relative: an error of an exponent is a relative error of the power. The score's own, the maximum's, the
/// subtraction's rounding, exp's, and one product (by p_scale).
inline double e_relative(double score_error, double maximum_error, double depth) {
  return score_error + maximum_error + f32_epsilon * depth + exp_relative + f32_epsilon;
}

/// Denominator l of one row, relative: the mean error of its terms (weights E / l) and the sum of n positive terms; a
/// running reference multiplies it once per block by a power: exp's error and a rounding, and the maxima's errors.
inline double l_relative(double mean_e_relative, double n, double blocks, double maximum_error) {
  const double running = blocks > 1 ? blocks * (exp_relative + 2 * f32_epsilon) + 2 * maximum_error : 0;
  return mean_e_relative + accumulation(n, f32_epsilon, 1) + running;
}

/// One number of attention's output, given its P codes: |o - o_ref| <= eps |o_ref| + a sqrt(keys) eps_acc sum |p||v|. eps:
/// f32(sum), times s_v, p_scale * l, the division, and what the denominator carries. Emulated operands are rounded once
/// each. A running reference rescales the sum as it does l.
inline double attention_output(double reference, double magnitude, double n, double epsilon, double l_error, double blocks,
                               double maximum_error, bool emulated) {
  const double running = blocks > 1 ? blocks * (exp_relative + 2 * f32_epsilon) + 2 * maximum_error : 0;
  return (4 * f32_epsilon + l_error) * std::fabs(reference) + accumulation(n, epsilon, magnitude) +
         ((emulated ? 2 : 0) * f32_epsilon + running) * magnitude + f32_smallest;
}

/// Full-precision attention against the oracle, end to end: every P carries the relative error of e_relative twice (once
/// through l) for the row's largest score magnitude M = max sum |q||k| c, and the depth of exp is at most 2M; then the sum
/// over keys; gates add a sigmoid (2 roundings) and a product.
inline double attention_f32(double reference, double magnitude, double keys, double d, double score_magnitude) {
  const double s = score(d, f32_epsilon, score_magnitude, score_magnitude, false);
  const double p = 2 * e_relative(s, s, 2 * score_magnitude) + accumulation(keys, f32_epsilon, 1);
  return 6 * f32_epsilon * std::fabs(reference) + (p + 4 * f32_epsilon) * magnitude +
         accumulation(keys, f32_epsilon, magnitude) + f32_smallest;
}

/// How many of independent events of small probability may happen when `expected` are: four deviations of a Poisson
/// variable, and one event where none was expected.
inline double at_most(double expected) { return 1 + expected + 4 * std::sqrt(expected); }

/// What a planted fault changes a scale by: the smallest that must be seen.
inline constexpr double fault = 1.01;

/// Real against emulated, per head (numerics: gain within 1e-3 of 1).
inline constexpr double gain_real_emulated = 1e-3;

/// A number stored in bf16 is off by at most 2^-9 of itself, evenly.
inline constexpr double bf16_rounding_rms = 0x1p-9 / 1.7320508;

/// Root mean square of what an accumulator leaves in a sum of n terms of random sign: a rounding a step, of partial sums as
/// large as sqrt(sum t^2) or as the result itself. FP8's 14 bits are promoted to f32 every 128 terms.
inline double accumulation_rms(double n, double epsilon, double size, double result) {
  const double steps = epsilon == 0x1p-13 ? std::fmin(n, 128) : n;
  return epsilon * std::sqrt(steps) * std::fmax(size, std::fabs(result));
}

/// Gain of numbers that one scale makes, <found, exact> / <exact, exact>, judged where single elements can't show 1 %: many
/// of them can. It may miss 1 by what a kernel may add to the format (1e-3: cutting toward zero is of one sign) and by four
/// deviations of independent errors r of the elements: sqrt(sum exact^2 r^2) / sum exact^2.
struct Gain {
  double dot = 0, square = 0, noise = 0;
  void add(double found, double exact, double r) {
    dot += found * exact;
    square += exact * exact;
    noise += exact * exact * r * r;
  }
  double tolerance() const { return gain_real_emulated + 4 * std::sqrt(noise) / square; }
  /// Over the tolerance; exact numbers that are all 0 say nothing.
  double excess() const { return square == 0 ? 0 : std::fabs(dot / square - 1) / tolerance(); }
  /// Whether a fault of 1 % must be seen: twice the tolerance is less. Else sums have cancelled to where the accumulator's
  /// own error is of that size; in f32 that never happens.
  bool resolves() const { return square > 0 && 2 * tolerance() < 0.01; }
};

/// KL(p||q) of rows whose logarithms differ by at most d: sum p (e^x - 1 - x), |x| <= d < 1, is at most d^2 (e - 2).
inline double kl_of_log_error(double d) { return d * d; }

/// Perplexity of the built-in models against double precision.
inline constexpr double perplexity_relative = 1e-5;
/// NLL of one token against double precision.
inline constexpr double token_nll_absolute = 2e-5;

/// Sink rates and drain ratios of the known models over 16 windows, which are given to two or three digits.
inline constexpr double sink_rate_absolute = 0.02;

/// One output of a linear: the sum over K, then f32(sum), the scale product, times it, bias: 4 roundings. Emulated operands
/// are rounded once each.
inline double linear(double magnitude, double result, double k, double epsilon, bool emulated) {
  return accumulation(k, epsilon, magnitude) + (emulated ? 6 : 4) * f32_epsilon * (magnitude + std::fabs(result)) +
         f32_smallest;
}

/// One number of a normalized row: mean and variance are sums of n terms, the mean's error being relative to the largest
/// |x| of the row (what a large common offset costs); then x - mean, times 1/sigma, times gamma (factor = |gamma|/sigma),
/// plus beta: 4 roundings, and one for 1/sigma itself.
inline double norm(double size, double factor, double n, double result) {
  return (accumulation(n, f32_epsilon, 1) + 5 * f32_epsilon) * (factor * size + std::fabs(result)) + f32_smallest;
}

/// f(x) = x g(x) with 0 <= g <= 1 from one exp, erf or tanh: g near 0 is a difference from 1 of a rounded number, so its
/// error is absolute: 4 roundings and exp's error, of |x|.
inline double activation(double x, double result) {
  return (exp_relative + 4 * f32_epsilon) * (std::fabs(x) + std::fabs(result)) + f32_smallest;
}

/// a cos - b sin: cosines rounded to f32 (their angles are formed in double), two products, a sum, all of |a| + |b|.
inline double rotation(double magnitude) { return 4 * f32_epsilon * magnitude + f32_smallest; }

/// Two f32 accumulations of the same K zero-mean products in different orders: each leaves about sqrt(K) eps of the result,
/// their difference at most twice that; squared.
inline double accumulation_nmse(double k) { return 4 * k * f32_epsilon * f32_epsilon; }
/// The same against a sum in double, for any accumulator: bf16's cutting loses up to an epsilon of the partial sum at each
/// of K / 16 steps; FP8's 14 bits are promoted every 128 of K.
inline double accumulation_nmse(double epsilon, double k) {
  if (epsilon <= f32_epsilon) return 1e-12;
  const double relative = epsilon == 0x1p-23 ? k / 16 * epsilon : 2 * epsilon;
  return 1e-12 + relative * relative;
}

/// Attention on two backends: at most 0.2 % of the P codes differ, by one step, and a step is 3/16 of an E5M2 code on
/// average (less in the other formats): 0.002 * (3/16)^2 = 7e-5.
inline constexpr double prob_codes_nmse = 1e-4;

/// The same share of codes as a distance of histograms over the nonzero ones, of which a head that attends to one key in ten
/// has a tenth: 0.02.
inline constexpr double prob_codes_moved = 0.02;

/// x against dequantize(quantize(x)), normal data. FP8: the error of a code is at most half a step, 2^-(m+1) of its number.
/// INT8: at most half a step of absmax/127 (affine: of the range/255), with absmax below 6 standard deviations.
inline double quantization_nmse(quant::Format format) {
  if (format == quant::Format::e4m3) return 0x1p-8;
  if (format == quant::Format::e5m2) return 0x1p-6;
  return (6.0 / 254) * (6.0 / 254);
}

/// Normed hidden states and logits of size 1 behind two f32 layers of width 384 in two libraries: a linear's sums differ by
/// about sqrt(384) eps = 2e-6 of their terms, and six of them, each passed on by a norm, stay below ten times that.
inline constexpr double two_layers_f32 = 2e-5;

}  // namespace qfid::tests
