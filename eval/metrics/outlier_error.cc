#include "eval/metrics/outlier_error.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <map>
#include <numeric>
#include <set>
#include <string_view>
#include <tuple>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

std::vector<double> ranks(std::span<const double> x) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return x[a] < x[b]; });
  std::vector<double> all(x.size());
  for (std::size_t i = 0, end = 0; i < order.size(); i = end) {
    while (end < order.size() && x[order[end]] == x[order[i]]) ++end;
    for (std::size_t j = i; j < end; ++j) all[order[j]] = static_cast<double>(i + end - 1) / 2;
  }
  return all;
}

/// Numbers of one run's rows by place and column; where several rows stand for a place, the first that has the column.
class Cells {
 public:
  explicit Cells(const std::vector<LayerRow>& rows) {
    for (const LayerRow& row : rows)
      for (const auto& [column, value] : row.values)
        values_.try_emplace({row.layer, row.head, row.tap, row.error, column}, value);
  }
  std::optional<double> at(int layer, std::string_view tap, std::string_view error, int head,
                           std::string_view column) const {
    const auto found = values_.find({layer, head, tap, error, column});
    return found == values_.end() ? std::nullopt : found->second;
  }

 private:
  std::map<std::tuple<int, int, std::string_view, std::string_view, std::string_view>, std::optional<double>> values_;
};

struct Places {
  std::vector<double> outlier, error;
  void add(std::optional<double> x, std::optional<double> y) {
    if (!x || !y || std::isnan(*x) || std::isnan(*y)) return;
    outlier.push_back(*x);
    error.push_back(*y);
  }
  Metric metric(const std::string& name, const char* what) const {
    Metric metric{"outlier_error." + name, rank_correlation(outlier, error), std::nullopt, "",
                  std::format("over {} {}", outlier.size(), what)};
    if (!metric.value) metric.note += ": too few, or all equal";
    return metric;
  }
};

}  // namespace

std::optional<double> rank_correlation(std::span<const double> x, std::span<const double> y) {
  quant::require(x.size() == y.size(), "rank_correlation: unequal lengths");
  const auto nan = [](double v) { return std::isnan(v); };
  if (x.size() < 3 || std::ranges::any_of(x, nan) || std::ranges::any_of(y, nan)) return std::nullopt;  // NaN has no rank
  const std::vector<double> a = ranks(x), b = ranks(y);
  const double middle = static_cast<double>(x.size() - 1) / 2;
  double aa = 0, bb = 0, ab = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    aa += (a[i] - middle) * (a[i] - middle);
    bb += (b[i] - middle) * (b[i] - middle);
    ab += (a[i] - middle) * (b[i] - middle);
  }
  if (aa == 0 || bb == 0) return std::nullopt;
  return ab / std::sqrt(aa * bb);
}

std::vector<Metric> outlier_error(const std::vector<LayerRow>& baseline, const std::vector<LayerRow>& target) {
  std::set<int> layers;
  std::set<std::pair<int, int>> heads;  // of a layer
  for (const LayerRow& row : target) {
    if (row.error != "local") continue;
    if (row.layer >= 0) layers.insert(row.layer);
    if (row.layer >= 0 && row.head >= 0) heads.emplace(row.layer, row.head);
  }
  if (layers.empty()) return {};
  const Cells base(baseline), test(target);
  Places sink_nmse, sink_kl;
  for (const auto& [l, h] : heads) {
    const auto alpha = base.at(l, "attention_to_first", "none", h, "alpha0.q64");
    sink_nmse.add(alpha, test.at(l, "output", "local", h, "nmse"));
    sink_kl.add(alpha, test.at(l, "probs", "local", h, "kl"));
  }
  std::vector<Metric> all;
  for (const char* outlier : {"kurtosis", "inf_norm"}) {
    Places nmse, kl;
    for (const int l : layers) {
      const auto in = base.at(l, "attn_in", "none", -1, outlier), ffn = base.at(l, "ffn_in", "none", -1, outlier);
      for (const char* tap : {"q", "k", "v"}) nmse.add(in, test.at(l, tap, "local", -1, "nmse"));
      nmse.add(ffn, test.at(l, "ffn_act", "local", -1, "nmse"));
      kl.add(in, test.at(l, "probs", "local", -1, "kl"));
    }
    all.push_back(nmse.metric(std::string(outlier) + ".nmse", "linears (q, k, v, fc1 of each layer)"));
    all.push_back(kl.metric(std::string(outlier) + ".kl", "layers"));
  }
  all.push_back(sink_nmse.metric("sink.nmse", "heads"));
  all.push_back(sink_kl.metric("sink.kl", "heads"));
  return all;
}

}  // namespace qfid::eval
