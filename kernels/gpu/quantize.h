// Ranges, scales and casts on the device: what quant/quantize.h does on the host, with the same scales and codes.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "kernels/gpu/context.h"
#include "kernels/gpu/gemm.h"
#include "quant/quantize.h"

namespace qfid::kernels::gpu {

/// Scales of [B, T, H, D]: of element (b, t, h, d) at b * per_window + ((t / s1) * c2 + h / s2) * c3 + d / s3.
struct ScaleView {
  const float* scale = nullptr;  ///< null = 1
  const std::int32_t* zero = nullptr;
  std::int64_t per_window = 0;  ///< 0: one set for all windows
  std::int64_t s1 = 1, s2 = 1, s3 = 1, c2 = 1, c3 = 1;
};

/// Where a cast puts element (b, t, h, d) and how far its zero padding goes.
struct CodeLayout {
  std::int64_t b = 0, t = 0, h = 0;      ///< strides; d has 1 (or t has, when transposed: then d has `h_d`)
  std::int64_t tokens = 0, columns = 0;  ///< padded extents of t and d
  std::int64_t swizzle = 0;              ///< 64 or 128: rows of so many one-byte codes, 16-byte pieces swizzled (casts.cuh)
};

/// One operand: f32 [B, T, H, D].
struct Source {
  const float* x;
  std::int64_t B, T, H, D;
};

/// Sizes that cast_rows, cast_transposed share. codes of uint8 are stored less 128 when `shifted` (cuBLASLt has no u8).
struct CastJob {
  Source src;
  quant::QuantScheme scheme;
  Number number;  ///< how codes are stored: their own bits (s8, e4m3, e5m2, bf16, f32), or expanded to bf16 or f32
  bool shifted = false;
  ScaleView scales;
  std::uint64_t* tally = nullptr;  ///< saturated, flushed, nan; null = not counted
};

/// dst[(b, h, t) or (b, t, h), columns]: rows of `columns` >= D numbers, zero beyond D and beyond T.
void cast_rows(const CastJob& job, void* dst, const CodeLayout& layout, cudaStream_t stream);
/// As cast_rows where a token's row (all of D, one head) is one granule: finds its range, writes scale and zero_point
/// (job.scales), and casts, in one pass.
void cast_token_rows(const CastJob& job, void* dst, const CodeLayout& layout, cudaStream_t stream);
/// dst[b, h, columns >= D, tokens]: V as P.V wants it. Token t lies at t / block * block_stride + t % block. What no
/// number falls on is zero.
void cast_transposed(const CastJob& job, void* dst, std::int64_t columns, std::int64_t tokens, std::int64_t block,
                     std::int64_t block_stride, Context& context);

/// dst[b, h, T / 128 (rounded up), D, 128]: V as the fused kernel wants it, one byte a code, D = 64 or 128 >= the source's
/// D, zero beyond both extents; keys of a row at fused_position(), rows swizzled (casts.cuh).
void cast_value_tiles(const CastJob& job, void* dst, int D, cudaStream_t stream);

/// Absmax ranges of every granule, then scales by the scheme's rule into job.scales (whose pointers are written through).
void dynamic_scales(const CastJob& job, const quant::Granules& granules, Context& context);

/// x[b, t, h, d] = decode(code) * scale; codes dense [B, T, H, D] in the scheme's storage.
void dequantize_rows(const CastJob& job, const void* codes, float* dst, cudaStream_t stream);

/// An operand's codes and scales on the device.
struct Operand {
  quant::QuantScheme scheme;
  std::shared_ptr<void> codes;
  std::shared_ptr<float> scale;
  std::shared_ptr<std::int32_t> zero;
  ScaleView scales;
  std::shared_ptr<std::uint64_t> tally;
  std::int64_t elements = 0;
};

/// Whether ranges of this scheme are found on the device; percentile and mse are found on the host (a copy there and back).
bool ranges_on_device(const quant::QuantScheme& scheme);

/// Finds scales (dynamic or static) without casting, except for the one-pass token case, whose scales cast_token_rows
/// writes; then the caller casts with cast().
/// tally: three zeros that the casts add to, or null.
Operand scaled_operand(Context& context, const Source& src, const quant::QuantScheme& scheme,
                       const std::vector<quant::Range>& ranges, std::shared_ptr<std::uint64_t> tally);
CastJob job_of(const Operand& operand, const Source& src, Number number, bool shifted);
/// cast_token_rows or cast_rows, as the scheme allows.
void cast(const Operand& operand, const CastJob& job, void* dst, const CodeLayout& layout, Context& context);

/// What a cast of so many numbers counted; `tally` is a copy on the host.
quant::CodeCounts counts_of(std::int64_t elements, const std::uint64_t* tally);

}  // namespace qfid::kernels::gpu
