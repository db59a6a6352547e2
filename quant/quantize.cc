#include "quant/quantize.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "quant/core/dispatch.h"
#include "quant/core/prefetch.h"

namespace qfid::quant {

namespace {

/// Calls f(granule, offset, run) for each run of consecutive elements that share a granule, or, where each channel is its
/// own granule, once per row with f.row(first granule, offset, length).
template <class Row, class Run>
void walk(const Shape& shape, const Granules& g, const Row& row, const Run& run) {
  const std::int64_t D = shape[3];
  const Shape& count = g.scale_shape;
  std::int64_t offset = 0;
  for (std::int64_t b = 0; b < shape[0]; ++b)
    for (std::int64_t t = 0; t < shape[1]; ++t)
      for (std::int64_t h = 0; h < shape[2]; ++h, offset += D) {
        const std::int64_t first = (((b / g.step[0]) * count[1] + t / g.step[1]) * count[2] + h / g.step[2]) * count[3];
        if (g.step[3] == 1 && D > 1) {
          row(first, offset, D);
        } else {
          for (std::int64_t d = 0; d < D; d += g.step[3]) run(first + d / g.step[3], offset + d, std::min(g.step[3], D - d));
        }
      }
}

struct RowMinMax {
  __attribute__((always_inline)) void operator()(const float* __restrict x, float* __restrict lo, float* __restrict hi,
                                                 std::int64_t n) const {
    for (std::int64_t i = 0; i < n; ++i) {
      const float v = std::fabs(x[i]) <= FLT_MAX ? x[i] : 0.0F;
      lo[i] = v < lo[i] ? v : lo[i];
      hi[i] = v > hi[i] ? v : hi[i];
    }
  }
};

struct DivideRow {
  /// Returns how many numbers became 0.
  __attribute__((always_inline)) std::int32_t operator()(const float* __restrict x, const float* __restrict scale,
                                                         float* __restrict out, std::int32_t n) const {
    std::int32_t vanished = 0;
    for (std::int32_t i = 0; i < n; ++i) {
      out[i] = x[i] / scale[i];
      vanished += ((out[i] == 0.0F) & (x[i] != 0.0F)) ? 1 : 0;
    }
    return vanished;
  }
};

struct RunMinMax {
  __attribute__((always_inline)) Range operator()(const float* x, std::int64_t n) const {
    constexpr int lanes = 16;
    float lo[lanes] = {}, hi[lanes] = {};
    std::int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) {
        const float v = std::fabs(x[i + j]) <= FLT_MAX ? x[i + j] : 0.0F;
        lo[j] = v < lo[j] ? v : lo[j];
        hi[j] = v > hi[j] ? v : hi[j];
      }
    for (int j = 0; i < n; ++i, ++j) {
      const float v = std::fabs(x[i]) <= FLT_MAX ? x[i] : 0.0F;
      lo[j] = v < lo[j] ? v : lo[j];
      hi[j] = v > hi[j] ? v : hi[j];
    }
    for (int half = lanes / 2; half > 0; half /= 2)
      for (int j = 0; j < half; ++j) {
        lo[j] = lo[j + half] < lo[j] ? lo[j + half] : lo[j];
        hi[j] = hi[j + half] > hi[j] ? hi[j + half] : hi[j];
      }
    return {lo[0], hi[0]};
  }
};

/// Rows of n numbers, each a granule.
struct RowsMinMax {
  __attribute__((always_inline)) void operator()(const float* x, std::int64_t rows, std::int64_t n, Range* all) const {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < n; i += line_floats) prefetch(x + r * n + i, n);
      all[r] = RunMinMax{}(x + r * n, n);
    }
  }
};

