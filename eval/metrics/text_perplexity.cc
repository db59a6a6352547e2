// Perplexity by word and by byte of the original text, and bits per byte, as lm-evaluation-harness has them: the sum of all
// NLL over the sum of all words (bytes). Independent of how the text was cut into tokens. Documents are the units: their
// (NLL, count) pairs are resampled (mean_test.h), because pages differ much in length.
// Blind to: any change that leaves the target tokens' probabilities alone.
#include <cmath>
#include <numbers>

#include "eval/metrics/interval.h"
#include "eval/metrics/mean_test.h"
#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

namespace {

/// NLL of each document whose windows are all there.
std::vector<double> document_sums(const TokenData& data) {
  const std::vector<double> windows = data.sums([](const kernels::TokenComparison& t) { return t.nll_test; });
  std::vector<double> sums;
  std::size_t next = 0;
  for (const ScoredDocument& document : data.documents) {
    if (next + static_cast<std::size_t>(document.windows) > windows.size()) break;
    double sum = 0;
    for (std::int64_t w = 0; w < document.windows; ++w) sum += windows[next++];
    sums.push_back(sum);
  }
  return sums;
}

/// NLL by unit of text, in nats.
Metric mean_by(const std::vector<double>& sums, const std::vector<std::int64_t>& counts, double confidence) {
  double nll = 0, units = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    nll += sums[i];
    units += static_cast<double>(counts[i]);
  }
  Metric metric{"", std::nullopt, std::nullopt, "nats", ""};
  if (!(units > 0)) {
    metric.note = "no complete document";
    return metric;
  }
  metric.value = nll / units;
  if (sums.size() >= min_windows_for_interval)
    metric.ci = MeanTest(sums, counts).limits((1 - confidence) / 2);
  else
    metric.note = "no interval below " + std::to_string(min_windows_for_interval) + " documents";
  return metric;
}

}  // namespace

std::vector<Metric> text_perplexity(const TokenData& data) {
  if (data.documents.empty()) return {};
  const std::vector<double> sums = document_sums(data);
  std::vector<std::int64_t> words, bytes;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    words.push_back(data.documents[i].words);
    bytes.push_back(data.documents[i].bytes);
  }
  const Metric by_byte = mean_by(sums, bytes, data.confidence);
  Metric bits = by_byte;
  bits.name = "bits_per_byte";
  bits.unit = "bits";
  if (bits.value) *bits.value /= std::numbers::ln2;
  if (bits.ci) bits.ci = Interval{bits.ci->low / std::numbers::ln2, bits.ci->high / std::numbers::ln2};
  return {exponentiated(mean_by(sums, words, data.confidence), "word_perplexity", ""),
          exponentiated(by_byte, "byte_perplexity", ""), bits};
}

}  // namespace qfid::eval
