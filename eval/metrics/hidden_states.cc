#include "eval/metrics/hidden_states.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "eval/metrics/interval.h"
#include "eval/metrics/token_metrics.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

struct Products {
  double xx = 0, yy = 0, xy = 0, error = 0;

  template <class X, class Y>
  void add(const X* x, const Y* y, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      const auto a = static_cast<double>(x[i]), b = static_cast<double>(y[i]);
      xx += a * a;
      yy += b * b;
      xy += a * b;
      error += (b - a) * (b - a);
    }
  }

  /// 1 - cos, as half the squared distance of the two directions: 1 - xy / sqrt(xx yy) would cancel. With c = |x| / |y|,
  /// |y c - x|^2 / (2 |x|^2).
  template <class X, class Y>
  double cosine_distance(const X* x, const Y* y, std::int64_t n) const {
    const double c = std::sqrt(xx / yy);
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double d = static_cast<double>(y[i]) * c - static_cast<double>(x[i]);
      sum += d * d;
    }
    return sum / (2 * xx);
  }
};

void require_usable(const Products& p, const std::string& where) {
  if (!std::isfinite(p.xx) || !std::isfinite(p.yy) || !std::isfinite(p.error))
    throw quant::Error(quant::ErrorKind::input, "non-finite hidden states: " + where);
  if (p.xx == 0 || p.yy == 0)
    throw quant::Error(quant::ErrorKind::input, where + ": a hidden state is all zeros, which has no direction");
}

template <class F>
std::vector<std::vector<double>> by_token(const HiddenData& data, F f) {
  std::vector<std::vector<double>> all;
  for (const std::vector<HiddenToken>& window : data.windows) {
    std::vector<double>& own = all.emplace_back();
    for (const HiddenToken& token : window) own.push_back(f(token));
  }
  return all;
}

Metric sqnr(const Metric& nmse) {
  Metric metric{"hidden.sqnr", std::nullopt, std::nullopt, "dB", nmse.note};
  if (nmse.value && *nmse.value > 0)
    metric.value = -10 * std::log10(*nmse.value);
  else
    metric.note = "no error";
  if (metric.value && nmse.ci && nmse.ci->low > 0)
    metric.ci = Interval{-10 * std::log10(nmse.ci->high), -10 * std::log10(nmse.ci->low)};
  return metric;
}

}  // namespace

void add_hidden_window(HiddenData& data, const quant::Tensor& x, const quant::Tensor& y, std::int64_t w,
                       const std::vector<bool>& counts) {
  quant::require(x.shape() == y.shape() && static_cast<std::size_t>(x.shape()[1]) == counts.size(),
                 "add_hidden_window: shapes differ");
  const std::int64_t length = x.shape()[1], hidden = x.shape()[2];
  std::vector<double> mean_x(static_cast<std::size_t>(hidden)), mean_y(static_cast<std::size_t>(hidden));
  std::vector<HiddenToken> tokens;
  for (std::int64_t t = 0; t < length; ++t) {
    if (!counts[static_cast<std::size_t>(t)]) continue;
    const float* a = x.view<float>().data() + (w * length + t) * hidden;
    const float* b = y.view<float>().data() + (w * length + t) * hidden;
    Products p;
    p.add(a, b, hidden);
    require_usable(p, "position " + std::to_string(t));
    tokens.push_back({p.error / p.xx, p.cosine_distance(a, b, hidden)});
    for (std::int64_t i = 0; i < hidden; ++i) {
      mean_x[static_cast<std::size_t>(i)] += static_cast<double>(a[i]);
      mean_y[static_cast<std::size_t>(i)] += static_cast<double>(b[i]);
    }
  }
  Products p;
  p.add(mean_x.data(), mean_y.data(), hidden);
  require_usable(p, "the mean over tokens");
  data.pooled.push_back(p.cosine_distance(mean_x.data(), mean_y.data(), hidden));
  data.windows.push_back(std::move(tokens));
}

WindowSums hidden_window_sums(const HiddenData& data) {
  WindowSums sums;
  for (const std::vector<HiddenToken>& window : data.windows) {
    double nmse = 0, cosine = 0;
    for (const HiddenToken& token : window) {
      nmse += token.nmse;
      cosine += token.cosine_distance;
    }
    sums.tokens.push_back(static_cast<std::int64_t>(window.size()));
    sums.nmse.push_back(nmse);
    sums.cosine_distance.push_back(cosine);
  }
  sums.pooled_cosine_distance = data.pooled;
  return sums;
}

std::vector<Metric> hidden_metrics(const HiddenData& data) {
  const WindowSums sums = hidden_window_sums(data);
  const auto mean = [&](const char* name, const std::vector<double>& of, const std::vector<std::int64_t>& counts) {
    return mean_metric(name, "", of, counts, data.confidence);
  };
  const Metric nmse = mean("hidden.nmse.mean", sums.nmse, sums.tokens);
  std::vector<Metric> all{nmse, sqnr(nmse)};
  add_percentiles(all, "hidden.nmse", "", by_token(data, [](const HiddenToken& t) { return t.nmse; }), data.confidence);
  all.push_back(mean("hidden.cosine_distance.mean", sums.cosine_distance, sums.tokens));
  add_percentiles(all, "hidden.cosine_distance", "", by_token(data, [](const HiddenToken& t) { return t.cosine_distance; }),
                  data.confidence);
  all.push_back(mean("hidden.pooled.cosine_distance.mean", data.pooled, std::vector<std::int64_t>(data.pooled.size(), 1)));
  all.push_back({"hidden.pooled.cosine_distance.max", *std::max_element(data.pooled.begin(), data.pooled.end()),
                 std::nullopt, "", "an extreme: no interval"});
  return all;
}

TokenSeries hidden_series(const HiddenData& data) {
  TokenSeries series;
  for (const std::vector<HiddenToken>& window : data.windows)
    for (const HiddenToken& token : window) {
      series.nmse.push_back(static_cast<float>(token.nmse));
      series.cosine_distance.push_back(static_cast<float>(token.cosine_distance));
    }
  return series;
}

}  // namespace qfid::eval
