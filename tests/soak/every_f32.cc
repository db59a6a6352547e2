// Every f32 there is (all 2^32 bit patterns), cast to both FP8 formats under both overflow modes, against the slow
// converter:
//   every_f32                   the scalar codec and each vector path this CPU has
//   every_f32 gpu|cpu|reference the casts inside a backend's attention (the codes of Q)
//   every_f32 ... --step N      every N-th pattern only; N odd
// Prints a line per path with the number of casts and of mismatches. Exit code 0: none; 1: some; 2: usage; 4: no such
// backend.
#include <omp.h>

#include <array>
#include <bit>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/registry/registry.h"
#include "quant/codec.h"
#include "quant/core/dispatch.h"
#include "quant/core/error.h"
#include "tests/support/slow_codec.h"

using namespace qfid;
using quant::CodeCounts;
using quant::Isa;
using quant::Overflow;

namespace {

constexpr std::uint64_t patterns = std::uint64_t{1} << 32;

struct Case {
  const char* format;
  const tests::Table& table;
  float largest;  ///< the range that makes the scale 1
  Overflow overflow;
  bool saturates() const { return overflow == Overflow::satfinite; }
  std::string name() const { return std::string(format) + (saturates() ? " satfinite" : " nosat"); }
};

const std::array<Case, 4> cases{
    Case{"e4m3", tests::e4m3_table, 448, Overflow::satfinite}, Case{"e4m3", tests::e4m3_table, 448, Overflow::nosat},
    Case{"e5m2", tests::e5m2_table, 57344, Overflow::satfinite}, Case{"e5m2", tests::e5m2_table, 57344, Overflow::nosat}};

struct Tally {
  std::uint64_t casts = 0, mismatches = 0;
  std::uint32_t first = 0;  ///< pattern of a mismatch
  void add(const Tally& other) {
    if (mismatches == 0) first = other.first;
    casts += other.casts;
    mismatches += other.mismatches;
  }
};

/// Codes and counts as they must be, of the patterns first, first + step, ...
struct Expected {
  std::vector<float> values;
  std::vector<std::uint8_t> codes;
  CodeCounts counts;
};

Expected expect(const Case& c, std::uint64_t first, std::uint64_t step, std::size_t n) {
  Expected e{std::vector<float>(n), std::vector<std::uint8_t>(n), {}};
  const double top = c.table.value.back(), beyond = top + (top - c.table.value[c.table.value.size() - 2]) / 2;
  const bool tie_is_beyond = c.table.value.size() % 2 == 0;  // the largest code is odd
  for (std::size_t i = 0; i < n; ++i) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(first + i * step));
    const double magnitude = std::fabs(static_cast<double>(x));
    e.values[i] = x;
    e.codes[i] = static_cast<std::uint8_t>(std::isnan(x) ? 0x7F : tests::slow_encode(x, c.table, c.saturates()));
    e.counts.nan += std::isnan(x) ? 1 : 0;
    e.counts.saturated += magnitude > beyond || (tie_is_beyond && magnitude == beyond) ? 1 : 0;
    e.counts.flushed += x != 0 && !std::isnan(x) && (e.codes[i] & 0x7F) == 0 ? 1 : 0;
  }
  e.counts.elements = static_cast<std::int64_t>(n);
  return e;
}

/// A wrong count is a mismatch too.
Tally compare(const Expected& expected, const std::uint8_t* codes, const CodeCounts* counts) {
  Tally tally;
  tally.casts = expected.codes.size();
  for (std::size_t i = 0; i < expected.codes.size(); ++i) {
    if (codes[i] == expected.codes[i]) continue;
    if (tally.mismatches++ == 0) tally.first = std::bit_cast<std::uint32_t>(expected.values[i]);
  }
  if (counts != nullptr && *counts != expected.counts && tally.mismatches++ == 0)
    tally.first = std::bit_cast<std::uint32_t>(expected.values.front());
  return tally;
}

