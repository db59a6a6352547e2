// Which kernel finds an operand's scales: fixed and static ranges are scaled on the host once, absmax ranges on the device,
// percentile and mse on the host after a copy.
#include <algorithm>
#include <utility>

#include "kernels/gpu/quantize.h"

namespace qfid::kernels::gpu {

using quant::GranularityKind;
using quant::RangeKind;
using quant::Role;
using quant::Timing;

namespace {

bool known_beforehand(const quant::QuantScheme& s) {
  return s.range.kind == RangeKind::fixed || s.timing == Timing::static_;
}

/// A token's row of one head is a granule: range and cast in one pass.
bool one_pass(const quant::QuantScheme& s) {
  return quant::is_scaled(s.format) && !known_beforehand(s) && s.range.kind == RangeKind::absmax &&
         s.granularity.kind == GranularityKind::token;
}

/// Scales that don't depend on the numbers, or that only the host can find.
void host_scales(Context& context, const Source& src, const std::vector<quant::Range>& ranges, const quant::Granules& g,
                 Operand& operand) {
  const quant::QuantScheme& s = operand.scheme;
  const std::int64_t n = g.scale_shape.elements(), window = src.T * src.H * src.D;
  const bool once = known_beforehand(s);
  const std::int64_t windows = once ? 1 : src.B;
  std::vector<float> scale(static_cast<std::size_t>(windows * n));
  std::vector<std::int32_t> zero(s.affine ? scale.size() : 0);
  const Shape four{1, src.T, src.H, src.D};
  quant::Tensor copy(DType::f32, once ? Shape{0} : four);
  for (std::int64_t b = 0; b < windows; ++b) {
    if (!once) context.download(copy.raw(), src.x + b * window, copy.bytes());
    // A fixed range asks nothing of the numbers, a static one neither: their scales see an empty window.
    const quant::View<const float> x = once ? quant::View<const float>(nullptr, four) : std::as_const(copy).view<float>();
    quant::scales(x, s, Role::activation, ranges, quant::View<float>(scale.data() + b * n, Shape{n}),
                  s.affine ? quant::View<std::int32_t>(zero.data() + b * n, Shape{n}) : quant::View<std::int32_t>());
  }
  operand.scale = context.uploaded(scale);
  if (s.affine) operand.zero = context.uploaded(zero);
  operand.scales.per_window = once ? 0 : n;
}

}  // namespace

bool ranges_on_device(const quant::QuantScheme& s) {
  return !quant::is_scaled(s.format) || known_beforehand(s) || s.range.kind == RangeKind::absmax;
}

Operand scaled_operand(Context& context, const Source& src, const quant::QuantScheme& scheme,
                       const std::vector<quant::Range>& ranges, std::shared_ptr<std::uint64_t> tally) {
  Operand operand;
  operand.scheme = scheme;
  operand.elements = src.B * src.T * src.H * src.D;
  if (!quant::is_scaled(scheme.format)) return operand;
  operand.tally = std::move(tally);
  const quant::Granules g = quant::granules(Shape{1, src.T, src.H, src.D}, scheme, Role::activation);
  ScaleView& v = operand.scales;
  v.s1 = g.step[1];
  v.s2 = g.step[2];
  v.s3 = g.step[3];
  v.c2 = g.scale_shape[2];
  v.c3 = g.scale_shape[3];
  if (known_beforehand(scheme) || scheme.range.kind != RangeKind::absmax) {
    host_scales(context, src, ranges, g, operand);
  } else {
    v.per_window = g.scale_shape.elements();
    operand.scale = context.array<float>(src.B * v.per_window);
    if (scheme.affine) operand.zero = context.array<std::int32_t>(src.B * v.per_window);
  }
  v.scale = operand.scale.get();
  v.zero = operand.zero.get();
  if (!known_beforehand(scheme) && scheme.range.kind == RangeKind::absmax && !one_pass(scheme))
    dynamic_scales(job_of(operand, src, Number::f32, false), g, context);
  return operand;
}

CastJob job_of(const Operand& operand, const Source& src, Number number, bool shifted) {
  return {src, operand.scheme, number, shifted, operand.scales, operand.tally.get()};
}

void cast(const Operand& operand, const CastJob& job, void* dst, const CodeLayout& layout, Context& context) {
  if (one_pass(operand.scheme)) return cast_token_rows(job, dst, layout, context.stream());
  cast_rows(job, dst, layout, context.stream());
}

quant::CodeCounts counts_of(std::int64_t elements, const std::uint64_t* tally) {
  quant::CodeCounts counts;
  counts.elements = elements;
  counts.saturated = static_cast<std::int64_t>(tally[0]);
  counts.flushed = static_cast<std::int64_t>(tally[1]);
  counts.nan = static_cast<std::int64_t>(tally[2]);
  return counts;
}

}  // namespace qfid::kernels::gpu
