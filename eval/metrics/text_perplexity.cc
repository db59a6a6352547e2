// Perplexity by word and by byte of the original text, and bits per byte, as lm-evaluation-harness has them: the sum of all
// NLL over the sum of all words (bytes). Independent of how the text was cut into tokens. Documents are the units: their
// (NLL, count) pairs are resampled (mean_test.h), because pages differ much in length.
// On a fixed text the ratio to the baseline's is a power of the perplexity ratio: ln word ratio = sum of NLL differences /
// words = (tokens / words) * ln perplexity ratio. Its units are documents nonetheless, and its interval is theirs.
// Blind to: any change that leaves the target tokens' probabilities alone.
#include <cmath>
#include <numbers>

#include "eval/metrics/interval.h"
#include "eval/metrics/mean_test.h"
#include "eval/metrics/token_metrics.h"

namespace qfid::eval {

namespace {

/// Sums of f over each document whose windows are all there.
std::vector<double> document_sums(const TokenData& data, double (*f)(const kernels::TokenComparison&)) {
  const std::vector<double> windows = data.sums(f);
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

Metric in_bits(Metric nats, std::string name) {
  nats.name = std::move(name);
  nats.unit = "bits";
  if (nats.value) *nats.value /= std::numbers::ln2;
  if (nats.ci) nats.ci = Interval{nats.ci->low / std::numbers::ln2, nats.ci->high / std::numbers::ln2};
  return nats;
}

}  // namespace

std::vector<Metric> text_perplexity(const TokenData& data) {
  if (data.documents.empty()) return {};
  const std::vector<double> sums = document_sums(data, [](const kernels::TokenComparison& t) { return t.nll_test; });
  std::vector<std::int64_t> words, bytes;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    words.push_back(data.documents[i].words);
    bytes.push_back(data.documents[i].bytes);
  }
  const Metric by_byte = mean_by(sums, bytes, data.confidence);
  std::vector<Metric> all{exponentiated(mean_by(sums, words, data.confidence), "word_perplexity", ""),
                          exponentiated(by_byte, "byte_perplexity", ""), in_bits(by_byte, "bits_per_byte")};
  if (data.is_baseline) return all;
  const std::vector<double> rise =
      document_sums(data, [](const kernels::TokenComparison& t) { return t.nll_test - t.nll_base; });
  const Metric rise_by_byte = mean_by(rise, bytes, data.confidence);
  all.push_back(exponentiated(mean_by(rise, words, data.confidence), "word_perplexity.ratio", "ratio"));
  all.push_back(exponentiated(rise_by_byte, "byte_perplexity.ratio", "ratio"));
  all.push_back(in_bits(rise_by_byte, "bits_per_byte.difference"));
  return all;
}

}  // namespace qfid::eval
