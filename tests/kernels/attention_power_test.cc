// The power of the agreement tests: each single scale of a run, changed by 1 % in the expectation, must be seen.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <map>

#include "tests/kernels/attention_expectation.h"
#include "tests/support/tolerance.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

/// Plants faults and asks both judges, of single elements and of the gain over what the scale makes. A fault that no judge
/// could see, for the reason given; everything else must be seen.
///  - s_q, s_k: when every visible score it scales is exactly 0 (codes of zeros, masked keys or rows);
///  - s_v: when the whole channel of the context is exactly 0 (zero values, no visible key);
///  - p_scale, softmax scale: when that holds for the whole head;
///  - any, where all that it makes has cancelled to the size of the accumulator's own error (Gain::resolves(); never in
///  f32):
///    counted apart, and few.
class Planter {
 public:
  Planter(const Expectation& expected, const Case& c, std::int64_t b, std::int64_t h)
      : expected_(expected), c_(c), b_(b), h_(h), kv_head_(h / (c.q_heads / c.kv_heads)), head_(expected.head(b, h)) {
    row_moves_.assign(static_cast<std::size_t>(c.q_len), false);
    key_moves_.assign(static_cast<std::size_t>(c.kv_len), false);
    const std::vector<double> none(static_cast<std::size_t>(c.kv_len), 0.0);
    for (std::size_t i = 0; i < row_moves_.size(); ++i) {
      const oracle::CodedRow row = oracle::coded_row(head_.coded, static_cast<std::int64_t>(i), none);
      for (std::size_t j = 0; j < key_moves_.size(); ++j)
        if (row.score_magnitude[j] > 0) row_moves_[i] = key_moves_[j] = true;
    }
  }
  std::int64_t planted = 0, excluded = 0, beyond = 0;

  /// Names of the faults that nothing saw.
  std::vector<std::string> unseen() {
    std::vector<std::string> names;
    const Indices tokens = all(c_.q_len), keys = all(c_.kv_len), channels = all(c_.dv);
    const auto plant = [&](const std::string& name, std::vector<double>& scales, const Indices& which, bool visible,
                           const Part& part) {
      // Of many tokens, every seventh (no block size is a multiple of it) and the last.
      if (which.size() == 1 && scales.size() > 65 && which[0] % 7 != 0 && which[0] + 1 != scales.size()) return;
      if (!visible) {
        ++excluded;
        return;
      }
      ++planted;
      for (const std::size_t i : which) scales[i] *= fault;
      judge(name, part, names);
      for (const std::size_t i : which) scales[i] /= fault;
    };
    oracle::CodedHead& coded = head_.coded;
    for (const auto& [id, which] :
         by_granule(c_.q_len, [&](std::int64_t t) { return expected_.q_scales().granule(b_, t, h_, 0); }))
      plant("s_q of granule " + std::to_string(id), coded.q_scale, which, any(row_moves_, which), {false, which, keys});
    for (const auto& [id, which] :
         by_granule(c_.kv_len, [&](std::int64_t t) { return expected_.k_scales().granule(b_, t, kv_head_, 0); }))
      plant("s_k of granule " + std::to_string(id), coded.k_scale, which, any(key_moves_, which), {false, tokens, which});
    for (const auto& [id, which] :
         by_granule(c_.dv, [&](std::int64_t d) { return expected_.v_scales().granule(b_, 0, kv_head_, d); }))
      plant("s_v of granule " + std::to_string(id), coded.v_scale, which, values_move(which), {true, tokens, which});
    for (const auto& [name, scale, visible] : {std::tuple{"p_scale", &coded.p_scale, values_move(channels)},
                                               std::tuple{"softmax scale", &coded.scale, any(row_moves_, tokens)}}) {
      if (!visible) continue;
      ++planted;
      *scale *= fault;
      judge(name, {scale == &coded.p_scale, tokens, scale == &coded.p_scale ? channels : keys}, names);
      *scale /= fault;
    }
    return names;
  }

