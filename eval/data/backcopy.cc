#include "eval/data/backcopy.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <numeric>
#include <utility>

#include "eval/data/npy.h"
#include "quant/core/counter_random.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

constexpr double sum_tolerance = 1e-9;  ///< of a row that should sum to 1: rounding of as many additions as a row is long

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw quant::Error(quant::ErrorKind::input, name + ": " + what);
}

/// Uniform in [0, 1), 53 bits.
double uniform(std::uint64_t key, std::int64_t n) {
  return static_cast<double>(quant::counter_random(key, static_cast<std::uint64_t>(n)) >> 11) * 0x1p-53;
}

/// The first token whose cumulative weight is above u times all of it.
std::int32_t pick(std::span<const double> cumulative, double u) {
  const auto at = std::upper_bound(cumulative.begin(), cumulative.end(), u * cumulative.back());
  return static_cast<std::int32_t>(std::min(at, cumulative.end() - 1) - cumulative.begin());
}

void check_weights(std::span<const double> weights, const std::string& name) {
  for (std::size_t i = 0; i < weights.size(); ++i)
    if (!(weights[i] >= 0) || !std::isfinite(weights[i]))
      fail(name, std::format("entry {} is {}, expected a probability", i, weights[i]));
}

}  // namespace

BackcopyTask BackcopyTask::read(const std::filesystem::path& directory) {
  BackcopyTables tables;
  const NumberTable bigram = read_numbers(directory / "bigram.npy", 2), unigram = read_numbers(directory / "unigram.npy", 1);
  const std::int64_t tokens = unigram.shape[0];
  if (bigram.shape[0] != tokens || bigram.shape[1] != tokens)
    fail((directory / "bigram.npy").string(), std::format("shape ({}, {}), expected ({}, {}) as unigram.npy has {} tokens",
                                                          bigram.shape[0], bigram.shape[1], tokens, tokens, tokens));
  tables.bigram = bigram.values;
  tables.unigram = unigram.values;
  tables.triggers = read_tokens(directory / "triggers.npy");
  tables.bos = read_token(directory / "bos.npy");
  return BackcopyTask(std::move(tables), directory.string());
}

BackcopyTask::BackcopyTask(BackcopyTables tables, const std::string& name) : tables_(std::move(tables)) {
  check(name);
  trigger_.resize(tables_.unigram.size());
  for (const std::int32_t trigger : tables_.triggers) trigger_[static_cast<std::size_t>(trigger)] = true;
  first_ = tables_.unigram;
  for (std::size_t t = 0; t < first_.size(); ++t)
    if (trigger_[t]) first_[t] = 0;
  const double all = std::accumulate(first_.begin(), first_.end(), 0.0);
  if (!(all > 0)) fail(name, "unigram.npy gives no token but triggers, which no sequence begins with");
  for (double& p : first_) p /= all;
  for (std::int32_t t = 0; t < tokens(); ++t) {
    double sum = 0;
    for (const double p : row(t)) cumulative_.push_back(sum += p);
  }
}

void BackcopyTask::check(const std::string& name) const {
  const std::size_t n = tables_.unigram.size();
  if (n == 0 || tables_.bigram.size() != n * n) fail(name, "tables of no tokens, or of different numbers of them");
  check_weights(tables_.unigram, name + "/unigram.npy");
  check_weights(tables_.bigram, name + "/bigram.npy");
  if (tables_.triggers.empty()) fail(name + "/triggers.npy", "no trigger, expected one token or more");
  for (const std::int32_t trigger : tables_.triggers)
    if (trigger < 0 || trigger >= tokens())
      fail(name + "/triggers.npy", std::format("trigger {}, expected a token below {}", trigger, n));
  if (tables_.bos < tokens())
    fail(name + "/bos.npy",
         std::format("<s> is {}, expected a number from {} on, which the tables have no row of", tables_.bos, n));
  for (std::int32_t t = 0; t < tokens(); ++t) {
    if (std::find(tables_.triggers.begin(), tables_.triggers.end(), t) != tables_.triggers.end()) continue;
    const std::span<const double> p = row(t);
    if (const double sum = std::accumulate(p.begin(), p.end(), 0.0); !(std::abs(sum - 1) <= sum_tolerance))
      fail(name + "/bigram.npy", std::format("row {} sums to {}, expected 1", t, sum));
  }
}

bool BackcopyTask::is_trigger(std::int32_t token) const {
  return token >= 0 && token < tokens() && trigger_[static_cast<std::size_t>(token)];
}

std::span<const double> BackcopyTask::row(std::int32_t token) const {
  const std::size_t n = tables_.unigram.size();
  return {tables_.bigram.data() + static_cast<std::size_t>(token) * n, n};
}

std::vector<std::int32_t> BackcopyTask::sequences(std::uint64_t seed, std::int64_t count, std::int64_t length) const {
  std::vector<std::int32_t> all;
  all.reserve(static_cast<std::size_t>(count * length));
  const std::size_t n = first_.size();
  std::vector<double> first(n);
  std::partial_sum(first_.begin(), first_.end(), first.begin());
  for (std::int64_t s = 0; s < count; ++s) {
    const std::uint64_t key = quant::counter_random(seed, static_cast<std::uint64_t>(s));
    std::int32_t before = bos(), last = pick(first, uniform(key, 0));
    all.push_back(last);
    for (std::int64_t t = 1; t < length; ++t) {
      const std::int32_t next =
          is_trigger(last) ? before : pick({cumulative_.data() + static_cast<std::size_t>(last) * n, n}, uniform(key, t));
      all.push_back(next);
      before = last;
      last = next;
    }
  }
  return all;
}

double BackcopyTask::probability(std::int32_t before_last, std::int32_t last, std::int32_t next) const {
  if (is_trigger(last)) return next == before_last ? 1 : 0;
  if (next < 0 || next >= tokens()) return 0;
  return last == bos() ? first_[static_cast<std::size_t>(next)] : row(last)[static_cast<std::size_t>(next)];
}

double BackcopyTask::row_entropy(std::span<const double> row) const {
  double entropy = 0;
  for (const double p : row)
    if (p > 0) entropy -= p * std::log(p);
  return entropy;
}

BackcopyRisk BackcopyTask::oracle_risk(std::int64_t length) const {
  // here[a]: the token at position t is a, no trigger. Behind a, b with P(a, b); behind a trigger that followed a, a again.
  const std::size_t n = first_.size();
  std::vector<double> here = first_, before(n, 0.0), entropy(n), to_trigger(n);
  for (std::size_t a = 0; a < n; ++a) {
    const std::span<const double> p = row(static_cast<std::int32_t>(a));
    entropy[a] = row_entropy(p);
    for (std::size_t b = 0; b < n; ++b) to_trigger[a] += trigger_[b] ? p[b] : 0;
  }
  double loss = row_entropy(first_), queries = 1;  // of <s>
  for (std::int64_t t = 1; t < length; ++t) {
    std::vector<double> next(n, 0.0);
    for (std::size_t a = 0; a < n; ++a) {
      loss += here[a] * entropy[a];
      queries += here[a];
      if (trigger_[a]) continue;
      next[a] += before[a] * to_trigger[a];
      if (here[a] == 0) continue;
      const std::span<const double> p = row(static_cast<std::int32_t>(a));
      for (std::size_t b = 0; b < n; ++b)
        if (!trigger_[b]) next[b] += here[a] * p[b];
    }
    before = std::exchange(here, std::move(next));
  }
  return {loss / queries, 0};
}

}  // namespace qfid::eval
