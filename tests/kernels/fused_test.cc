// Operations made of others give the others' bits: a linear with what follows it, and reductions of several tensors at once.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <optional>

#include "tests/kernels/support.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

LinearProblem problem(std::int64_t in, std::int64_t out, const std::string& format) {
  const bool scaled = format != "f32" && format != "bf16";
  return {in, out, quant::parse_scheme(format + (scaled ? "/channel" : "")),
          quant::parse_scheme(format + (scaled ? "/token" : "")), ExecutionMode::real};
}

constexpr std::optional<Activation> tails[] = {std::nullopt, Activation::relu, Activation::gelu_erf, Activation::gelu_tanh,
                                               Activation::silu};

}  // namespace

TEST_CASE("a linear, its activation and a residual at once: the bits and counts of one after the other", "[isa]") {
  int compared = 0;
  for (const NamedBackend& b : backends())
    for (const char* format : {"f32", "bf16", "int8", "e4m3", "e5m2"})
      // Sizes of whole vectors and not; more rows than one part of accumulators holds (n 1536: 4096).
      for (const auto& [in, out, windows, tokens] : {std::tuple{48, 64, 2, 9}, {33, 17, 3, 5}, {16, 1536, 2, 2100}}) {
        if (tokens > 100 && std::string(format) != "int8" && std::string(format) != "f32") continue;
        const LinearProblem p = problem(in, out, format);
        if (!b->supports(p)) continue;
        const Tensor w = filled(Shape{out, in}, 1), bias = filled(Shape{out}, 2);
        Tensor x = filled(Shape{windows, tokens, in}, 3);
        x.view<float>()[3] = NAN;  // counted, and no activation may hide it
        x.view<float>()[in + 1] = INFINITY;
        const auto linear = b->prepare(p, {w.view<float>(), bias.view<float>(), {}});
        const DeviceTensor src = b->upload(x), residual = b->upload(filled(Shape{windows, tokens, out}, 4));
        for (const auto& activation : tails)
          for (const bool added : {false, true}) {
            if (tokens > 100 && activation && activation != Activation::relu) continue;
            quant::CodeCounts counts;
            DeviceTensor y = b->linear(*linear, src, &counts);
            if (activation) y = b->activation(y, *activation);
            const LinearResult at_once = b->linear_then(*linear, src, {activation, added ? residual : DeviceTensor{}});
            CAPTURE(b.name, format, in, out, added, activation.has_value());
            CHECK(same_bits(b->download(y), b->download(at_once.y)));
            CHECK(at_once.sum.defined() == added);
            if (added) CHECK(same_bits(b->download(b->add(residual, y)), b->download(at_once.sum)));
            CHECK(at_once.counts.get() == counts);
            if (std::string(format) == "int8") CHECK(counts.nan == 1);
            ++compared;
          }
      }
  CHECK(compared >= 60);
}

TEST_CASE("counts asked for late, in any order, by more casts than are kept together") {
  for (const NamedBackend& b : backends()) {
    const LinearProblem p = problem(16, 16, "int8");
    const Tensor w = filled(Shape{16, 16}, 1), bias = filled(Shape{16}, 2);
    const auto linear = b->prepare(p, {w.view<float>(), bias.view<float>(), {}});
    std::vector<PendingCounts> counts;
    for (int n = 0; n < 300; ++n) {
      Tensor x = filled(Shape{1, 20, 16}, 5);
      for (int i = 0; i < n; ++i) x.view<float>()[i] = NAN;
      counts.push_back(b->linear_then(*linear, b->upload(x), {}).counts);
      if (n % 50 == 7) CHECK(counts.back().get().nan == n);  // some in between
    }
    int wrong = 0;
    for (int n = 299; n >= 0; --n) {
      const quant::CodeCounts seen = counts[static_cast<std::size_t>(n)].get();
      wrong += seen.nan == n && seen.elements == 320 ? 0 : 1;
    }
    CAPTURE(b.name);
    CHECK(wrong == 0);
  }
}

TEST_CASE("reductions of several tensors at once are those of each") {
  for (const NamedBackend& b : backends()) {
    const DeviceTensor x = b->upload(filled(Shape{3, 70, 33}, 1)), y = b->upload(filled(Shape{3, 70, 33}, 2));
    const DeviceTensor heads = b->upload(filled(Shape{2, 70, 4, 16}, 3)), other = b->upload(filled(Shape{2, 70, 4, 16}, 4));
    const DeviceTensor small = b->upload(filled(Shape{3, 5, 7}, 5));
    Reductions& r = b->reductions();
    const std::vector<DeviceTensor> tensors{x, y, small, x};
    const auto stats = r.row_stats_of(tensors);
    REQUIRE(stats.size() == tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const std::vector<RowStats> one = r.row_stats(tensors[i]);
      REQUIRE(one.size() == stats[i].size());
      for (std::size_t w = 0; w < one.size(); ++w) {
        CHECK((one[w].rows == stats[i][w].rows && one[w].elements == stats[i][w].elements));
        CHECK((one[w].sum == stats[i][w].sum && one[w].kurtosis_sum == stats[i][w].kurtosis_sum));
        CHECK((one[w].window_kurtosis == stats[i][w].window_kurtosis && one[w].max_abs == stats[i][w].max_abs));
      }
    }
    const std::vector<Reductions::Pair> pairs{{x, y}, {heads, other}, {y, x}};
    const auto errors = r.distortion_of(pairs);
    REQUIRE(errors.size() == pairs.size());
    CHECK(errors[1].size() == 8);
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const auto one = r.distortion(pairs[i].first, pairs[i].second);
      REQUIRE(one.size() == errors[i].size());
      for (std::size_t g = 0; g < one.size(); ++g) {
        const auto s = one[g].sums(), t = errors[i][g].sums();
        CHECK(std::memcmp(&s, &t, sizeof s) == 0);
      }
    }
    CHECK(r.row_stats_of({}).empty());
    CHECK(r.distortion_of({}).empty());
  }
}