bool report(const std::string& path, const Case& c, const Tally& tally) {
  std::printf("%-28s %-16s %" PRIu64 " casts, %" PRIu64 " mismatches", path.c_str(), c.name().c_str(), tally.casts,
              tally.mismatches);
  if (tally.mismatches > 0) std::printf(" (the first near bits 0x%08" PRIX32 ")", tally.first);
  std::printf("\n");
  std::fflush(stdout);
  return tally.mismatches == 0;
}

void scalar(const Case& c, const std::vector<float>& x, std::vector<std::uint8_t>& codes) {
  const bool e4m3 = std::strcmp(c.format, "e4m3") == 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    codes[i] = e4m3 ? quant::to_e4m3(x[i], c.overflow).bits : quant::to_e5m2(x[i], c.overflow).bits;
}

CodeCounts vectorized(const Case& c, const std::vector<float>& x, std::vector<std::uint8_t>& codes) {
  CodeCounts counts;
  if (std::strcmp(c.format, "e4m3") == 0)
    quant::cast_to_e4m3(x, 1.0F, c.overflow, {reinterpret_cast<quant::e4m3*>(codes.data()), codes.size()}, counts);
  else
    quant::cast_to_e5m2(x, 1.0F, c.overflow, {reinterpret_cast<quant::e5m2*>(codes.data()), codes.size()}, counts);
  return counts;
}

/// Paths, the scalar one first: name and instruction set.
std::vector<std::pair<std::string, Isa>> vector_paths() {
  std::vector<std::pair<std::string, Isa>> paths{{"vector, portable", Isa::portable}};
  if (quant::best_isa() >= Isa::avx2) paths.emplace_back("vector, AVX2", Isa::avx2);
  if (quant::best_isa() >= Isa::avx512) paths.emplace_back("vector, AVX-512", Isa::avx512);
  return paths;
}

bool codecs(const Case& c, std::uint64_t step) {
  constexpr std::uint64_t at_once = std::uint64_t{1} << 18;
  const std::uint64_t total = (patterns + step - 1) / step;
  const auto blocks = static_cast<std::int64_t>((total + at_once - 1) / at_once);
  const auto paths = vector_paths();
  std::vector<Tally> tallies(paths.size() + 1);
  // One path after the other inside a group of blocks: the instruction set belongs to the process, not to a thread.
  constexpr std::int64_t group = 256;
  for (std::int64_t start = 0; start < blocks; start += group) {
    const std::int64_t count = std::min(group, blocks - start);
    std::vector<Expected> expected(static_cast<std::size_t>(count));
    const auto all = [&](Tally& tally, const std::function<Tally(Expected&)>& one) {
      std::vector<Tally> parts(expected.size());
#pragma omp parallel for schedule(dynamic)
      for (std::int64_t i = 0; i < count; ++i)
        parts[static_cast<std::size_t>(i)] = one(expected[static_cast<std::size_t>(i)]);
      for (const Tally& part : parts) tally.add(part);
    };
#pragma omp parallel for schedule(dynamic)
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint64_t first = static_cast<std::uint64_t>(start + i) * at_once;
      expected[static_cast<std::size_t>(i)] =
          expect(c, first * step, step, static_cast<std::size_t>(std::min(at_once, total - first)));
    }
    all(tallies[0], [&](Expected& e) {
      std::vector<std::uint8_t> codes(e.codes.size());
      scalar(c, e.values, codes);
      return compare(e, codes.data(), nullptr);
    });
    for (std::size_t path = 0; path < paths.size(); ++path) {
      const Isa before = quant::force_isa(paths[path].second);
      all(tallies[path + 1], [&](Expected& e) {
        std::vector<std::uint8_t> codes(e.codes.size());
        const CodeCounts counts = vectorized(c, e.values, codes);
        return compare(e, codes.data(), &counts);
      });
      quant::force_isa(before);
    }
  }
  bool good = report("scalar", c, tallies[0]);
  for (std::size_t path = 0; path < paths.size(); ++path) good = report(paths[path].first, c, tallies[path + 1]) && good;
  return good;
}

