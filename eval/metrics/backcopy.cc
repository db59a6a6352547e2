#include "eval/metrics/backcopy.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <functional>

#include "eval/metrics/interval.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

/// A part's ratio of sums with its interval over windows; null where no window has any of it.
Metric part_metric(std::string name, std::string unit, std::span<const double> sums, std::span<const double> counts,
                   double confidence, const char* empty) {
  Metric metric{std::move(name), std::nullopt, std::nullopt, std::move(unit), ""};
  double all = 0;
  for (const double count : counts) all += count;
  if (!(all > 0)) {
    metric.note = empty;
    return metric;
  }
  const ClusteredMean mean = clustered_ratio(sums, counts, confidence);
  metric.value = mean.mean;
  metric.ci = mean.interval;
  if (!metric.ci) metric.note = "no interval below " + std::to_string(min_windows_for_interval) + " windows";
  return metric;
}

/// ln p, of what lies below the smallest normal f32 that, as attention_summary has it.
double log_probability(float p) { return std::log(static_cast<double>(std::max(p, FLT_MIN))); }

Metric excess_risk(const TokenData& tokens, std::span<const BackcopyWindow> task, bool copy) {
  std::vector<double> sums, counts;
  for (std::size_t w = 0; w < tokens.windows.size(); ++w) {
    const WindowTokens& window = tokens.windows[w];
    quant::require(window.size() == task[w].trigger.size(), "bigram-backcopy: a window isn't scored at every position");
    double sum = 0, count = 0;
    for (std::size_t t = 0; t < window.size(); ++t) {
      if (task[w].trigger[t] != copy) continue;
      sum += window[t].nll_test - task[w].oracle_nll[t];
      count += 1;
    }
    sums.push_back(sum);
    counts.push_back(count);
  }
  return part_metric(std::string("backcopy.excess_risk.") + (copy ? "copy" : "bigram"), "nats", sums, counts,
                     tokens.confidence, "no such query in these windows");
}

}  // namespace

BackcopyMeasures::Sums& BackcopyMeasures::of(std::size_t window) {
  if (windows_.size() <= window) windows_.resize(window + 1);
  return windows_[window];
}

void BackcopyMeasures::add_attention(std::size_t window, std::span<const float> probs, const BackcopyWindow& task) {
  const std::size_t length = task.trigger.size(), heads = probs.size() / (length * length);
  quant::require(probs.size() == heads * length * length, "bigram-backcopy: attention of another length than the window");
  Sums& sums = of(window);
  for (std::size_t h = 0; h < heads; ++h)
    for (std::size_t q = 1; q < length; ++q) {
      const float* row = probs.data() + (h * length + q) * length;
      (task.trigger[q] ? sums.attention_copy : sums.attention_bigram).add(static_cast<double>(row[0]));
      if (task.trigger[q] || q < 2) continue;
      double others = 0;
      for (std::size_t k = 1; k < q; ++k) others += log_probability(row[k]);
      sums.gap.add(log_probability(row[0]) - others / static_cast<double>(q - 1));
    }
}

void BackcopyMeasures::add_norms(std::size_t window, std::span<const double> v, std::span<const double> gated,
                                 std::span<const double> residual) {
  Sums& sums = of(window);
  const auto add = [&](std::span<const double> norms, Sum& first, Sum& others) {
    const std::size_t heads = norms.size() / residual.size();
    for (std::size_t i = 0; i < norms.size(); ++i) (i < heads ? first : others).add(norms[i]);
  };
  add(v, sums.v_first, sums.v_others);
  add(gated, sums.gated_first, sums.gated_others);
  add(residual, sums.residual_first, sums.residual_others);
}

std::vector<Metric> BackcopyMeasures::metrics(const TokenData& tokens, std::span<const BackcopyWindow> task,
                                              double risk_bigram, double risk_copy) const {
  std::vector<Metric> all{excess_risk(tokens, task, false), excess_risk(tokens, task, true)};
  all.push_back({"backcopy.oracle_risk.bigram", risk_bigram, std::nullopt, "nats", ""});
  all.push_back({"backcopy.oracle_risk.copy", risk_copy, std::nullopt, "nats", ""});
  if (windows_.empty()) return all;
  const auto add = [&](const std::string& name, const char* unit, const std::function<Sum(const Sums&)>& of_window) {
    std::vector<double> sums, counts;
    for (const Sums& window : windows_) {
      sums.push_back(of_window(window).sum);
      counts.push_back(of_window(window).count);
    }
    all.push_back(
        part_metric("backcopy." + name, unit, sums, counts, tokens.confidence, "no such query in the sampled windows"));
  };
  add("attention_to_first.bigram", "share", &Sums::attention_bigram);
  add("attention_to_first.copy", "share", &Sums::attention_copy);
  add("delta_logit.bigram", "nats", &Sums::gap);
  const auto add_norms = [&](const std::string& name, Sum Sums::* first, Sum Sums::* others) {
    add(name + ".first", "", first);
    add(name + ".others", "", others);
    add(name + ".ratio", "ratio",
        [&](const Sums& s) { return Sum{(s.*first).sum / (s.*first).count, (s.*others).sum / (s.*others).count}; });
  };
  add_norms("value_norm", &Sums::v_first, &Sums::v_others);
  add_norms("gated_value_norm", &Sums::gated_first, &Sums::gated_others);
  add_norms("residual_norm", &Sums::residual_first, &Sums::residual_others);
  return all;
}

void BackcopyMeasures::log(quant::ByteWriter& to, std::size_t first) const {
  to.number<std::uint64_t>(first);
  to.list(std::span<const Sums>(windows_).subspan(std::min(first, windows_.size())));
}

void BackcopyMeasures::replay(quant::ByteReader& from) {
  const auto first = static_cast<std::size_t>(from.number<std::uint64_t>());
  const std::vector<Sums> added = from.list<Sums>();
  quant::ByteReader::check(first <= windows_.size() || added.empty());
  for (std::size_t i = 0; i < added.size(); ++i) {
    // A window whose numbers come from another chunk is all zeros here, and adding them changes nothing.
    Sums& sums = of(first + i);
    for (Sum Sums::* part : {&Sums::attention_bigram, &Sums::attention_copy, &Sums::gap, &Sums::v_first, &Sums::v_others,
                             &Sums::gated_first, &Sums::gated_others, &Sums::residual_first, &Sums::residual_others}) {
      (sums.*part).sum += (added[i].*part).sum;
      (sums.*part).count += (added[i].*part).count;
    }
  }
}

}  // namespace qfid::eval