 private:
  using Indices = std::vector<std::size_t>;
  static Indices all(std::int64_t n) {
    Indices indices;
    for (std::int64_t i = 0; i < n; ++i) indices.push_back(static_cast<std::size_t>(i));
    return indices;
  }
  template <class F>
  static std::map<std::int64_t, Indices> by_granule(std::int64_t n, const F& granule) {
    std::map<std::int64_t, Indices> sets;
    for (std::int64_t i = 0; i < n; ++i) sets[granule(i)].push_back(static_cast<std::size_t>(i));
    return sets;
  }
  static bool any(const std::vector<bool>& moves, const Indices& which) {
    return std::any_of(which.begin(), which.end(), [&](std::size_t i) { return moves[i]; });
  }
  bool values_move(const Indices& channels) const {
    const Tensor& context = expected_.context();
    for (std::int64_t i = 0; i < c_.q_len; ++i)
      for (const std::size_t d : channels)
        if (context.view<float>()[((b_ * c_.q_len + i) * c_.q_heads + h_) * c_.dv + static_cast<std::int64_t>(d)] != 0.0F)
          return true;
    return false;
  }
  /// The last rows see the most keys: they are asked first.
  void judge(const std::string& name, const Part& part, std::vector<std::string>& unseen) {
    if (std::any_of(part.rows.rbegin(), part.rows.rend(),
                    [&](std::size_t i) { return !(head_.judge(static_cast<std::int64_t>(i)).worst() <= 1.0); }))
      return;
    const Gain gain = head_.gain(part);
    if (!(gain.excess() <= 1.0)) return;
    if (gain.resolves()) return unseen.push_back(name);
    ++beyond;
  }

  const Expectation& expected_;
  const Case& c_;
  std::int64_t b_, h_, kv_head_;
  HeadExpectation head_;
  std::vector<bool> row_moves_, key_moves_;  ///< whether any visible score of a row, of a key, isn't exactly 0
};

struct Planted {
  std::int64_t all = 0, beyond = 0;
};

void plant_everywhere(const NamedBackend& backend, const Named& scheme, const Case& c, Planted& planted) {
  const Inputs in = inputs_of(c, 18);
  const AttentionProblem p = problem_of(c, scheme.schemes);
  if (!backend->supports(p)) return;
  const AttentionRanges ranges = static_ranges(c, scheme.schemes);
  const Run r = run(*backend, p, in, true, ranges);
  const Expectation expected(backend.name, c, p, in, ranges, r);
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t h = 0; h < c.q_heads; ++h) {
      Planter planter(expected, c, b, h);
      const std::vector<std::string> unseen = planter.unseen();
      CAPTURE(backend.name, scheme.name, c.to_string(), b, h, planter.planted, planter.excluded, planter.beyond);
      std::string names;
      for (const std::string& name : unseen) names += name + "; ";
      CHECK(names == "");
      planted.all += planter.planted;
      planted.beyond += planter.beyond;
    }
}

}  // namespace

TEST_CASE("a 1 % fault in any one scale is seen, at every length and scheme") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : quantized_schemes()) {
      Planted planted;
      for (const Case& c : lengths()) plant_everywhere(backend, scheme, c, planted);
      CAPTURE(backend.name, scheme.name, planted.all, planted.beyond);
      CHECK(planted.all > 100);
      CHECK(planted.beyond <= planted.all / 50);
    }
}

TEST_CASE("a 1 % fault in any one scale is seen, in every variant") {
  for (const NamedBackend& backend : backends())
    for (const Named& scheme : quantized_schemes()) {
      Planted planted;
      for (Case c : variants()) {
        c.batch = std::min<std::int64_t>(c.batch, c.fill == "masked" ? 2 : 1);  // a masked window beside one that isn't
        plant_everywhere(backend, scheme, c, planted);
      }
      CAPTURE(backend.name, scheme.name, planted.all, planted.beyond);
      CHECK(planted.all > 100);
      CHECK(planted.beyond <= planted.all / 50);
    }
}
