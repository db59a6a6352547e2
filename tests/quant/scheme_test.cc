// What a scheme's spelling means, what is refused and in which words; granules by hand.
#include "quant/scheme.h"

#include <catch2/catch_test_macros.hpp>
#include <string>

#include "quant/core/error.h"

using namespace qfid::quant;

namespace {

std::string said(const std::string& text) {
  try {
    parse_scheme(text);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    return error.what();
  }
  return "nothing";
}

std::string said(const Shape& shape, const char* text, Role role) {
  try {
    (void)granules(shape, parse_scheme(text), role);
  } catch (const Error& error) { return std::to_string(error.exit_code()) + " " + error.what(); }
  return "nothing";
}

}  // namespace

TEST_CASE("every part of a scheme is read into its field") {
  const QuantScheme plain = parse_scheme("int8");
  CHECK(plain == QuantScheme{.format = Format::int8});
  CHECK(plain.granularity.kind == GranularityKind::tensor);
  CHECK(plain.range.kind == RangeKind::absmax);
  CHECK(plain.timing == Timing::dynamic);
  const QuantScheme full = parse_scheme("uint8/block(16x128)/percentile(99.5)/static/affine/onnx");
  CHECK(full.format == Format::uint8);
  CHECK(full.granularity.kind == GranularityKind::block);
  CHECK(full.granularity.m == 16);
  CHECK(full.granularity.n == 128);
  CHECK(full.range.kind == RangeKind::percentile);
  CHECK(full.range.value == 99.5);
  CHECK(full.timing == Timing::static_);
  CHECK(full.affine);
  CHECK(full.rule == ScaleRule::onnx);
  CHECK(to_string(full) == "uint8/block(16x128)/percentile(99.5)/static/affine/onnx");
  CHECK(parse_scheme("e4m3/nosat").overflow == Overflow::nosat);
  CHECK(parse_scheme("int8/static/token/mse/dynamic/onnx/standard") ==
        parse_scheme("int8/token/mse"));  // the last one counts
  CHECK(parse_scheme("int8/group(1)").granularity.m == 1);
  CHECK(parse_scheme("int8/group(1000000)").granularity.m == 1'000'000);
  CHECK(to_string(parse_scheme("int8/block(8)")) == "int8/block(8)/absmax/dynamic");
  CHECK(to_string(parse_scheme("int8/group(1)")) == "int8/group(1)/absmax/dynamic");
  CHECK(to_string(parse_scheme("int8/block(1x1)")) == "int8/block(1x1)/absmax/dynamic");
  CHECK(to_string(parse_scheme("e5m2/fixed(0.5)")) == "e5m2/tensor/fixed(0.5)/dynamic");
  CHECK(to_string(parse_scheme("bf16")) == "bf16");
  CHECK(parse_scheme("int8/percentile(100)").range.value == 100);
  CHECK(parse_scheme("int8/fixed(3e38)").range.value == 3e38);
}

TEST_CASE("what isn't a scheme is refused in words") {
  const std::string form = ", expected FORMAT/GRANULARITY/RANGE/TIMING[/affine][/RULE][/nosat]";
  const std::string size = ", expected a whole number from 1 to 1000000";
  for (const auto& [text, message] : {
           std::pair<std::string, std::string>{
               "int9/token",
               "unknown format \"int9\", expected one of f32, bf16, int8, uint8, e4m3, e5m2, did you mean \"int8\"?"},
           {"", "unknown format \"\", expected one of f32, bf16, int8, uint8, e4m3, e5m2"},
           {"bf16/token", "bf16 takes no scale, so nothing may follow"},
           {"f32/", "f32 takes no scale, so nothing may follow"},
           {"int8/", "unknown or repeated part \"\"" + form},
           {"int8/tokn", "unknown or repeated part \"tokn\"" + form + ", did you mean \"token\"?"},
           {"int8/token/head", "unknown or repeated part \"head\"" + form + ", did you mean \"head\"?"},
           {"int8/mse/fixed(2)", "unknown or repeated part \"fixed(2)\"" + form + ", did you mean \"fixed\"?"},
           {"int8/percentil(9)", "unknown or repeated part \"percentil(9)\"" + form + ", did you mean \"percentile\"?"},
           {"int8/group", "group needs a size, e.g. group(64) or block(128x128)"},
           {"int8/block", "block needs a size, e.g. group(64) or block(128x128)"},
           {"int8/token(4)", "token takes no argument"},
           {"int8/group(0)", "the size is \"0\"" + size},
           {"int8/group(1000001)", "the size is \"1000001\"" + size},
           {"int8/group(-4)", "the size is \"-4\"" + size},
           {"int8/group()", "the size is \"\"" + size},
           {"int8/group(4a)", "the size is \"4a\"" + size},
           {"int8/group(99999999999999999999)", "the size is \"99999999999999999999\"" + size},
           {"int8/group(4x4)", "group takes one size"},
           {"int8/block(4x)", "the second size is \"\"" + size},
           {"int8/block(4x0)", "the second size is \"0\"" + size},
           {"int8/block(x4)", "the size is \"\"" + size},
           {"int8/block(4x4x4)", "the second size is \"4x4\"" + size},
           {"int8/percentile", "percentile needs a number, e.g. percentile(99.9) or fixed(6)"},
           {"int8/fixed", "fixed needs a number, e.g. percentile(99.9) or fixed(6)"},
           {"int8/absmax(3)", "absmax takes no argument"},
           {"int8/mse(3)", "mse takes no argument"},
           {"int8/percentile(0)", "percentile(0): expected a number above 0 and at most 100"},
           {"int8/percentile(100.5)", "percentile(100.5): expected a number above 0 and at most 100"},
           {"int8/percentile(nan)", "percentile(nan): expected a number above 0 and at most 100"},
           {"int8/fixed(0)", "fixed(0): expected a number above 0 and at most 3e38"},
           {"int8/fixed(inf)", "fixed(inf): expected a number above 0 and at most 3e38"},
           {"int8/fixed(3.1e38)", "fixed(3.1e38): expected a number above 0 and at most 3e38"},
           {"int8/fixed(2z)", "fixed(2z): expected a number above 0 and at most 3e38"},
           {"int8/affine", "affine needs the format uint8"},
           {"uint8/nosat", "nosat needs an FP8 format (e4m3 or e5m2)"},
           {"uint8/compressed-tensors", "compressed-tensors needs int8"},
           {"e4m3/compressed-tensors", "compressed-tensors needs int8"},
           {"e4m3/onnx", "producers' scale rules are for int8 and uint8"},
           {"e5m2/smoothquant", "producers' scale rules are for int8 and uint8"},
           {"uint8/smoothquant", "smoothquant needs int8"},
       }) {
    CAPTURE(text);
    CHECK(said(text) == "scheme \"" + text + "\": " + message);
  }
}

