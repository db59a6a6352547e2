// Bigram-backcopy's measures against numbers worked out by hand.
#include "eval/metrics/backcopy.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>

using namespace qfid::eval;

namespace {

/// Two queries of the bigram part around a trigger, then one more; losses above the task's own by .5, 2, 1, 0.
const BackcopyWindow task{{false, false, true, false}, {1.0, 0.5, 0.0, 0.25}};

TokenData tokens_of(int windows) {
  TokenData data;
  for (int w = 0; w < windows; ++w) {
    WindowTokens window(4);
    const double nll[] = {1.5 + 0.1 * w, 1.5, 2.0, 0.25};
    for (std::size_t t = 0; t < 4; ++t) window[t].nll_test = nll[t];
    data.windows.push_back(window);
  }
  return data;
}

const Metric* find(const std::vector<Metric>& all, const std::string& name) {
  for (const Metric& metric : all)
    if (metric.name == name) return &metric;
  return nullptr;
}

double value(const std::vector<Metric>& all, const std::string& name) {
  const Metric* metric = find(all, name);
  REQUIRE(metric != nullptr);
  REQUIRE(metric->value);
  return *metric->value;
}

bool close(double a, double b) { return std::abs(a - b) < 1e-6; }

}  // namespace

TEST_CASE("excess risk is what is lost above the task's own loss, part by part") {
  const std::vector<BackcopyWindow> windows(2, task);
  const std::vector<Metric> all = BackcopyMeasures().metrics(tokens_of(2), windows, 2.5, 0);
  // Bigram: (.5 + 1 + 0 + .6 + 1 + 0) / 6; copy: 2 twice.
  CHECK(close(value(all, "backcopy.excess_risk.bigram"), 3.1 / 6));
  CHECK(close(value(all, "backcopy.excess_risk.copy"), 2));
  CHECK(value(all, "backcopy.oracle_risk.bigram") == 2.5);
  CHECK(value(all, "backcopy.oracle_risk.copy") == 0);
  CHECK(find(all, "backcopy.attention_to_first.bigram") == nullptr);  // no window was sampled
  CHECK(find(all, "backcopy.excess_risk.bigram")->note == "no interval below 16 windows");
  const std::vector<BackcopyWindow> many(16, task);
  CHECK(BackcopyMeasures().metrics(tokens_of(16), many, 2.5, 0)[0].ci.has_value());
}

TEST_CASE("a part that no window holds is null and says so") {
  BackcopyWindow without = task;
  without.trigger[2] = false;
  const std::vector<BackcopyWindow> windows{without};
  const std::vector<Metric> all = BackcopyMeasures().metrics(tokens_of(1), windows, 2.5, 0);
  const Metric* copy = find(all, "backcopy.excess_risk.copy");
  REQUIRE(copy != nullptr);
  CHECK(!copy->value);
  CHECK(copy->note == "no such query in these windows");
}

TEST_CASE("attention to <s>, its logit, and norms, by part") {
  BackcopyMeasures measures;
  // Two heads; rows are queries. <s> itself, query 0, is no part of any mean.
  const std::vector<float> probs{1,    0,     0,     0,      //
                                 0.5F, 0.5F,  0,     0,      //
                                 0.1F, 0.8F,  0.1F,  0,      //
                                 0.8F, 0.05F, 0.05F, 0.1F,   //
                                 1,    0,     0,     0,      //
                                 0.9F, 0.1F,  0,     0,      //
                                 0.3F, 0.6F,  0.1F,  0,      //
                                 0.4F, 0.4F,  0.1F,  0.1F};  //
  measures.add_attention(0, probs, task);
  const std::vector<double> v{1, 3, 4, 5, 4, 5, 4, 5}, gated{0.5, 0.5, 4, 4, 4, 4, 4, 4}, residual{10, 1, 2, 3};
  measures.add_norms(0, v, gated, residual);
  const std::vector<BackcopyWindow> windows{task};
  const std::vector<Metric> all = measures.metrics(tokens_of(1), windows, 2.5, 0);
  CHECK(close(value(all, "backcopy.attention_to_first.bigram"), (0.5 + 0.8 + 0.9 + 0.4) / 4));
  CHECK(close(value(all, "backcopy.attention_to_first.copy"), (0.1 + 0.3) / 2));
  // Of query 3 alone, keys 1 and 2 beside it: ln(.8 / .05), and ln .4 - (ln .4 + ln .1) / 2.
  CHECK(close(value(all, "backcopy.delta_logit.bigram"), (std::log(16.0) + std::log(4.0) / 2) / 2));
  CHECK(close(value(all, "backcopy.value_norm.first"), 2));
  CHECK(close(value(all, "backcopy.value_norm.others"), 4.5));
  CHECK(close(value(all, "backcopy.value_norm.ratio"), 2 / 4.5));
  CHECK(close(value(all, "backcopy.gated_value_norm.ratio"), 0.125));
  CHECK(close(value(all, "backcopy.residual_norm.first"), 10));
  CHECK(close(value(all, "backcopy.residual_norm.ratio"), 5));
}

TEST_CASE("attention that vanishes ends at the smallest normal number") {
  BackcopyMeasures measures;
  const BackcopyWindow plain{{false, false, false}, {0, 0, 0}};
  const std::vector<float> probs{1, 0, 0, 1, 0, 0, 1, 0, 0};
  measures.add_attention(0, probs, plain);
  measures.add_norms(0, std::vector<double>{1, 1, 1}, std::vector<double>{1, 1, 1}, std::vector<double>{1, 1, 1});
  TokenData tokens;
  tokens.windows.push_back(WindowTokens(3));
  const std::vector<BackcopyWindow> windows{plain};
  CHECK(close(value(measures.metrics(tokens, windows, 0, 0), "backcopy.delta_logit.bigram"), 126 * std::log(2.0)));
}
