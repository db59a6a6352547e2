// The model-level measures on tokens whose numbers can be worked out by hand, and what each can't see.
#include "eval/metrics/token_metrics.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "quant/core/random.h"

using namespace qfid;
using namespace qfid::eval;
using kernels::TokenComparison;

namespace {

Metric named(const std::vector<Metric>& all, const std::string& name) {
  for (const Metric& metric : all)
    if (metric.name == name) return metric;
  FAIL("no metric " << name);
  return {};
}
double value(const TokenData& data, const std::string& name) {
  return named(compute_token_metrics(data), name).value.value();
}

bool near(double a, double b) { return std::fabs(a - b) <= 1e-12 * std::fmax(1, std::fabs(b)); }

/// Two windows: three tokens and one.
TokenData some_tokens() {
  TokenData data;
  data.windows.resize(2);
  TokenComparison t{};
  t.nll_base = 1, t.nll_test = 1.5, t.kl = 0.1, t.kl_reverse = 0.2, t.jsd = 0.01, t.p_base = 0.5F, t.p_test = 0.25F;
  t.top_p_base = 0.5F, t.margin_base = 1, t.top5_overlap = 1, t.top1_base = 7, t.top1_test = 8, t.target = 7;
  data.windows[0].push_back(t);  // right, then wrong; decided
  t.nll_base = 2, t.nll_test = 1, t.kl = 0.3, t.kl_reverse = 0.1, t.jsd = 0.02, t.p_base = 0.25F, t.p_test = 0.5F;
  t.top_p_base = 0.25F, t.margin_base = 0.5F, t.top5_overlap = 0.6F, t.top1_base = 7, t.top1_test = 8, t.target = 8;
  data.windows[0].push_back(t);  // wrong, then right; a near-tie
  t.nll_base = 3, t.nll_test = 3, t.kl = 0, t.kl_reverse = 0, t.jsd = 0, t.p_base = t.p_test = 0.125F;
  t.top_p_base = 0.2499F, t.margin_base = 0.1F, t.top5_overlap = 1, t.top1_base = 1, t.top1_test = 2, t.target = 3;
  data.windows[0].push_back(t);  // wrong both times, differently
  t.nll_base = 0, t.nll_test = 0.25, t.kl = 0.2, t.kl_reverse = 0.3, t.jsd = 0.05, t.p_base = 1, t.p_test = 0.75F;
  t.top_p_base = 1, t.margin_base = 5, t.top5_overlap = 0.2F, t.top1_base = 4, t.top1_test = 4, t.target = 4;
  data.windows[1].push_back(t);  // right both times
  return data;
}

}  // namespace

TEST_CASE("means and ratios of four tokens, by hand") {
  const TokenData data = some_tokens();
  CHECK(near(value(data, "nll.mean"), 5.75 / 4));
  CHECK(near(value(data, "nll.difference"), (0.5 - 1 + 0 + 0.25) / 4));
  CHECK(near(value(data, "perplexity.ratio"), std::exp(-0.0625)));
  CHECK(near(value(data, "kl.mean"), 0.15));
  CHECK(near(value(data, "kl_reverse.mean"), 0.15));
  CHECK(near(value(data, "jsd.mean"), 0.02));
  CHECK(near(value(data, "delta_p.mean"), -0.0625));
  CHECK(near(value(data, "delta_p.rms"), std::sqrt(3 * 0.0625 / 4)));
  CHECK(near(value(data, "top5.overlap"), (1 + static_cast<double>(0.6F) + 1 + static_cast<double>(0.2F)) / 4));
}

TEST_CASE("flips: for better, for worse, decided") {
  const TokenData data = some_tokens();
  CHECK(value(data, "top1.agreement") == 0.25);
  CHECK(value(data, "top1.flips") == 0.75);
  CHECK(value(data, "top1.decided_flips.m2") == 0.25);
  CHECK(value(data, "top1.correct_to_wrong") == 0.25);
  CHECK(value(data, "top1.wrong_to_correct") == 0.25);
}