std::vector<Range> extremes(View<const float> x, const Granules& g) {
  const auto n = static_cast<std::size_t>(g.scale_shape.elements());
  std::vector<Range> all(n);
  const std::int64_t D = x.shape()[3];
  if (g.step == std::array<std::int64_t, 4>{1, 1, 1, D} && D > 1) {
    dispatched(RowsMinMax{}, x.data(), g.scale_shape.elements(), D, all.data());
    return all;
  }
  std::vector<float> lo(n, 0.0F), hi(n, 0.0F);
  walk(
      x.shape(), g,
      [&](std::int64_t first, std::int64_t offset, std::int64_t length) {
        dispatched(RowMinMax{}, x.data() + offset, lo.data() + first, hi.data() + first, length);
      },
      [&](std::int64_t granule, std::int64_t offset, std::int64_t length) {
        const Range r = dispatched(RunMinMax{}, x.data() + offset, length);
        const auto i = static_cast<std::size_t>(granule);
        lo[i] = std::min(lo[i], r.min);
        hi[i] = std::max(hi[i], r.max);
      });
  for (std::size_t i = 0; i < n; ++i) all[i] = {lo[i], hi[i]};
  return all;
}

std::vector<std::vector<float>> gathered(View<const float> x, const Granules& g) {
  std::vector<std::vector<float>> values(static_cast<std::size_t>(g.scale_shape.elements()));
  const auto put = [&](std::int64_t granule, float v) {
    if (std::isfinite(v)) values[static_cast<std::size_t>(granule)].push_back(v);
  };
  walk(
      x.shape(), g,
      [&](std::int64_t first, std::int64_t offset, std::int64_t length) {
        for (std::int64_t i = 0; i < length; ++i) put(first + i, x[offset + i]);
      },
      [&](std::int64_t granule, std::int64_t offset, std::int64_t length) {
        for (std::int64_t i = 0; i < length; ++i) put(granule, x[offset + i]);
      });
  return values;
}

Range clipped(const Range& range, float limit) { return {std::max(range.min, -limit), std::min(range.max, limit)}; }

float percentile_of_magnitudes(std::vector<float>& values, double p) {
  if (values.empty()) return 0;
  for (float& v : values) v = std::fabs(v);
  const double position = p / 100 * static_cast<double>(values.size() - 1);
  const auto index = static_cast<std::ptrdiff_t>(position);
  std::nth_element(values.begin(), values.begin() + index, values.end());
  const double low = values[static_cast<std::size_t>(index)];
  if (index + 1 == static_cast<std::ptrdiff_t>(values.size())) return static_cast<float>(low);
  const double high = *std::min_element(values.begin() + index + 1, values.end());
  return static_cast<float>(low + (position - static_cast<double>(index)) * (high - low));
}

int lowest_int8(const QuantScheme& s) {
  return s.rule == ScaleRule::compressed_tensors || s.rule == ScaleRule::onnx ? -128 : -127;
}

/// Codes of `src` under one scale; returns nothing but the counts.
void cast_run(std::span<const float> src, const ScaleZero& sz, const QuantScheme& s, std::byte* dst, CodeCounts& counts) {
  const std::size_t n = src.size();
  switch (s.format) {
    case Format::int8:
      cast_to_int8(src, sz.scale, lowest_int8(s), {reinterpret_cast<std::int8_t*>(dst), n}, counts);
      break;
    case Format::uint8:
      cast_to_uint8(src, sz.scale, sz.zero_point, {reinterpret_cast<std::uint8_t*>(dst), n}, counts);
      break;
    case Format::e4m3:
      cast_to_e4m3(src, sz.scale, s.overflow, {reinterpret_cast<e4m3*>(dst), n}, counts);
      break;
    case Format::e5m2:
      cast_to_e5m2(src, sz.scale, s.overflow, {reinterpret_cast<e5m2*>(dst), n}, counts);
      break;
    case Format::bf16:
      cast_to_bf16(src, {reinterpret_cast<bf16*>(dst), n});
      break;
    case Format::f32:
      std::copy(src.begin(), src.end(), reinterpret_cast<float*>(dst));
      break;
  }
}

void expand_run(const std::byte* src, const ScaleZero& sz, Format format, std::span<float> dst) {
  const std::size_t n = dst.size();
  switch (format) {
    case Format::int8:
      for (std::size_t i = 0; i < n; ++i) dst[i] = static_cast<float>(reinterpret_cast<const std::int8_t*>(src)[i]);
      break;
    case Format::uint8:
      for (std::size_t i = 0; i < n; ++i)
        dst[i] = static_cast<float>(reinterpret_cast<const std::uint8_t*>(src)[i] - sz.zero_point);
      break;
    case Format::e4m3:
      expand({reinterpret_cast<const e4m3*>(src), n}, dst);
      break;
    case Format::e5m2:
      expand({reinterpret_cast<const e5m2*>(src), n}, dst);
      break;
    case Format::bf16:
      expand({reinterpret_cast<const bf16*>(src), n}, dst);
      return;
    case Format::f32:
      std::copy_n(reinterpret_cast<const float*>(src), n, dst.begin());
      return;
  }
  for (float& v : dst) v *= sz.scale;
}

