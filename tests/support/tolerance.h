// Every tolerance of the tests, with its reason. Comparisons are written !(difference <= tolerance), so that NaN fails.
#pragma once

#include <cmath>
#include <string_view>

#include "quant/scheme.h"

namespace qfid::tests {

/// Machine epsilon of f32 accumulation.
inline constexpr double f32_epsilon = 0x1p-24;

/// Attention output against the oracle fed with the same operands:
/// |o - o_ref| <= eps |o_ref| + a sqrt(keys) eps_acc sum_j |p_j||v_j|.
/// The probabilities carry the error of the scores (a dot product of d terms, then exp, whose relative error is the absolute
/// error of the score) on top of PV's own accumulation; a = 8 covers both with scores up to about 8 in magnitude, and stays
/// three orders below a 1 % fault.
inline double attention_f32(double reference, double magnitude, double keys, double largest_score) {
  return 4 * f32_epsilon * std::fabs(reference) + 8 * (1 + largest_score) * std::sqrt(keys) * f32_epsilon * magnitude +
         1e-12;
}

/// Real against emulated, per head (numerics: gain within 1e-3 of 1).
inline constexpr double gain_real_emulated = 1e-3;

/// Perplexity of the built-in models against double precision.
inline constexpr double perplexity_relative = 1e-5;
/// NLL of one token against double precision.
inline constexpr double token_nll_absolute = 2e-5;

/// Sink rates and drain ratios of the known models over 16 windows, which are given to two or three digits.
inline constexpr double sink_rate_absolute = 0.02;

/// f32 linears: sqrt(K) random-walk of K roundings, a = 8, against sum |x||w|.
inline double linear_f32(double magnitude, double k) { return 8 * std::sqrt(k) * f32_epsilon * magnitude + 1e-12; }

/// Relative error that one step of a product's accumulator may leave. Tensor cores sum FP8 products aligned to their
/// largest, keeping about 14 bits between promotions to f32; bf16 products in f32 that is cut, not rounded, once for every 16
/// of K; everything else rounds f32.
inline double accumulator_epsilon(std::string_view backend, std::string_view format) {
  if (backend != "gpu") return f32_epsilon;
  return format == "e4m3" ? 0x1p-13 : format == "bf16" || format == "e5m2" ? 0x1p-23 : f32_epsilon;
}
/// Gain and NMSE against an accumulation in double. Rounding errors of either sign average out; cutting loses up to an
/// epsilon of the partial sum, half the result on average, at each of K / 16 steps. FP8's 14 bits are promoted every 128 of
/// K: four steps.
inline double accumulation_gain(double epsilon, double k) {
  if (epsilon == f32_epsilon) return 1e-6;
  return epsilon == 0x1p-23 ? 1e-6 + k / 16 * epsilon / 2 : 4 * epsilon;
}
inline double accumulation_nmse(double epsilon, double k) {
  if (epsilon == f32_epsilon) return 1e-12;
  const double relative = epsilon == 0x1p-23 ? k / 16 * epsilon : 2 * epsilon;
  return 1e-12 + relative * relative;
}

/// Share of P codes that may differ by one step. 0.2 % where scores are off by an f32 rounding or an exp by 2 ulp. Where the
/// accumulator keeps 14 bits, a score is off by up to 2^-13 sum |q||k| c, about 2.5 * 2^-13 at head size 16 = 3e-4; a step of
/// E4M3 is 1/16 to 1/8 of its number, so that 3e-4 / 0.088 = 0.35 % of codes cross a boundary, three times that with outliers.
inline double prob_codes_share(double epsilon) { return epsilon > 0x1p-20 ? 0.01 : 0.002; }

/// Two f32 accumulations of the same K zero-mean products in different orders: each leaves about sqrt(K) eps of the result,
/// their difference at most twice that; squared.
inline double accumulation_nmse(double k) { return 4 * k * f32_epsilon * f32_epsilon; }

/// Attention on two backends: at most 0.2 % of the P codes differ, by one step, and a step is 3/16 of an E5M2 code on
/// average (less in the other formats): 0.002 * (3/16)^2 = 7e-5.
inline constexpr double prob_codes_nmse = 1e-4;

/// x against dequantize(quantize(x)), normal data. FP8: the error of a code is at most half a step, 2^-(m+1) of its number.
/// INT8: at most half a step of absmax/127 (affine: of the range/255), with absmax below 6 standard deviations.
inline double quantization_nmse(quant::Format format) {
  if (format == quant::Format::e4m3) return 0x1p-8;
  if (format == quant::Format::e5m2) return 0x1p-6;
  return (6.0 / 254) * (6.0 / 254);
}

}  // namespace qfid::tests
