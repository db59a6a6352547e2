// Bigram-backcopy (Guo et al. 2024, "Active-Dormant Attention Heads", arXiv 2410.13835, section 2): the synthetic task whose
// best predictor is known, so that a model's excess risk is, too. A sequence begins with <s>; the first token is drawn from
// the unigram table without the triggers; after a token that is no trigger the next is drawn from its row of the bigram
// table; after a trigger it is a copy of the token before the trigger. So no trigger follows another, and <s> is never copied.
// Guo et al. draw the first token uniformly from those that are no trigger; a table of frequencies is used here.
// Numbers are counter_random's: one sequence doesn't depend on the others, and every machine makes the same ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace qfid::eval {

struct BackcopyTables {
  std::vector<double> bigram;          ///< [tokens, tokens], row = the token before; those of triggers aren't used
  std::vector<double> unigram;         ///< [tokens]
  std::vector<std::int32_t> triggers;  ///< one or more tokens
  std::int32_t bos = 0;                ///< <s>: no row and no column of the tables
};

/// Nats a token, the mean over queries of a part.
struct BackcopyRisk {
  double bigram = 0;  ///< queries that are no trigger, <s> among them
  double copy = 0;    ///< triggers: 0, since a copy is certain
};

class BackcopyTask {
 public:
  /// bigram.npy (2-D float64), unigram.npy (1-D float64), triggers.npy (1-D), bos.npy (a number) of a directory.
  /// Error{input} naming the file, what was expected and found.
  static BackcopyTask read(const std::filesystem::path& directory);
  /// Error{input} where tables contradict each other; `name` begins the message.
  BackcopyTask(BackcopyTables tables, const std::string& name);

  std::int64_t tokens() const { return static_cast<std::int64_t>(tables_.unigram.size()); }
  std::int32_t bos() const { return tables_.bos; }
  bool is_trigger(std::int32_t token) const;

  /// `count` sequences of `length` tokens each, one after the other, their <s> left out.
  std::vector<std::int32_t> sequences(std::uint64_t seed, std::int64_t count, std::int64_t length) const;
  /// p(next | the two tokens before it); `last` = <s> at the beginning.
  double probability(std::int32_t before_last, std::int32_t last, std::int32_t next) const;
  /// What the best predictor loses in expectation on sequences of `length` tokens: the conditional entropy, over where the
  /// chain is at each position, followed exactly.
  BackcopyRisk oracle_risk(std::int64_t length) const;

 private:
  void check(const std::string& name) const;
  double row_entropy(std::span<const double> row) const;
  std::span<const double> row(std::int32_t token) const;

  BackcopyTables tables_;
  std::vector<bool> trigger_;      ///< [tokens]
  std::vector<double> first_;      ///< [tokens], sums to 1
  std::vector<double> cumulative_; ///< [tokens, tokens] of bigram
};

}  // namespace qfid::eval