/// Range absmax * i / 100 with the least squared error, ties to the larger i.
Range mse_range(const std::vector<float>& values, const Range& full, const QuantScheme& scheme) {
  std::vector<std::byte> codes(values.size() * 4);
  std::vector<float> back(values.size());
  Range best = full;
  double least = -1;
  for (int i = 100; i >= 1; --i) {
    const Range range = clipped(full, full.absmax() * static_cast<float>(i) / 100.0F);
    const ScaleZero sz = scale_for(range, scheme);
    CodeCounts ignored;
    cast_run(values, sz, scheme, codes.data(), ignored);
    expand_run(codes.data(), sz, scheme.format, back);
    double error = 0;
    for (std::size_t j = 0; j < values.size(); ++j) {
      const double e = static_cast<double>(back[j]) - static_cast<double>(values[j]);
      error += e * e;
    }
    if (least < 0 || error < least) {
      least = error;
      best = range;
    }
  }
  return best;
}

ScaleZero at(View<const float> scale, View<const std::int32_t> zero, std::int64_t i) {
  return {scale[i], zero.size() > 0 ? zero[i] : 0};
}

}  // namespace

ScaleZero scale_for(const Range& range, const QuantScheme& s) {
  ScaleZero result;
  if (!is_scaled(s.format)) return result;
  const auto floored = [](float scale) { return scale < FLT_MIN ? FLT_MIN : scale; };
  float absmax = range.absmax();
  if (s.rule == ScaleRule::smoothquant) absmax = std::max(absmax, 1e-5F);
  if (s.affine) {
    const float lo = std::min(range.min, 0.0F), hi = std::max(range.max, 0.0F);
    if (hi - lo == 0.0F) return result;
    result.scale = floored((hi - lo) / 255.0F);
    result.zero_point = static_cast<std::int32_t>(std::clamp(std::nearbyint(-lo / result.scale), 0.0F, 255.0F));
    return result;
  }
  if (s.format == Format::uint8) absmax = std::max(range.max, 0.0F);
  if (absmax == 0.0F) return result;
  switch (s.format) {
    case Format::int8:
      result.scale = s.rule == ScaleRule::compressed_tensors ? 2.0F * absmax / 255.0F : absmax / 127.0F;
      break;
    case Format::uint8:
      result.scale = absmax / 255.0F;
      break;
    case Format::e4m3:
      result.scale = absmax / 448.0F;
      break;
    case Format::e5m2:
      result.scale = absmax / 57344.0F;
      break;
    default:
      break;
  }
  result.scale = floored(result.scale);
  return result;
}

std::vector<Range> ranges(View<const float> x, const QuantScheme& scheme, Role role) {
  const Granules g = granules(x.shape(), scheme, role);
  if (scheme.range.kind == RangeKind::fixed) {
    const auto r = static_cast<float>(scheme.range.value);
    return std::vector<Range>(static_cast<std::size_t>(g.scale_shape.elements()), Range{-r, r});
  }
  std::vector<Range> all = extremes(x, g);
  if (scheme.range.kind == RangeKind::absmax) return all;
  std::vector<std::vector<float>> values = gathered(x, g);
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i] = scheme.range.kind == RangeKind::percentile
                 ? clipped(all[i], percentile_of_magnitudes(values[i], scheme.range.value))
                 : mse_range(values[i], all[i], scheme);
  return all;
}

