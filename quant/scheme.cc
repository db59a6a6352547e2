#include "quant/scheme.h"

#include <charconv>
#include <optional>
#include <span>
#include <vector>

#include "quant/core/error.h"
#include "quant/core/nearest.h"

namespace qfid::quant {

namespace {

constexpr std::array<std::string_view, 6> format_names{"f32", "bf16", "int8", "uint8", "e4m3", "e5m2"};
constexpr std::array<std::string_view, 6> granularity_names{"tensor", "head", "channel", "token", "group", "block"};
constexpr std::array<std::string_view, 4> range_names{"absmax", "percentile", "mse", "fixed"};
constexpr std::array<std::string_view, 4> rule_names{"standard", "compressed-tensors", "onnx", "smoothquant"};

[[noreturn]] void fail(std::string_view text, const std::string& what) {
  throw Error(ErrorKind::usage, "scheme \"" + std::string(text) + "\": " + what);
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t slash = text.find('/');
    parts.push_back(text.substr(0, slash));
    if (slash == std::string_view::npos) return parts;
    text.remove_prefix(slash + 1);
  }
}

/// "word(argument)" -> word, argument; "word" -> word, nothing.
struct Call {
  std::string_view word;
  std::optional<std::string_view> argument;
};
Call split_call(std::string_view part) {
  const std::size_t open = part.find('(');
  if (open == std::string_view::npos || part.back() != ')') return {part, std::nullopt};
  return {part.substr(0, open), part.substr(open + 1, part.size() - open - 2)};
}

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string print(double value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, end};
}

int index_in(std::span<const std::string_view> names, std::string_view word) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == word) return static_cast<int>(i);
  return -1;
}

std::int64_t positive(std::string_view text, std::string_view argument, const char* what) {
  const auto value = number<std::int64_t>(argument);
  if (!value || *value < 1 || *value > 1'000'000)
    fail(text, std::string(what) + " is \"" + std::string(argument) + "\", expected a whole number from 1 to 1000000");
  return *value;
}

bool read_granularity(std::string_view text, std::string_view part, Granularity& granularity) {
  const Call call = split_call(part);
  const int kind = index_in(granularity_names, call.word);
  if (kind < 0) return false;
  granularity.kind = static_cast<GranularityKind>(kind);
  const bool sized = granularity.kind == GranularityKind::group || granularity.kind == GranularityKind::block;
  if (sized != call.argument.has_value())
    fail(text, std::string(call.word) + (sized ? " needs a size, e.g. group(64) or block(128x128)" : " takes no argument"));
  if (!sized) return true;
  const std::size_t cross = call.argument->find('x');
  granularity.m = positive(text, call.argument->substr(0, cross), "the size");
  if (cross == std::string_view::npos) return true;
  if (granularity.kind == GranularityKind::group) fail(text, "group takes one size");
  granularity.n = positive(text, call.argument->substr(cross + 1), "the second size");
  return true;
}

bool read_range(std::string_view text, std::string_view part, RangeRule& range) {
  const Call call = split_call(part);
  const int kind = index_in(range_names, call.word);
  if (kind < 0) return false;
  range.kind = static_cast<RangeKind>(kind);
  const bool valued = range.kind == RangeKind::percentile || range.kind == RangeKind::fixed;
  if (valued != call.argument.has_value())
    fail(text,
         std::string(call.word) + (valued ? " needs a number, e.g. percentile(99.9) or fixed(6)" : " takes no argument"));
  if (!valued) return true;
  const auto value = number<double>(*call.argument);
  const double limit = range.kind == RangeKind::percentile ? 100 : 3e38;
  if (!value || !(*value > 0) || !(*value <= limit))
    fail(text, std::string(call.word) + "(" + std::string(*call.argument) + "): expected a number above 0 and at most " +
                   (range.kind == RangeKind::percentile ? "100" : "3e38"));
  range.value = *value;
  return true;
}

bool read_option(std::string_view part, QuantScheme& scheme) {
  if (part == "dynamic" || part == "static") {
    scheme.timing = part == "static" ? Timing::static_ : Timing::dynamic;
  } else if (part == "affine") {
    scheme.affine = true;
  } else if (part == "nosat") {
    scheme.overflow = Overflow::nosat;
  } else if (const int rule = index_in(rule_names, part); rule >= 0) {
    scheme.rule = static_cast<ScaleRule>(rule);
  } else {
    return false;
  }
  return true;
}

void check(std::string_view text, const QuantScheme& s) {
  if (s.affine && s.format != Format::uint8) fail(text, "affine needs the format uint8");
  if (s.overflow == Overflow::nosat && !is_fp8(s.format)) fail(text, "nosat needs an FP8 format (e4m3 or e5m2)");
  if (s.rule == ScaleRule::compressed_tensors && s.format != Format::int8) fail(text, "compressed-tensors needs int8");
  if (s.rule != ScaleRule::standard && !is_integer(s.format)) fail(text, "producers' scale rules are for int8 and uint8");
  if (s.rule == ScaleRule::smoothquant && s.format != Format::int8) fail(text, "smoothquant needs int8");
}

}  // namespace

