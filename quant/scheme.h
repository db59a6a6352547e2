// QuantScheme: how a tensor becomes codes. Orthogonal fields, one canonical spelling, used in YAML, on the command line,
// in test names and in records: FORMAT/GRANULARITY/RANGE/TIMING[/affine][/RULE][/nosat], e.g.
// "int8/token/absmax/dynamic". Short forms are read with defaults (tensor, absmax, dynamic): "int8", "int8/token".
// The floating formats that take no scale are one word: "f32", "bf16".  parse_scheme(to_string(s)) == s.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "quant/core/dtype.h"
#include "quant/core/shape.h"

namespace qfid::quant {

enum class Format : std::uint8_t { f32, bf16, int8, uint8, e4m3, e5m2 };
constexpr bool is_integer(Format f) { return f == Format::int8 || f == Format::uint8; }
constexpr bool is_fp8(Format f) { return f == Format::e4m3 || f == Format::e5m2; }
constexpr bool is_scaled(Format f) { return is_integer(f) || is_fp8(f); }
constexpr DType storage(Format f) {
  constexpr std::array types{DType::f32, DType::bf16, DType::i8, DType::u8, DType::e4m3, DType::e5m2};
  return types[static_cast<std::size_t>(f)];
}
std::string_view to_string(Format format);

enum class GranularityKind : std::uint8_t { tensor, head, channel, token, group, block };

/// group(n): n consecutive channels of one token. block(m): m tokens, all channels (m x 0). block(mxn): m tokens by n.
struct Granularity {
  GranularityKind kind = GranularityKind::tensor;
  std::int64_t m = 0;  ///< group size, or block rows
  std::int64_t n = 0;  ///< block columns; 0 = all
  friend bool operator==(const Granularity&, const Granularity&) = default;
};

enum class RangeKind : std::uint8_t { absmax, percentile, mse, fixed };
/// absmax; percentile(p), 0 < p <= 100, of |x|, linear interpolation at p/100*(n-1); mse: best of absmax*i/100, i = 1..100,
/// ties to the larger i; fixed(r), r > 0.
struct RangeRule {
  RangeKind kind = RangeKind::absmax;
  double value = 0;  ///< p or r
  friend bool operator==(const RangeRule&, const RangeRule&) = default;
};

enum class Timing : std::uint8_t { dynamic, static_ };

/// Scale rules of other producers (numerics.md in docs/): where they differ from ours, by their names.
enum class ScaleRule : std::uint8_t { standard, compressed_tensors, onnx, smoothquant };

enum class Overflow : std::uint8_t { satfinite, nosat };

struct QuantScheme {
  Format format = Format::f32;
  Granularity granularity{};
  RangeRule range{};
  Timing timing = Timing::dynamic;
  bool affine = false;  ///< uint8 only: a zero point; otherwise symmetric (int8, fp8) or unsigned (uint8, z = 0)
  ScaleRule rule = ScaleRule::standard;
  Overflow overflow = Overflow::satfinite;  ///< fp8 only
  friend bool operator==(const QuantScheme&, const QuantScheme&) = default;
};

std::string to_string(const QuantScheme& scheme);
/// Throws Error{usage} naming the part that is wrong, what was expected, and the nearest valid word.
QuantScheme parse_scheme(std::string_view text);

/// What the first dimension of granules means. Every tensor is seen as [window, token, head, channel].
///  activation: linears' inputs [windows, tokens, 1, in]; attention operands [windows, tokens, heads, head_dim].
///  weight:     [1, out, 1, in]; "channel" is the output channel (a row), "token" is refused.
enum class Role : std::uint8_t { activation, weight };

/// The granules of a 4-D tensor: granule of (b,t,h,d) = (b/step[0], t/step[1], h/step[2], d/step[3]).
/// A dynamic tensor range is one window's, never the batch's, so that results don't depend on chunking; static scales
/// are one for all windows (step[0] = windows).
struct Granules {
  std::array<std::int64_t, 4> step;
  Shape scale_shape;  ///< 4-D: number of granules along each axis; a pure function of (shape, scheme, role)
};
/// Error{usage} when the scheme makes no sense for this role or shape.
Granules granules(const Shape& shape, const QuantScheme& scheme, Role role);

}  // namespace qfid::quant
