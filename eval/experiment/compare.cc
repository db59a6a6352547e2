#include "eval/experiment/compare.h"

#include <cmath>
#include <format>

#include "eval/experiment/gates.h"
#include "eval/metrics/interval.h"
#include "quant/core/error.h"

namespace qfid::eval {

using quant::Error;
using quant::ErrorKind;

namespace {

struct Series {
  const char* metric;
  SumKind kind;
  bool exponential;
  std::vector<double> a, b;
};

ComparedRow row_of(ComparedRow row, const Series& series, const std::vector<std::int64_t>& tokens, double confidence) {
  std::vector<double> difference;
  for (std::size_t i = 0; i < tokens.size(); ++i) difference.push_back(series.b[i] - series.a[i]);
  const auto shown = [&](double mean) { return series.exponential ? std::exp(mean) : mean; };
  row.metric = series.metric;
  row.value_a = shown(clustered_mean(series.a, tokens, 0.5).mean);
  row.value_b = shown(clustered_mean(series.b, tokens, 0.5).mean);
  row.change = {series.exponential ? "ratio" : "difference", shown(clustered_mean(difference, tokens, 0.5).mean),
                std::nullopt, "", ""};
  if (tokens.size() >= min_windows_for_interval) {
    const Interval limits = MeanTest(difference, tokens, series.kind).limits((1 - confidence) / 2);
    row.change.ci = Interval{shown(limits.low), shown(limits.high)};
  } else {
    row.change.note = "no interval below " + std::to_string(min_windows_for_interval) + " windows";
  }
  return row;
}

std::vector<double> as_double(const std::vector<std::int64_t>& counts) { return {counts.begin(), counts.end()}; }

void require_same_models(const NamedRecord& a, const NamedRecord& b) {
  require_comparable(identity_of(a.record.provenance), a.name, identity_of(b.record.provenance), b.name);
  for (const ModelRecord& x : a.record.models)
    for (const ModelRecord& y : b.record.models)
      if (x.name == y.name) require_same_model(x, a.name, y, b.name);
}

}  // namespace

std::vector<ComparedRow> compare_records(const std::vector<NamedRecord>& records, double confidence) {
  std::vector<ComparedRow> rows;
  const NamedRecord& a = records.front();
  for (const NamedRecord& b : records) {
    if (&b == &a) continue;
    require_same_models(a, b);
    const std::size_t before = rows.size();
    for (const RunRecord& x : a.record.runs) {
      const RunRecord* y = b.record.find(x.model, x.target);
      if (y == nullptr || x.status != RunStatus::ok || y->status != RunStatus::ok) continue;
      if (x.windows.tokens != y->windows.tokens)
        throw Error(ErrorKind::usage, std::format("{} and {} aren't comparable: {} / {} scored different tokens", a.name,
                                                  b.name, x.model, x.target));
      std::vector<Series> all;
      if (!x.windows.nmse.empty() && x.target != "baseline")
        all = {{"hidden.nmse.mean", SumKind::real, false, x.windows.nmse, y->windows.nmse},
               {"hidden.cosine_distance.mean", SumKind::real, false, x.windows.cosine_distance, y->windows.cosine_distance}};
      if (!x.windows.nll.empty()) all = {{"perplexity", SumKind::real, true, x.windows.nll, y->windows.nll}};
      if (!x.windows.nll.empty() && x.target != "baseline") {
        all.push_back({"kl.mean", SumKind::real, false, x.windows.kl, y->windows.kl});
        all.push_back({"top1.agreement", SumKind::event_differences, false, as_double(x.windows.top1_agree),
                       as_double(y->windows.top1_agree)});
      }
      for (const Series& series : all)
        rows.push_back(row_of({x.model, x.target, a.name, b.name, "", 0, 0, {}}, series, x.windows.tokens, confidence));
    }
    if (rows.size() == before)
      throw Error(ErrorKind::usage, a.name + " and " + b.name + " have no complete run of the same model and target");
  }
  return rows;
}

std::vector<ComparedRow> compare_tokens(const std::vector<NamedTokens>& files, double confidence) {
  std::vector<ComparedRow> rows;
  const NamedTokens& a = files.front();
  for (const NamedTokens& b : files) {
    if (&b == &a) continue;
    const std::string pair = a.name + " and " + b.name + " aren't comparable: ";
    if (a.sums.windows != b.sums.windows)
      throw Error(ErrorKind::usage,
                  pair + std::format("the windows differ ({}, {} windows)", a.sums.windows.size(), b.sums.windows.size()));
    for (std::size_t i = 0; i < a.sums.tokens.size(); ++i)
      if (a.sums.tokens[i] != b.sums.tokens[i])
        throw Error(ErrorKind::usage, pair + std::format("window {} has {} and {} tokens", a.sums.windows[i],
                                                         a.sums.tokens[i], b.sums.tokens[i]));
    std::vector<Series> all{{"perplexity", SumKind::real, true, a.sums.nll, b.sums.nll}};
    if (!a.sums.kl.empty() && !b.sums.kl.empty()) all.push_back({"kl.mean", SumKind::real, false, a.sums.kl, b.sums.kl});
    for (const Series& series : all)
      rows.push_back(row_of({"", "", a.name, b.name, "", 0, 0, {}}, series, a.sums.tokens, confidence));
  }
  return rows;
}

}  // namespace qfid::eval