TEST_CASE("percentiles lie linearly between order statistics; delta_p keeps its sign") {
  const TokenData data = some_tokens();  // KL 0 .1 .2 .3
  CHECK(value(data, "kl.min") == 0);
  CHECK(value(data, "kl.max") == 0.3);
  CHECK(near(value(data, "kl.median"), 0.15));
  CHECK(near(value(data, "kl.p0.1"), 0.0003));
  CHECK(near(value(data, "kl.p1"), 0.003));
  CHECK(near(value(data, "kl.p5"), 0.015));
  CHECK(near(value(data, "kl.p10"), 0.03));
  CHECK(near(value(data, "kl.p25"), 0.075));
  CHECK(near(value(data, "kl.p75"), 0.225));
  CHECK(near(value(data, "kl.p90"), 0.27));
  CHECK(near(value(data, "kl.p95"), 0.285));
  CHECK(near(value(data, "kl.p99"), 0.297));
  CHECK(near(value(data, "kl.p99.9"), 0.2997));
  CHECK(value(data, "delta_p.min") == -0.25);  // -.25 -.25 0 .25
  CHECK(value(data, "delta_p.p10") == -0.25);
  CHECK(value(data, "delta_p.median") == -0.125);
  CHECK(near(value(data, "delta_p.p90"), 0.175));
  CHECK(value(data, "delta_p.max") == 0.25);
}

TEST_CASE("buckets of confidence: edges belong to the upper one, the last holds 1, empty ones are null") {
  const std::vector<Metric> all = compute_token_metrics(some_tokens());
  CHECK(*named(all, "top_p.0-0.25.share").value == 0.25);  // .2499
  CHECK(*named(all, "top_p.0-0.25.kl").value == 0);
  CHECK(*named(all, "top_p.0.25-0.5.share").value == 0.25);
  CHECK(*named(all, "top_p.0.25-0.5.kl").value == 0.3);
  CHECK(*named(all, "top_p.0.25-0.5.nll.difference").value == -1);
  CHECK(*named(all, "top_p.0.5-0.75.kl").value == 0.1);
  CHECK(*named(all, "top_p.0.5-0.75.nll.difference").value == 0.5);
  CHECK(*named(all, "top_p.0.75-0.95.share").value == 0);
  CHECK_FALSE(named(all, "top_p.0.75-0.95.kl").value);
  CHECK(named(all, "top_p.0.75-0.95.kl").note == "no tokens");
  CHECK(*named(all, "top_p.0.95-1.kl").value == 0.2);
  double mean = 0;  // shares times means give the mean back
  for (const char* range : {"0-0.25", "0.25-0.5", "0.5-0.75", "0.75-0.95", "0.95-1"})
    mean += *named(all, std::string("top_p.") + range + ".share").value *
            named(all, std::string("top_p.") + range + ".kl").value.value_or(0);
  CHECK(near(mean, *named(all, "kl.mean").value));
}

TEST_CASE("a bucket has an interval only where 16 windows have tokens in it") {
  TokenData data;
  data.windows.assign(20, WindowTokens(2));
  for (std::size_t w = 0; w < 20; ++w) {
    data.windows[w][0].top_p_base = w < 15 ? 0.1F : 0.3F;
    data.windows[w][1].top_p_base = 0.8F;
    for (TokenComparison& t : data.windows[w]) t.kl = 0.1 * static_cast<double>(w);
  }
  const std::vector<Metric> all = compute_token_metrics(data);
  CHECK_FALSE(named(all, "top_p.0-0.25.kl").ci);
  CHECK(named(all, "top_p.0-0.25.kl").note == "15 tokens in 15 windows, no interval below 16");
  CHECK(named(all, "top_p.0.75-0.95.kl").ci);
  CHECK(named(all, "top_p.0.75-0.95.kl").note == "20 tokens");
}

