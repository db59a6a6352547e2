// Linear: dst[b,t,o] = sum_i src[b,t,i] * W[o,i] + bias[o].  W is [out, in], row-major, as checkpoints store it.
// Quantized (docs/numerics.md): codes of src by the activation scheme, codes of W by the weight scheme, packed once;
// INT8 products accumulate in s32, FP8 and bf16 in f32; then scales, then bias, in f32:
//   INT8:  dst = f32(s32 - z_x * colsum) * (s_x * s_w) + bias     (scale product in f32, one multiplication)
// group and block schemes sum the scaled partial products of each K-granule in f32, in ascending order.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "quant/quantize.h"

namespace qfid::kernels {

/// real: the products run in the format. emulated: codes dequantized to f32, products in f32 (the damage of the format
/// alone; reference and cpu backends). library: the library's own where real differs: cpu: oneDNN's FP8 matmul, a named
/// oracle (linears, small shapes); gpu: attention by cuBLASLt's products instead of the fused kernel.
enum class ExecutionMode : std::uint8_t { real, emulated, library };
std::string_view to_string(ExecutionMode mode);

struct LinearProblem {
  std::int64_t in = 0, out = 0;
  quant::QuantScheme weights, activations;
  ExecutionMode mode = ExecutionMode::real;
  bool fast_accum = false;        ///< FP8 products on a GPU: fewer accumulator bits, faster; elsewhere it changes nothing
  std::string to_string() const;  ///< "linear in=128 out=512 weights=int8/channel/absmax/dynamic activations=..."
};

struct LinearWeights {
  quant::View<const float> weight;                ///< [out, in]
  quant::View<const float> bias;                  ///< [out], or empty
  std::vector<quant::Range> activation_ranges{};  ///< for a static activation scheme (not fixed)
};

/// Packed weights of one linear on one backend.
class PreparedLinear {
 public:
  virtual ~PreparedLinear() = default;
  virtual const LinearProblem& problem() const = 0;
  /// Names of the implementations that really ran so far, e.g. "brg_matmul:avx512_core_vnni"; "+"-joined when several.
  virtual std::string implementation() const = 0;
};

/// Operand formats must pair up: both integer, or both of {f32, bf16, fp8} (numerics: mixed pairs are products in f32).
/// Error{usage} naming the field otherwise. Called by every backend's supports().
void validate(const LinearProblem& problem);

}  // namespace qfid::kernels
