#include "kernels/linear.h"

#include <array>

#include "kernels/s32_sums.h"

namespace qfid::kernels {

using quant::Error;
using quant::ErrorKind;
using quant::Format;
using quant::GranularityKind;

std::string_view to_string(ExecutionMode mode) {
  constexpr std::array<std::string_view, 3> names{"real", "emulated", "library"};
  return names[static_cast<std::size_t>(mode)];
}

std::string LinearProblem::to_string() const {
  return "linear in=" + std::to_string(in) + " out=" + std::to_string(out) + " weights=" + quant::to_string(weights) +
         " activations=" + quant::to_string(activations) + " mode=" + std::string(kernels::to_string(mode)) +
         (fast_accum ? " fast_accum" : "");
}

void validate(const LinearProblem& p) {
  const auto fail = [](const std::string& what) { throw Error(ErrorKind::usage, what); };
  if (p.in < 1 || p.out < 1) fail("linear: in and out must be at least 1");
  const bool paired = p.mode != ExecutionMode::emulated;  // dequantized operands multiply whatever their formats were
  if (paired && quant::is_integer(p.weights.format) != quant::is_integer(p.activations.format))
    fail("linear: weights " + std::string(quant::to_string(p.weights.format)) + " and activations " +
         std::string(quant::to_string(p.activations.format)) +
         " don't pair: both integer, or both from f32, bf16, e4m3, e5m2");
  if (paired && quant::is_integer(p.weights.format) && p.in > s32_products(p.activations.format))
    fail("linear: s32 sums of " + std::string(quant::to_string(p.activations.format)) +
         " activations by int8 weights over " + std::to_string(p.in) + " inputs may overflow, at most " +
         std::to_string(s32_products(p.activations.format)) + " are exact");
  if (p.weights.format == Format::uint8) fail("linear: weights must be int8 where they are integers (symmetric)");
  if (p.weights.timing == quant::Timing::static_) fail("linear: weights are known beforehand, leave out static");
  const GranularityKind w = p.weights.granularity.kind, a = p.activations.granularity.kind;
  if (quant::is_scaled(p.weights.format) && (w == GranularityKind::token || w == GranularityKind::head))
    fail("linear: weights take granularity tensor, channel, group(n) or block(mxn)");
  if (quant::is_scaled(p.activations.format) &&
      (a == GranularityKind::head || a == GranularityKind::channel || a == GranularityKind::block))
    fail("linear: activations take granularity tensor, token or group(n)");
  if (p.activations.timing == quant::Timing::static_ && a != GranularityKind::tensor)
    fail("linear: static activations take granularity tensor");
}

}  // namespace qfid::kernels