TEST_CASE("perplexity by word and byte: sums of documents over sums of their counts, by hand") {
  TokenData data = some_tokens();  // windows of NLL 5.5 and 0.25
  data.documents = {{1, 2, 11}, {0, 1, 0}, {1, 4, 20}};
  CHECK(near(value(data, "word_perplexity"), std::exp(5.75 / 7)));
  CHECK(near(value(data, "byte_perplexity"), std::exp(5.75 / 31)));
  CHECK(near(value(data, "bits_per_byte"), 5.75 / 31 / std::log(2.0)));
  CHECK(named(compute_token_metrics(data), "word_perplexity").note == "no interval below 16 documents");
  double rise = 0;
  for (const WindowTokens& window : data.windows)
    for (const TokenComparison& t : window) rise += t.nll_test - t.nll_base;
  REQUIRE(rise != 0);
  CHECK(near(value(data, "word_perplexity.ratio"), std::exp(rise / 7)));
  CHECK(near(value(data, "byte_perplexity.ratio"), std::exp(rise / 31)));
  CHECK(near(value(data, "bits_per_byte.difference"), rise / 31 / std::log(2.0)));
  data.documents = {{1, 2, 11}, {2, 4, 20}};  // the second isn't complete: the run was stopped
  CHECK(near(value(data, "word_perplexity"), std::exp(5.5 / 2)));
  data.documents = {{3, 2, 11}};
  CHECK(!named(compute_token_metrics(data), "bits_per_byte").value);
  CHECK(named(compute_token_metrics(data), "bits_per_byte").note == "no complete document");
  data.documents.clear();
  for (const Metric& metric : compute_token_metrics(data)) CHECK(metric.name.find("word") == std::string::npos);
}

TEST_CASE("intervals by word and byte: documents are the units, whatever their number of windows") {
  TokenData data;
  for (int d = 0; d < 20; ++d) {  // 1 to 3 windows each; 2 nats a word, more or less
    const int windows = 1 + d % 3, words = 30 * windows + d;
    for (int w = 0; w < windows; ++w) {
      TokenComparison t{};
      t.nll_base = t.nll_test = 2.0 * words / windows * (1 + 0.1 * (d % 2 == 0 ? 1 : -1));
      data.windows.push_back({t});
    }
    data.documents.push_back({windows, words, 5 * words});
  }
  const std::vector<Metric> all = compute_token_metrics(data);
  const Metric word = named(all, "word_perplexity"), byte = named(all, "byte_perplexity"),
               bits = named(all, "bits_per_byte");
  REQUIRE(word.ci);
  CHECK(word.ci->low < *word.value);
  CHECK(*word.value < word.ci->high);
  CHECK(word.ci->low < std::exp(2.0));
  CHECK(std::exp(2.0) < word.ci->high);
  // Bytes are five to a word here, so the logarithms of one interval are five times the other's.
  CHECK(std::fabs(std::log(word.ci->low) - 5 * std::log(byte.ci->low)) < 1e-6);
  CHECK(std::fabs(std::log(byte.ci->high) - bits.ci->high * std::log(2.0)) < 1e-12);
  data.documents.assign(1, {static_cast<std::int64_t>(data.windows.size()), 600, 3000});
  CHECK(!named(compute_token_metrics(data), "word_perplexity").ci);
}

