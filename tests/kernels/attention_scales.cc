// Scales and codes of attention's operands by the definitions of the schemes.
#include <cfloat>
#include <cmath>

#include "tests/kernels/attention_expectation.h"
#include "tests/support/grid.h"
#include "tests/support/tolerance.h"

namespace qfid::tests {

using quant::Format;
using quant::GranularityKind;

namespace {

float scale_of(float absmax, Format format) {
  if (absmax == 0.0F) return 1.0F;
  const float top = format == Format::int8 ? 127.0F : format == Format::e4m3 ? 448.0F : 57344.0F;
  const float scale = absmax / top;
  return scale < FLT_MIN ? FLT_MIN : scale;
}

std::int64_t granules_of(const quant::QuantScheme& s, const Shape& x) {
  switch (s.granularity.kind) {
    case GranularityKind::head:
      return x[0] * x[2];
    case GranularityKind::channel:
      return x[0] * x[2] * x[3];
    case GranularityKind::token:
      return x[0] * x[1] * x[2];
    case GranularityKind::block:
      return x[0] * ((x[1] + s.granularity.m - 1) / s.granularity.m) * x[2];
    default:
      return x[0];
  }
}

}  // namespace

Scales::Scales(const Tensor& x, const quant::QuantScheme& scheme, const std::vector<quant::Range>& given)
    : scheme_(scheme), shape_(x.shape()) {
  if (!quant::is_scaled(scheme.format)) return;
  std::vector<float> absmax(static_cast<std::size_t>(granules_of(scheme, shape_)), 0.0F);
  for (std::int64_t i = 0; i < shape_.elements(); ++i) {
    const std::int64_t d = i % shape_[3], h = i / shape_[3] % shape_[2], t = i / (shape_[3] * shape_[2]) % shape_[1],
                       b = i / (shape_[3] * shape_[2] * shape_[1]);
    float& largest = absmax[static_cast<std::size_t>(granule(b, t, h, d))];
    largest = std::max(largest, std::fabs(x.view<float>()[i]));
  }
  for (std::size_t i = 0; i < absmax.size(); ++i) {
    if (scheme.range.kind == quant::RangeKind::fixed) {
      absmax[i] = static_cast<float>(scheme.range.value);
    } else if (!given.empty()) {  // one range for the tensor or for each head, the same for every window
      const quant::Range& r = given[i % given.size()];
      absmax[i] = std::max(std::fabs(r.min), std::fabs(r.max));
    }
    scales_.push_back(scale_of(absmax[i], scheme.format));
  }
}

std::int64_t Scales::granule(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d) const {
  const std::int64_t m = scheme_.granularity.m;
  switch (scheme_.granularity.kind) {
    case GranularityKind::head:
      return b * shape_[2] + h;
    case GranularityKind::channel:
      return (b * shape_[2] + h) * shape_[3] + d;
    case GranularityKind::token:
      return (b * shape_[1] + t) * shape_[2] + h;
    case GranularityKind::block:
      return (b * ((shape_[1] + m - 1) / m) + t / m) * shape_[2] + h;
    default:
      return b;
  }
}

float Scales::at(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d) const {
  return scales_.empty() ? 1.0F : scales_[static_cast<std::size_t>(granule(b, t, h, d))];
}

std::int64_t wrong_codes(const Tensor& x, const Scales& scales, const quant::QuantScheme& scheme, const Tensor& codes,
                         double slack) {
  const Shape& s = x.shape();
  if (codes.shape() != s) return s.elements();
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < s.elements(); ++i) {
    const std::int64_t d = i % s[3], h = i / s[3] % s[2], t = i / (s[3] * s[2]) % s[1], b = i / (s[3] * s[2] * s[1]);
    const float quotient = x.view<float>()[i] / scales.at(b, t, h, d);  // one IEEE division
    const double magnitude = std::fabs(static_cast<double>(quotient)), got = number(codes, i);
    if (scheme.format == Format::f32) {
      wrong += std::bit_cast<std::uint32_t>(codes.view<float>()[i]) != std::bit_cast<std::uint32_t>(quotient);
      continue;
    }
    const Grid& grid = Grid::of(scheme.format);
    if (slack == 0) {
      // -0 is kept by the floating formats.
      const double exact = std::copysign(grid.value(grid.nearest(magnitude)), static_cast<double>(quotient));
      wrong += got != exact || (scheme.format != Format::int8 && std::signbit(got) != std::signbit(exact));
    } else {
      const auto [low, high] = grid.interval(grid.nearest(std::fabs(got)));
      const bool zero = got == 0 || (got > 0) == (quotient > 0.0F);
      wrong += !(zero && magnitude >= low - slack * magnitude && magnitude <= high + slack * magnitude);
    }
  }
  return wrong;
}

}  // namespace qfid::tests
