// The distribution of KL over tokens: a mean hides whether all tokens moved a little or few a lot.
#include <algorithm>
#include <cmath>
#include <format>

#include "eval/metrics/interval.h"
#include "eval/report/findings.h"
#include "eval/report/format.h"
#include "eval/report/html_sections.h"
#include "eval/report/quality.h"

namespace qfid::eval {

namespace {

constexpr int bins = 72;
constexpr double least_decade = -12;  ///< below is rounding

struct Sample {
  const RunRecord* run;
  std::vector<double> kl;
  double low = 0, median = 0, high = 0, largest = 0;  ///< quantiles 0.002, 0.5, 0.99, 1
};

/// All targets of all models whose tokens are known.
std::vector<std::vector<Sample>> samples_of(const ExperimentRecord& record) {
  std::vector<std::vector<Sample>> all;
  for (const ModelRecord& model : record.models) {
    std::vector<Sample>& samples = all.emplace_back();
    for (const TargetFinding& finding : worst_first(record, model.name)) {
      const TokenSeries& tokens = finding.run->tokens;
      const std::vector<float>& kl = quality_of(record).ratio ? tokens.kl : tokens.nmse;
      if (kl.empty()) continue;
      Sample sample{finding.run, {kl.begin(), kl.end()}};
      std::erase_if(sample.kl, [](double value) { return !std::isfinite(value); });
      if (sample.kl.empty()) continue;
      sample.low = quantile(sample.kl, 0.002);
      sample.median = quantile(sample.kl, 0.5);
      sample.high = quantile(sample.kl, 0.99);
      sample.largest = quantile(sample.kl, 1);
      samples.push_back(std::move(sample));
    }
    std::stable_sort(samples.begin(), samples.end(), [](const Sample& a, const Sample& b) { return a.median > b.median; });
  }
  return all;
}

Distribution distribution_of(const Sample& sample, const DistributionChart& chart) {
  Distribution row{sample.run->target, "", std::vector<double>(bins, 0.0), {}};
  for (const double value : sample.kl) {
    const double decade = value > 0 ? std::log10(value) : chart.low_decade;
    const double share = (decade - chart.low_decade) / (chart.high_decade - chart.low_decade);
    row.counts[static_cast<std::size_t>(std::clamp(static_cast<int>(share * bins), 0, bins - 1))] += 1;
  }
  row.note = "median " + shown_number(sample.median);
  row.marks = {{"50 %", sample.median}, {"99 %", sample.high}};
  return row;
}

}  // namespace

void add_kl_distribution(Html& page, const ExperimentRecord& record) {
  const std::vector<std::vector<Sample>> all = samples_of(record);
  double low = 1, high = -INFINITY;
  for (const auto& samples : all)
    for (const Sample& sample : samples) {
      if (sample.low > 0) low = std::min(low, std::log10(sample.low));
      if (sample.largest > 0) high = std::max(high, std::log10(sample.largest));
    }
  if (!std::isfinite(high)) return;
  low = std::max(least_decade, std::floor(std::min(low, high - 1)));
  high = std::max(std::ceil(high), low + 1);
  const bool scored = quality_of(record).ratio;
  open_section(page, "kl", scored ? "KL of single tokens" : "NMSE of single tokens");
  page.leaf("p", std::string("How far each ") + (scored ? "predicted distribution" : "token's last hidden state") +
                     " moved from full precision's. Logarithmic axis; each row is scaled to its own height, what lies below "
                     "the axis is counted at its left end. A long right tail means that few tokens carry the damage.");
  for (std::size_t m = 0; m < all.size(); ++m) {
    DistributionChart chart{std::string(scored ? "KL(baseline\xE2\x80\x96target)" : "NMSE") + " over tokens" +
                                (record.models.size() > 1 ? ", " + record.models[m].name : std::string()),
                            "",
                            scored ? "nats, logarithmic" : "logarithmic",
                            low,
                            high,
                            {}};
    for (const Sample& sample : all[m]) {
      chart.rows.push_back(distribution_of(sample, chart));
      chart.description +=
          std::format("{}: median {}, 99th percentile {}. ", chart.rows.back().name,
                      shown_number(chart.rows.back().marks[0].second), shown_number(chart.rows.back().marks[1].second));
    }
    add_distributions(page, chart);
  }
  page.close();
}

}  // namespace qfid::eval