TEST_CASE("what each measure can't see") {
  const TokenData data = some_tokens();
  const auto unseen = [&](auto change, std::initializer_list<const char*> blind, std::initializer_list<const char*> sees) {
    TokenData other = data;
    for (WindowTokens& window : other.windows)
      for (TokenComparison& t : window) change(t);
    for (const char* name : blind) {
      CAPTURE(name);
      CHECK(value(other, name) == value(data, name));
    }
    for (const char* name : sees) {
      CAPTURE(name);
      CHECK(value(other, name) != value(data, name));
    }
  };
  // The target token's probability stays; the rest of the distribution is another.
  unseen([](TokenComparison& t) { t.kl *= 3, t.kl_reverse *= 3, t.jsd *= 3, t.top5_overlap *= 0.5F; },
         {"perplexity", "nll.difference", "delta_p.mean", "top1.agreement"}, {"kl.mean", "jsd.mean", "top5.overlap"});
  // One token gains what another loses.
  TokenData swapped = data;
  swapped.windows[0][0].nll_test += 1;
  swapped.windows[1][0].nll_test -= 1;
  CHECK(near(value(swapped, "nll.difference"), value(data, "nll.difference")));
  CHECK(value(swapped, "nll.correlation") != value(data, "nll.correlation"));
  // A shift of all NLL: the correlation doesn't move.
  unseen([](TokenComparison& t) { t.nll_test += 0.5; }, {"kl.mean", "top1.flips"}, {"nll.difference"});
  TokenData shifted = data;
  for (WindowTokens& window : shifted.windows)
    for (TokenComparison& t : window) t.nll_test = 2 * t.nll_base + 1;
  CHECK(near(value(shifted, "nll.correlation"), 1));
  // Flips among wrong tokens are neither for better nor for worse.
  unseen([](TokenComparison& t) { t.target = 99; }, {"top1.flips"}, {"top1.correct_to_wrong", "top1.wrong_to_correct"});
}

TEST_CASE("a percentile's interval: by hand, its coverage, and where there is none") {
  const auto data_of = [](const std::vector<std::vector<double>>& windows) {
    TokenData data;
    for (const std::vector<double>& window : windows)
      for (WindowTokens& tokens = data.windows.emplace_back(); const double value : window) {
        TokenComparison t{};
        t.kl = value;
        tokens.push_back(t);
      }
    return data;
  };
  const auto kl = [](const TokenComparison& t) { return t.kl; };
  const auto percentile = [&](const TokenData& data, const char* name) {
    std::vector<Metric> all;
    add_percentiles(all, "kl", "nats", data, kl);
    return named(all, name);
  };
  // 16 windows of one token each, 0 ... 15: the median 7.5, the share below it a mean of 8 ones and 8 zeros, whose standard
  // error is sqrt(16 / 15 * 16 / 4) / 16; t of 15 degrees at 97.5 % is 2.13145.
  std::vector<std::vector<double>> ladder;
  for (int i = 0; i < 16; ++i) ladder.push_back({static_cast<double>(i)});
  const Metric median = percentile(data_of(ladder), "kl.median");
  const double half = 2.131449546 * std::sqrt(16.0 / 15 * 4) / 16;
  REQUIRE(median.ci);
  CHECK(std::fabs(median.ci->low - 15 * (0.5 - half)) < 1e-6);
  CHECK(std::fabs(median.ci->high - 15 * (0.5 + half)) < 1e-6);
  CHECK(!percentile(data_of(ladder), "kl.p99").ci);  // sixteen tokens don't reach beyond it
  CHECK(!percentile(data_of(ladder), "kl.max").ci);
  ladder.pop_back();
  CHECK(!percentile(data_of(ladder), "kl.median").ci);
  CHECK(percentile(data_of(ladder), "kl.median").note == "no interval below 16 windows");

  // Tokens of a window share half of what moves them: intervals that took tokens as units would miss far more often.
  quant::Random random(5);
  int median_missed = 0, high_missed = 0;
  constexpr int trials = 400;
  for (int trial = 0; trial < trials; ++trial) {
    std::vector<std::vector<double>> windows(32);
    for (std::vector<double>& window : windows) {
      const double shared = random.normal();
      for (int i = 0; i < 24; ++i) window.push_back((shared + random.normal()) / std::sqrt(2.0));
    }
    const TokenData data = data_of(windows);  // the number's distribution is the standard normal one
    const Metric m = percentile(data, "kl.median"), h = percentile(data, "kl.p90");
    median_missed += !(m.ci->low <= 0 && 0 <= m.ci->high);
    high_missed += !(h.ci->low <= 1.2815515655 && 1.2815515655 <= h.ci->high);
  }
  // 5 % of 400 is 20, its standard deviation 4.4.
  CAPTURE(median_missed, high_missed);
  CHECK((median_missed >= 7 && median_missed <= 38));
  CHECK((high_missed >= 7 && high_missed <= 44));  // a little more: the share's error is skewed near an end
}