std::string_view to_string(Format format) { return format_names[static_cast<std::size_t>(format)]; }

std::string to_string(const QuantScheme& s) {
  std::string text(to_string(s.format));
  if (!is_scaled(s.format)) return text;
  text += "/" + std::string(granularity_names[static_cast<std::size_t>(s.granularity.kind)]);
  if (s.granularity.m > 0)
    text += "(" + std::to_string(s.granularity.m) + (s.granularity.n > 0 ? "x" + std::to_string(s.granularity.n) : "") + ")";
  text += "/" + std::string(range_names[static_cast<std::size_t>(s.range.kind)]);
  if (s.range.value > 0) text += "(" + print(s.range.value) + ")";
  text += s.timing == Timing::static_ ? "/static" : "/dynamic";
  if (s.affine) text += "/affine";
  if (s.rule != ScaleRule::standard) text += "/" + std::string(rule_names[static_cast<std::size_t>(s.rule)]);
  if (s.overflow == Overflow::nosat) text += "/nosat";
  return text;
}

QuantScheme parse_scheme(std::string_view text) {
  const std::vector<std::string_view> parts = split(text);
  QuantScheme scheme;
  const int format = index_in(format_names, parts[0]);
  if (format < 0)
    fail(text, "unknown format \"" + std::string(parts[0]) + "\", expected one of f32, bf16, int8, uint8, e4m3, e5m2" +
                   did_you_mean(parts[0], format_names));
  scheme.format = static_cast<Format>(format);
  if (!is_scaled(scheme.format) && parts.size() > 1)
    fail(text, std::string(parts[0]) + " takes no scale, so nothing may follow");
  bool granularity = false, range = false;
  for (std::size_t i = 1; i < parts.size(); ++i) {
    if (!granularity && read_granularity(text, parts[i], scheme.granularity)) {
      granularity = true;
    } else if (!range && read_range(text, parts[i], scheme.range)) {
      range = true;
    } else if (!read_option(parts[i], scheme)) {
      static constexpr std::array<std::string_view, 18> words{
          "tensor", "head",   "channel", "token",  "group", "block", "absmax",      "percentile",         "mse",
          "fixed",  "static", "dynamic", "affine", "nosat", "onnx",  "smoothquant", "compressed-tensors", "standard"};
      fail(text, "unknown or repeated part \"" + std::string(parts[i]) +
                     "\", expected FORMAT/GRANULARITY/RANGE/TIMING[/affine][/RULE][/nosat]" +
                     did_you_mean(split_call(parts[i]).word, words));
    }
  }
  check(text, scheme);
  return scheme;
}

Granules granules(const Shape& shape, const QuantScheme& scheme, Role role) {
  require(shape.rank() == 4, "granules: the tensor must be seen as [window, token, head, channel]");
  const std::int64_t B = shape[0], T = shape[1], H = shape[2], D = shape[3];
  const auto whole = [](std::int64_t n) { return n > 0 ? n : 1; };
  std::array<std::int64_t, 4> step{1, whole(T), whole(H), whole(D)};
  const Granularity& g = scheme.granularity;
  const bool weight = role == Role::weight;
  switch (g.kind) {
    case GranularityKind::tensor:
      break;
    case GranularityKind::head:
      step[2] = 1;
      break;
    case GranularityKind::channel:
      if (weight) {
        step[1] = 1;
      } else {
        step[2] = step[3] = 1;
      }
      break;
    case GranularityKind::token:
      if (weight) throw Error(ErrorKind::usage, "granularity token isn't defined for weights, use channel (output channel)");
      step[1] = step[2] = 1;
      break;
    case GranularityKind::group:
      step = {1, 1, 1, g.m};
      break;
    case GranularityKind::block:
      step = {1, g.m, 1, g.n > 0 ? g.n : whole(D)};
      break;
  }
  if (weight && g.kind == GranularityKind::head) throw Error(ErrorKind::usage, "granularity head isn't defined for weights");
  if (scheme.timing == Timing::static_ && !weight) {
    if (g.kind == GranularityKind::token || g.kind == GranularityKind::group || g.kind == GranularityKind::block)
      throw Error(ErrorKind::usage,
                  "a static range needs granularity tensor, head or channel: tokens aren't known beforehand");
    step[0] = whole(B);
  }
  const auto count = [](std::int64_t n, std::int64_t s) { return (n + s - 1) / s; };
  return {step, Shape{count(B, step[0]), count(T, step[1]), count(H, step[2]), count(D, step[3])}};
}

}  // namespace qfid::quant
