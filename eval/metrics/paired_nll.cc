// Paired difference of NLL with the full-precision run: d = NLL_test - NLL_base per token.
// mean d is the logarithm of the perplexity ratio. Blind to: changes that help as often as they hurt.
#include <cmath>

#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

namespace {

std::optional<double> correlation(const TokenData& data) {
  double n = 0, mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
  for (const WindowTokens& window : data.windows)
    for (const kernels::TokenComparison& t : window) {
      n += 1;
      const double dx = t.nll_base - mean_x, dy = t.nll_test - mean_y;
      mean_x += dx / n;
      mean_y += dy / n;
      xx += dx * (t.nll_base - mean_x);
      yy += dy * (t.nll_test - mean_y);
      xy += dx * (t.nll_test - mean_y);
    }
  if (!(xx > 0) || !(yy > 0)) return std::nullopt;
  return xy / std::sqrt(xx * yy);
}

}  // namespace

std::vector<Metric> paired_nll(const TokenData& data) {
  const Metric difference =
      mean_metric(data, "nll.difference", "nats", [](const kernels::TokenComparison& t) { return t.nll_test - t.nll_base; });
  const Metric base = mean_metric(data, "", "", [](const kernels::TokenComparison& t) { return t.nll_base; });
  const Metric test = mean_metric(data, "", "", [](const kernels::TokenComparison& t) { return t.nll_test; });
  Metric rise{"perplexity.difference", std::exp(*test.value) - std::exp(*base.value), std::nullopt, "",
              "difference of two exponentials; its interval is perplexity.ratio's"};
  return {exponentiated(difference, "perplexity.ratio", "ratio"), difference, rise,
          Metric{"nll.correlation", correlation(data), std::nullopt, "", ""}};
}

}  // namespace qfid::eval
