// Quantization of operands: windows in parts, parts of all operands side by side.
#include <algorithm>
#include <utility>

#include "kernels/host/operands.h"
#include "quant/core/first_error.h"

namespace qfid::kernels::host {

using quant::Role;
using quant::Tensor;
using quant::View;

namespace {

constexpr std::int64_t part_tokens = 64;  ///< of a window, quantized by one thread at a time: their range is found in cache

/// A window's granules span its tokens, and its parts' ranges are known or merge exactly: they can be quantized in parallel.
bool spans_parts(const quant::QuantScheme& scheme, std::int64_t step, std::int64_t tokens) {
  const bool merges = scheme.range.kind == quant::RangeKind::absmax || scheme.range.kind == quant::RangeKind::fixed;
  return step >= tokens && (scheme.timing == quant::Timing::static_ || merges);
}

/// Tokens of a part: all of them where a granule spans more and its range is a statistic of the whole.
std::int64_t tokens_apart(const Operand& x, std::int64_t tokens) {
  if (!quant::is_scaled(x.scheme.format) || spans_parts(x.scheme, x.step[1], tokens)) return std::min(part_tokens, tokens);
  if (x.scheme.timing == quant::Timing::static_ || x.step[1] >= tokens) return tokens;
  return std::min((part_tokens + x.step[1] - 1) / x.step[1] * x.step[1], tokens);
}

/// Parts of the windows of x [B, T, H, D].
struct Parts {
  View<const float> x;
  std::int64_t tokens, each;  ///< part i of a window: tokens [i * each, ...)
  Parts(View<const float> of, std::int64_t part) : x(of), tokens(of.shape()[1]), each(std::max<std::int64_t>(part, 1)) {}
  std::int64_t per_window() const { return (tokens + each - 1) / each; }
  std::int64_t count() const { return x.shape()[0] * per_window(); }
  std::int64_t window(std::int64_t i) const { return i / per_window(); }
  std::int64_t first(std::int64_t i) const { return i % per_window() * each; }
  std::int64_t length(std::int64_t i) const { return std::min(each, tokens - first(i)); }
  std::int64_t offset(std::int64_t i) const { return (window(i) * tokens + first(i)) * x.shape()[2] * x.shape()[3]; }
  View<const float> view(std::int64_t i) const {
    return {x.data() + offset(i), Shape{1, length(i), x.shape()[2], x.shape()[3]}};
  }
};

/// One operand on its way: the ranges of its parts, one for all of a window's where granules span them; then the casts.
class Quantization {
 public:
  explicit Quantization(const OperandSource& source)
      : source_(source), result_(empty_operand(source)), parts_(source.x, tokens_apart(result_, source.x.shape()[1])) {
    const quant::QuantScheme& scheme = source.scheme;
    const bool scaled = quant::is_scaled(scheme.format);
    if (scaled) granules_ = result_.count[0] * result_.count[1] * result_.count[2] * result_.count[3];
    shared_ = scaled && parts_.per_window() > 1 && spans_parts(scheme, result_.step[1], parts_.tokens);
    known_ = scheme;
    if (shared_ && scheme.timing != quant::Timing::static_) {
      own_.resize(static_cast<std::size_t>(parts_.count()));
      known_.timing = quant::Timing::static_;
      known_.range = {};
    }
    counts_.resize(static_cast<std::size_t>(parts_.count()));
  }

  std::int64_t parts() const { return parts_.count(); }
  std::int64_t parts_with_ranges() const { return static_cast<std::int64_t>(own_.size()); }

  void find_range(std::int64_t i) {
    own_[static_cast<std::size_t>(i)] = quant::ranges(parts_.view(i), source_.scheme, Role::activation);
  }

  /// Ranges of each window: least and largest are those of its parts, in any order.
  void merge_ranges() {
    for (std::int64_t i = 0; i < parts_with_ranges(); ++i) {
      std::vector<quant::Range>& part = own_[static_cast<std::size_t>(i)];
      if (parts_.first(i) == 0) {
        windows_.push_back(std::move(part));
        continue;
      }
      for (std::size_t g = 0; g < part.size(); ++g) {
        quant::Range& range = windows_.back()[g];
        range = {std::min(range.min, part[g].min), std::max(range.max, part[g].max)};
      }
    }
  }

