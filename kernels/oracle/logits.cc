// Comparison of two rows of logits by the definitions, in long double.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/oracle/oracle.h"

namespace qfid::kernels::oracle {

namespace {

std::vector<long double> log_probabilities(std::span<const float> x) {
  const auto top = static_cast<long double>(*std::max_element(x.begin(), x.end()));
  long double sum = 0;
  for (float value : x) sum += std::exp(static_cast<long double>(value) - top);
  std::vector<long double> all;
  for (float value : x) all.push_back(static_cast<long double>(value) - top - std::log(sum));
  return all;
}

/// Indices by falling logit, ties by rising index.
std::vector<std::int32_t> ranked(std::span<const float> x) {
  std::vector<std::int32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return x[static_cast<std::size_t>(a)] > x[static_cast<std::size_t>(b)];
  });
  return order;
}

/// KL(a || b) = sum a (e^d - 1 - d), d = ln b - ln a.
long double divergence(const std::vector<long double>& a, const std::vector<long double>& b) {
  long double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::exp(a[i]) * (std::expm1(b[i] - a[i]) - (b[i] - a[i]));
  return sum;
}

}  // namespace

TokenComparison compare_logits(std::span<const float> base, std::span<const float> test, std::int32_t target) {
  const std::vector<long double> p = log_probabilities(base), q = log_probabilities(test);
  std::vector<long double> middle;  // ln m = ln p + ln(1 + (e^(ln q - ln p) - 1) / 2)
  for (std::size_t i = 0; i < p.size(); ++i) middle.push_back(p[i] + std::log1p(std::expm1(q[i] - p[i]) / 2));
  const std::vector<std::int32_t> by_base = ranked(base), by_test = ranked(test);
  const std::size_t k = std::min<std::size_t>(5, base.size());
  std::int64_t shared = 0;
  for (std::size_t i = 0; i < k; ++i)
    shared += std::count(by_test.begin(), by_test.begin() + static_cast<std::ptrdiff_t>(k), by_base[i]);
  const auto at = static_cast<std::size_t>(target), first = static_cast<std::size_t>(by_base[0]);
  TokenComparison c{};
  c.nll_base = static_cast<double>(-p[at]);
  c.nll_test = static_cast<double>(-q[at]);
  c.kl = static_cast<double>(divergence(p, q));
  c.kl_reverse = static_cast<double>(divergence(q, p));
  c.jsd = static_cast<double>((divergence(p, middle) + divergence(q, middle)) / 2);
  c.p_base = static_cast<float>(std::exp(p[at]));
  c.p_test = static_cast<float>(std::exp(q[at]));
  c.top_p_base = static_cast<float>(std::exp(p[first]));
  c.margin_base = base.size() < 2 ? INFINITY : base[first] - base[static_cast<std::size_t>(by_base[1])];
  c.top5_overlap = static_cast<float>(shared) / static_cast<float>(k);
  c.top1_base = by_base[0];
  c.top1_test = by_test[0];
  c.target = target;
  return c;
}

}  // namespace qfid::kernels::oracle