TEST_CASE("granules by hand") {
  const Shape heads{2, 6, 3, 8}, weight{1, 12, 1, 20};
  using Steps = std::array<std::int64_t, 4>;
  const auto is = [](const Granules& g, const Steps& step, const Shape& shape) {
    return g.step == step && g.scale_shape == shape;
  };
  const auto of = [&](const char* text) { return granules(heads, parse_scheme(text), Role::activation); };
  CHECK(is(of("int8/tensor"), {1, 6, 3, 8}, Shape{2, 1, 1, 1}));
  CHECK(is(of("int8/head"), {1, 6, 1, 8}, Shape{2, 1, 3, 1}));
  CHECK(is(of("int8/channel"), {1, 6, 1, 1}, Shape{2, 1, 3, 8}));
  CHECK(is(of("int8/token"), {1, 1, 1, 8}, Shape{2, 6, 3, 1}));
  CHECK(is(of("int8/group(3)"), {1, 1, 1, 3}, Shape{2, 6, 3, 3}));
  CHECK(is(of("int8/block(4)"), {1, 4, 1, 8}, Shape{2, 2, 3, 1}));
  CHECK(is(of("int8/block(5x2)"), {1, 5, 1, 2}, Shape{2, 2, 3, 4}));
  CHECK(is(of("int8/tensor/static"), {2, 6, 3, 8}, Shape{1, 1, 1, 1}));
  CHECK(is(of("int8/head/static"), {2, 6, 1, 8}, Shape{1, 1, 3, 1}));
  CHECK(is(of("int8/channel/static"), {2, 6, 1, 1}, Shape{1, 1, 3, 8}));
  const auto w = [&](const char* text) { return granules(weight, parse_scheme(text), Role::weight); };
  CHECK(is(w("int8/tensor"), {1, 12, 1, 20}, Shape{1, 1, 1, 1}));
  CHECK(is(w("int8/channel"), {1, 1, 1, 20}, Shape{1, 12, 1, 1}));
  CHECK(is(w("int8/group(16)"), {1, 1, 1, 16}, Shape{1, 12, 1, 2}));
  CHECK(is(w("int8/block(5x7)/static"), {1, 5, 1, 7}, Shape{1, 3, 1, 3}));
  CHECK(is(granules(Shape{0, 0, 2, 0}, parse_scheme("int8/tensor/static"), Role::activation), {1, 1, 2, 1},
           Shape{0, 0, 1, 0}));
  const std::string beforehand =
      "2 a static range needs granularity tensor, head or channel: tokens aren't known beforehand";
  for (const char* text : {"int8/token/static", "int8/group(2)/static", "int8/block(2)/static"})
    CHECK(said(heads, text, Role::activation) == beforehand);
  CHECK(said(weight, "int8/token", Role::weight) ==
        "2 granularity token isn't defined for weights, use channel (output channel)");
  CHECK(said(weight, "int8/head", Role::weight) == "2 granularity head isn't defined for weights");
  CHECK(said(Shape{2, 3}, "int8", Role::weight) == "5 granules: the tensor must be seen as [window, token, head, channel]");
}
