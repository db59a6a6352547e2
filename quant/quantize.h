// Ranges -> scales -> codes, for any scheme, over a tensor seen as [window, token, head, channel].
#pragma once

#include <span>
#include <vector>

#include "quant/codec.h"
#include "quant/core/tensor.h"
#include "quant/scheme.h"

namespace qfid::quant {

/// What a granule's numbers span. Symmetric formats use max(|min|, |max|) = absmax; affine uses [min, max] widened to hold
/// 0.
struct Range {
  float min = 0, max = 0;
  float absmax() const { return max > -min ? max : -min; }
  friend bool operator==(const Range&, const Range&) = default;
};

/// Scale and zero point of one granule by the scheme's rule. Scale is f32, at least FLT_MIN, 1 for an all-zero granule.
struct ScaleZero {
  float scale = 1;
  std::int32_t zero_point = 0;
};
ScaleZero scale_for(const Range& range, const QuantScheme& scheme);

struct QuantizedTensor {
  QuantScheme scheme;
  Tensor codes;        ///< dtype storage(scheme.format), the source's shape
  Tensor scales;       ///< f32, Granules::scale_shape; empty for f32 and bf16
  Tensor zero_points;  ///< i32, same shape; empty unless affine
  CodeCounts counts;
};

/// Ranges of every granule of x (4-D f32), by the scheme's range rule; non-finite values are ignored by the range and
/// counted by the cast. Order: row-major over scale_shape.
std::vector<Range> ranges(View<const float> x, const QuantScheme& scheme, Role role);

/// Scales (and zero points) only: what a fast backend needs before its own fused cast.
/// static_ranges: one Range per granule of the scheme's static scale_shape, required exactly when timing is static_ and
/// range isn't fixed. Error{internal} on a size mismatch.
void scales(View<const float> x, const QuantScheme& scheme, Role role, std::span<const Range> static_ranges,
            View<float> scale, View<std::int32_t> zero_point /* may be empty */);

QuantizedTensor quantize(View<const float> x, const QuantScheme& scheme, Role role,
                         std::span<const Range> static_ranges = {});

/// As quantize, into memory the caller owns: codes (storage dtype, x.size() elements), scale and zero_point (scale_shape
/// elements each; zero_point only when affine). Returns the counts.
CodeCounts quantize_into(View<const float> x, const QuantScheme& scheme, Role role, std::span<const Range> static_ranges,
                         std::byte* codes, View<float> scale, View<std::int32_t> zero_point);

/// codes -> f32: (code - z) * scale, one f32 rounding.
void dequantize(const QuantizedTensor& x, Role role, View<float> dst);

}  // namespace qfid::quant
