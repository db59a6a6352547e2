// Quantization element by element, from docs/numerics.md alone: which granule an element belongs to, that granule's range,
// scale and zero point, the element's code. Nothing of quant/quantize.cc is used.
#pragma once

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <map>
#include <vector>

#include "quant/quantize.h"
#include "tests/support/slow_codec.h"

namespace qfid::tests {

struct SlowQuantized {
  std::array<std::int64_t, 4> scale_shape{1, 1, 1, 1};
  std::vector<std::int64_t> granule;  ///< of each element, numbered row-major over scale_shape
  std::vector<quant::Range> ranges;
  std::vector<quant::ScaleZero> scales;
  std::vector<int> codes;  ///< FP8: the bits
  std::vector<float> back;
  quant::CodeCounts counts;
};

inline std::array<std::int64_t, 4> slow_granule(const quant::QuantScheme& s, quant::Role role,
                                                std::array<std::int64_t, 4> at) {
  using Kind = quant::GranularityKind;
  const auto [b, t, h, d] = at;
  const bool weight = role == quant::Role::weight;
  const std::int64_t window = s.timing == quant::Timing::static_ && !weight ? 0 : b;
  switch (s.granularity.kind) {
    case Kind::tensor:
      return {window, 0, 0, 0};
    case Kind::head:
      return {window, 0, h, 0};
    case Kind::channel:
      return weight ? std::array<std::int64_t, 4>{b, t, 0, 0} : std::array<std::int64_t, 4>{window, 0, h, d};
    case Kind::token:
      return {b, t, h, 0};
    case Kind::group:
      return {b, t, h, d / s.granularity.m};
    case Kind::block:
      return {b, t / s.granularity.m, h, s.granularity.n > 0 ? d / s.granularity.n : 0};
  }
  return {};
}

inline quant::ScaleZero slow_scale(const quant::Range& range, const quant::QuantScheme& s) {
  using quant::ScaleRule;
  float top = std::max(std::fabs(range.min), std::fabs(range.max));
  if (s.affine) {
    const float low = std::min(0.0F, range.min), high = std::max(0.0F, range.max);
    if (low == high) return {1, 0};
    const float scale = std::max((high - low) / 255.0F, FLT_MIN);
    return {scale, static_cast<std::int32_t>(std::min(255.0F, std::max(0.0F, std::nearbyint(-low / scale))))};
  }
  if (s.format == quant::Format::uint8) top = std::max(range.max, 0.0F);
  if (s.rule == ScaleRule::smoothquant && top < 1e-5F) top = 1e-5F;
  if (top == 0) return {1, 0};
  switch (s.format) {
    case quant::Format::int8:
      return {std::max(FLT_MIN, s.rule == ScaleRule::compressed_tensors ? 2 * top / 255 : top / 127), 0};
    case quant::Format::uint8:
      return {std::max(FLT_MIN, top / 255), 0};
    case quant::Format::e4m3:
      return {std::max(FLT_MIN, top / 448), 0};
    default:
      return {std::max(FLT_MIN, top / 57344), 0};
  }
}

/// The code of x, what it is worth, and what the cast counts.
struct SlowCode {
  int code;
  float value;
  bool saturated = false, flushed = false, nan = false;
};

inline SlowCode slow_code(float x, const quant::ScaleZero& sz, const quant::QuantScheme& s) {
  const float q = x / sz.scale;
  if (quant::is_fp8(s.format)) {
    const Table& table = s.format == quant::Format::e4m3 ? e4m3_table : e5m2_table;
    if (std::isnan(q)) return {0x7F, NAN, false, false, true};
    const std::uint32_t free = slow_encode(q, table, false),
                        code = slow_encode(q, table, s.overflow == quant::Overflow::satfinite);
    const std::size_t magnitude = code & 0x7FU;
    const float value = magnitude < table.value.size() ? static_cast<float>(table.value[magnitude])
                        : table.beyond_nosat == 0x7CU  ? INFINITY
                                                       : NAN;
    return {static_cast<int>(code), (code >= 0x80U ? -value : value) * sz.scale, (free & 0x7FU) >= table.value.size(),
            x != 0 && magnitude == 0};
  }
  int low = -127, high = 127;
  if (s.rule == quant::ScaleRule::compressed_tensors || s.rule == quant::ScaleRule::onnx) low = -128;
  if (s.format == quant::Format::uint8) low = -sz.zero_point, high = 255 - sz.zero_point;
  const double rounded = std::isnan(x) ? 0 : std::nearbyint(static_cast<double>(q));
  const double clamped = std::min<double>(high, std::max<double>(low, rounded));
  return {static_cast<int>(clamped) + sz.zero_point, static_cast<float>(clamped) * sz.scale, clamped != rounded,
          x != 0 && !std::isnan(x) && clamped == 0, std::isnan(x)};
}

inline quant::Range slow_clip(const quant::Range& full, float limit) {
  return {std::max(full.min, -limit), std::min(full.max, limit)};
}

/// `values`: the granule's finite numbers, in order.
inline quant::Range slow_range(const std::vector<float>& values, const quant::QuantScheme& s) {
  quant::Range full{0, 0};
  for (const float v : values) full = {std::min(full.min, v), std::max(full.max, v)};
  if (s.range.kind == quant::RangeKind::fixed)
    return {-static_cast<float>(s.range.value), static_cast<float>(s.range.value)};
  if (s.range.kind == quant::RangeKind::percentile) {  // numpy.percentile of the magnitudes, linear
    if (values.empty()) return full;
    std::vector<double> sorted;
    for (const float v : values) sorted.push_back(std::fabs(static_cast<double>(v)));
    std::sort(sorted.begin(), sorted.end());
    const double place = s.range.value / 100 * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(std::floor(place));
    const double next = sorted[std::min(below + 1, sorted.size() - 1)];
    return slow_clip(full, static_cast<float>(sorted[below] + (place - std::floor(place)) * (next - sorted[below])));
  }
  if (s.range.kind == quant::RangeKind::absmax) return full;
  quant::Range best{};
  double least = INFINITY;
  const float top = std::max(std::fabs(full.min), std::fabs(full.max));
  for (int i = 1; i <= 100; ++i) {  // ties to the larger i
    const quant::Range range = slow_clip(full, top * static_cast<float>(i) / 100.0F);
    const quant::ScaleZero sz = slow_scale(range, s);
    double error = 0;
    for (const float v : values)
      error += std::pow(static_cast<double>(slow_code(v, sz, s).value) - static_cast<double>(v), 2);
    if (error <= least) best = range, least = error;
  }
  return best;
}

/// x: [window, token, head, channel]. static_ranges: used where the scheme is static and activations are quantized.
inline SlowQuantized slow_quantize(quant::View<const float> x, const quant::QuantScheme& s, quant::Role role,
                                   const std::vector<quant::Range>& static_ranges = {}) {
  std::map<std::array<std::int64_t, 4>, std::vector<float>> finite;
  std::vector<std::array<std::int64_t, 4>> keys;
  const quant::Shape& n = x.shape();
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::array<std::int64_t, 4> at{i / (n[1] * n[2] * n[3]), i / (n[2] * n[3]) % n[1], i / n[3] % n[2], i % n[3]};
    keys.push_back(slow_granule(s, role, at));
    std::vector<float>& values = finite[keys.back()];
    if (std::isfinite(x[i])) values.push_back(x[i]);
  }
  SlowQuantized result;
  std::map<std::array<std::int64_t, 4>, std::int64_t> number;
  for (const auto& [key, values] : finite) {  // keys in order are row-major
    number[key] = static_cast<std::int64_t>(result.ranges.size());
    result.ranges.push_back(static_ranges.empty() ? slow_range(values, s) : static_ranges[result.ranges.size()]);
    result.scales.push_back(slow_scale(result.ranges.back(), s));
    for (std::size_t i = 0; i < 4; ++i) result.scale_shape[i] = std::max(result.scale_shape[i], key[i] + 1);
  }
  for (std::int64_t i = 0; i < x.size(); ++i) {
    result.granule.push_back(number[keys[static_cast<std::size_t>(i)]]);
    const SlowCode code = slow_code(x[i], result.scales[static_cast<std::size_t>(result.granule.back())], s);
    result.codes.push_back(code.code);
    result.back.push_back(code.value);
    result.counts += {1, code.saturated ? 1 : 0, code.flushed ? 1 : 0, code.nan ? 1 : 0};
  }
  return result;
}

}  // namespace qfid::tests