  void cast(std::int64_t i) {
    const quant::QuantScheme& scheme = source_.scheme;
    const bool scaled = quant::is_scaled(scheme.format);
    const std::int64_t a_step = result_.count[2] * result_.count[3];  // granules of one step of tokens; none without scales
    const std::int64_t own = !scaled ? 0 : (parts_.length(i) + result_.step[1] - 1) / result_.step[1] * a_step;
    const std::int64_t at = !scaled ? 0 : parts_.window(i) * granules_ + parts_.first(i) / result_.step[1] * a_step;
    // Of granules that span parts each part finds the same scale; the first one keeps it.
    const bool keeps = !shared_ || parts_.first(i) == 0;
    std::vector<float> scale(static_cast<std::size_t>(keeps ? 0 : own));
    std::vector<std::int32_t> zero(static_cast<std::size_t>(keeps || !scheme.affine ? 0 : own));
    const auto width = static_cast<std::int64_t>(quant::info(quant::storage(scheme.format)).bytes);
    counts_[static_cast<std::size_t>(i)] = quant::quantize_into(
        parts_.view(i), known_, Role::activation,
        windows_.empty() ? source_.ranges : windows_[static_cast<std::size_t>(parts_.window(i))],
        result_.codes.raw() + static_cast<std::size_t>(parts_.offset(i) * width),
        View<float>(keeps ? result_.scale.data() + at : scale.data(), Shape{own}),
        !scheme.affine ? View<std::int32_t>()
                       : View<std::int32_t>(keeps ? result_.zero_point.data() + at : zero.data(), Shape{own}));
  }

  Operand take() {
    for (const quant::CodeCounts& share : counts_) result_.counts += share;
    return std::move(result_);
  }

 private:
  /// Sizes and memory.
  static Operand empty_operand(const OperandSource& source) {
    const Shape& s = source.x.shape();
    Operand result{source.scheme, Tensor(quant::storage(source.scheme.format), s), {}, {}, {}, {}, {}};
    if (!quant::is_scaled(source.scheme.format)) return result;
    const quant::Granules g = quant::granules(Shape{1, s[1], s[2], s[3]}, source.scheme, Role::activation);
    result.step = g.step;
    for (int i = 0; i < 4; ++i) result.count[static_cast<std::size_t>(i)] = g.scale_shape[i];
    result.scale.resize(static_cast<std::size_t>(s[0] * g.scale_shape.elements()));
    if (source.scheme.affine) result.zero_point.resize(result.scale.size());
    return result;
  }

  OperandSource source_;
  Operand result_;
  Parts parts_;
  bool shared_ = false;
  std::int64_t granules_ = 0;
  quant::QuantScheme known_;  ///< of the parts: one range for all of a window's
  std::vector<std::vector<quant::Range>> own_, windows_;
  std::vector<quant::CodeCounts> counts_;
};

/// f(operand, part) for each of count(operand) parts of all operands, in parallel.
template <class Count, class F>
void for_parts(std::vector<Quantization>& all, const Count& count, const F& f) {
  std::vector<std::pair<Quantization*, std::int64_t>> work;
  for (Quantization& operand : all)
    for (std::int64_t i = 0; i < count(operand); ++i) work.emplace_back(&operand, i);
  if (work.empty()) return;
  quant::FirstError error;
#pragma omp parallel for schedule(static)
  for (std::size_t i = 0; i < work.size(); ++i) error.guard([&] { f(*work[i].first, work[i].second); });
  error.rethrow();
}

}  // namespace

std::vector<Operand> quantize_operands(std::span<const OperandSource> sources) {
  std::vector<Quantization> all;
  for (const OperandSource& source : sources) all.emplace_back(source);
  for_parts(
      all, [](const Quantization& operand) { return operand.parts_with_ranges(); },
      [](Quantization& operand, std::int64_t i) { operand.find_range(i); });
  for (Quantization& operand : all) operand.merge_ranges();
  for_parts(
      all, [](const Quantization& operand) { return operand.parts(); },
      [](Quantization& operand, std::int64_t i) { operand.cast(i); });
  std::vector<Operand> operands;
  for (Quantization& operand : all) operands.push_back(operand.take());
  return operands;
}

Operand quantize_operand(View<const float> x, const quant::QuantScheme& scheme, const std::vector<quant::Range>& ranges) {
  const OperandSource source{x, scheme, ranges};
  return std::move(quantize_operands({&source, 1})[0]);
}

}  // namespace qfid::kernels::host