struct QCodes : kernels::TapSink {
  explicit QCodes(kernels::Backend& b) : backend(b) {}
  kernels::Backend& backend;
  quant::Tensor codes;
  bool wants(kernels::TapPoint point) const override { return point == kernels::TapPoint::q_codes; }
  void take(kernels::TapPoint, const kernels::DeviceTensor& tensor) override { codes = backend.download(tensor); }
};

bool in_backend(kernels::Backend& backend, const Case& c, std::uint64_t step) {
  constexpr std::int64_t dim = 64, rows = std::int64_t{1} << 17, heads = 1;
  constexpr std::uint64_t at_once = dim * rows;
  kernels::AttentionProblem problem;
  problem.q_heads = problem.kv_heads = heads;
  problem.head_dim = problem.v_head_dim = dim;
  problem.schemes.q =
      quant::parse_scheme(std::string(c.format) + "/tensor/fixed(" + std::to_string(static_cast<int>(c.largest)) + ")" +
                          (c.saturates() ? "" : "/nosat"));
  problem.schemes.k = problem.schemes.v = quant::parse_scheme("e4m3/tensor");
  problem.schemes.p = kernels::parse_prob_scheme("e4m3");
  if (const kernels::Support can = backend.supports(problem); !can)
    throw quant::Error(quant::ErrorKind::unavailable, problem.to_string() + ": " + can.reason);
  const auto prepared = backend.prepare(problem, {});
  quant::Tensor key(kernels::DType::f32, kernels::Shape{1, 16, heads, dim}),
      q(kernels::DType::f32, kernels::Shape{1, rows, heads, dim});
  for (float& x : key.view<float>().span()) x = 1;
  const kernels::DeviceTensor k = backend.upload(key);
  const std::uint64_t total = (patterns + step - 1) / step;
  Tally tally;
  for (std::uint64_t start = 0; start < total; start += at_once) {
    const std::uint64_t n = std::min(at_once, total - start);
    std::vector<Expected> parts(64);
    const std::uint64_t part = at_once / parts.size();
#pragma omp parallel for schedule(dynamic)
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::uint64_t first = i * part;
      if (first < n) parts[i] = expect(c, (start + first) * step, step, static_cast<std::size_t>(std::min(part, n - first)));
    }
    const auto dst = q.view<float>().span();
    std::fill(dst.begin(), dst.end(), 0.0F);
    for (std::size_t i = 0; i < parts.size(); ++i)
      std::copy(parts[i].values.begin(), parts[i].values.end(), dst.begin() + static_cast<std::ptrdiff_t>(i * part));
    QCodes sink(backend);
    const kernels::AttentionResult result = backend.attention(*prepared, {backend.upload(q), k, k, {}, {}, {}, {}}, &sink);
    CodeCounts counts;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      counts += parts[i].counts;
      tally.add(compare(parts[i], reinterpret_cast<const std::uint8_t*>(sink.codes.raw()) + i * part, nullptr));
    }
    counts.elements = static_cast<std::int64_t>(at_once);  // zeros behind the last pattern included
    if (!(counts == result.q) && tally.mismatches++ == 0) tally.first = std::bit_cast<std::uint32_t>(dst[0]);
  }
  return report("backend " + std::string(backend.info().name), c, tally);
}

int usage() {
  std::fprintf(stderr, "usage: every_f32 [cpu|gpu|reference] [--step ODD]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  std::string name;
  std::uint64_t step = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--step" && i + 1 < argc) {
      const std::string_view text = argv[++i];
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), step);
      if (error != std::errc() || end != text.data() + text.size() || step % 2 == 0 || step > patterns) return usage();
    } else if (name.empty() && !word.starts_with("-")) {
      name = word;
    } else {
      return usage();
    }
  }
  try {
    std::unique_ptr<kernels::Backend> backend = name.empty() ? nullptr : kernels::make_backend(name);
    if (backend) {
      if (const kernels::Support here = backend->available(); !here) {
        std::fprintf(stderr, "backend %s isn't here: %s\n", name.c_str(), here.reason.c_str());
        return 4;
      }
    }
    bool good = true;
    for (const Case& c : cases) good = (backend ? in_backend(*backend, c, step) : codecs(c, step)) && good;
    return good ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 5;
  }
}