void scales(View<const float> x, const QuantScheme& scheme, Role role, std::span<const Range> static_ranges,
            View<float> scale, View<std::int32_t> zero_point) {
  const bool needs_static =
      scheme.timing == Timing::static_ && role == Role::activation && scheme.range.kind != RangeKind::fixed;
  std::vector<Range> own;
  if (!needs_static) {
    own = ranges(x, scheme, role);
    static_ranges = own;
  }
  require(static_ranges.size() == static_cast<std::size_t>(scale.size()), "scales: " + std::to_string(static_ranges.size()) +
                                                                              " ranges for " + std::to_string(scale.size()) +
                                                                              " granules of " + to_string(scheme));
  for (std::int64_t i = 0; i < scale.size(); ++i) {
    const ScaleZero sz = scale_for(static_ranges[static_cast<std::size_t>(i)], scheme);
    scale[i] = sz.scale;
    if (zero_point.size() > 0) zero_point[i] = sz.zero_point;
  }
}

CodeCounts quantize_into(View<const float> x, const QuantScheme& scheme, Role role, std::span<const Range> static_ranges,
                         std::byte* codes, View<float> scale, View<std::int32_t> zero) {
  CodeCounts counts;
  const std::size_t width = info(storage(scheme.format)).bytes;
  if (!is_scaled(scheme.format)) {
    cast_run(x.span(), {}, scheme, codes, counts);
    counts.elements = x.size();
    return counts;
  }
  const Granules g = granules(x.shape(), scheme, role);
  scales(x, scheme, role, static_ranges, scale, zero);
  std::vector<float> quotient(static_cast<std::size_t>(x.shape()[3]));
  const auto run = [&](std::int64_t granule, std::int64_t offset, std::int64_t length) {
    cast_run({x.data() + offset, static_cast<std::size_t>(length)}, at(scale, zero, granule), scheme,
             codes + static_cast<std::size_t>(offset) * width, counts);
  };
  walk(
      x.shape(), g,
      [&](std::int64_t first, std::int64_t offset, std::int64_t length) {
        if (scheme.affine) {
          for (std::int64_t i = 0; i < length; ++i) run(first + i, offset + i, 1);
          return;
        }
        // A scale for each channel: divide first, then cast with scale 1, which gives the same codes. What vanishes in the
        // division is flushed too, and the cast can't see it.
        counts.flushed += dispatched(DivideRow{}, x.data() + offset, scale.data() + first, quotient.data(),
                                     static_cast<std::int32_t>(length));
        cast_run({quotient.data(), static_cast<std::size_t>(length)}, {}, scheme,
                 codes + static_cast<std::size_t>(offset) * width, counts);
      },
      run);
  return counts;
}

QuantizedTensor quantize(View<const float> x, const QuantScheme& scheme, Role role, std::span<const Range> static_ranges) {
  QuantizedTensor result{scheme, Tensor(storage(scheme.format), x.shape()), {}, {}, {}};
  View<float> scale;
  View<std::int32_t> zero;
  if (is_scaled(scheme.format)) {
    const Granules g = granules(x.shape(), scheme, role);
    result.scales = Tensor(DType::f32, g.scale_shape);
    scale = result.scales.view<float>();
    if (scheme.affine) {
      result.zero_points = Tensor(DType::i32, g.scale_shape);
      zero = result.zero_points.view<std::int32_t>();
    }
  }
  result.counts = quantize_into(x, scheme, role, static_ranges, result.codes.raw(), scale, zero);
  return result;
}

void dequantize(const QuantizedTensor& x, Role role, View<float> dst) {
  const std::size_t width = info(x.codes.dtype()).bytes;
  if (!is_scaled(x.scheme.format)) return expand_run(x.codes.raw(), {}, x.scheme.format, dst.span());
  const Granules g = granules(x.codes.shape(), x.scheme, role);
  const auto scale = x.scales.view<float>();
  const auto zero = x.scheme.affine ? x.zero_points.view<std::int32_t>() : View<const std::int32_t>();
  const auto run = [&](std::int64_t granule, std::int64_t offset, std::int64_t length) {
    expand_run(x.codes.raw() + static_cast<std::size_t>(offset) * width, at(scale, zero, granule), x.scheme.format,
               {dst.data() + offset, static_cast<std::size_t>(length)});
  };
  walk(
      x.codes.shape(), g,
      [&](std::int64_t first, std::int64_t offset, std::int64_t length) {
        for (std::int64_t i = 0; i < length; ++i) run(first + i, offset + i, 1);
      },
      run);
}

}  // namespace qfid::quant
