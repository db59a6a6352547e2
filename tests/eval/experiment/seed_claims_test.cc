// Claims over seeds from hand-made records: pairing, both directions, what isn't defined, too few seeds.
#include "eval/experiment/seed_claims.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "eval/metrics/interval.h"

using namespace qfid::eval;
using Catch::Approx;

namespace {

void add(ExperimentRecord& record, const std::string& group, std::int64_t seed, double perplexity, double ratio,
         std::optional<double> drain = {}) {
  ModelRecord model;
  model.name = group + std::to_string(seed);
  model.group = group;
  model.seed = seed;
  record.models.push_back(model);
  RunRecord base;
  base.model = model.name;
  base.target = "baseline";
  base.metrics = {{"perplexity", perplexity, {}, "", ""}, {"drain.v", drain, {}, "", ""}};
  RunRecord int8 = base;
  int8.target = "int8";
  int8.metrics = {{"perplexity.ratio", ratio, {}, "", ""}};
  record.runs.push_back(base);
  record.runs.push_back(int8);
}

/// `b` is better than `a` by a tenth on every seed, give or take a hundredth, though seeds differ by factors; `c` isn't.
ExperimentRecord record(int seeds) {
  ExperimentRecord record;
  for (int seed = 0; seed < seeds; ++seed) {
    const double level = std::exp(seed), wobble = 0.01 * (seed - 2);
    add(record, "a", seed, level, 1.1);
    add(record, "b", seed, level * std::exp(-0.1 + wobble), 1.2, 0.5 + seed);
    add(record, "c", seed, level * std::exp(seed % 2 ? 0.2 : -0.2), 1.1);
  }
  return record;
}

const SeedRow* find(const SeedClaims& claims, const std::string& target, const std::string& metric,
                    const std::string& group) {
  for (const SeedRow& row : claims.rows)
    if (row.target == target && row.metric == metric && row.group == group) return &row;
  return nullptr;
}

}  // namespace

TEST_CASE("groups are compared seed by seed with the first", "[seeds]") {
  const auto claims = seed_claims(record(5));
  REQUIRE(claims);
  CHECK(claims->reference == "a");
  const SeedRow* a = find(*claims, "baseline", "perplexity", "a");
  REQUIRE(a);
  CHECK(a->verdict == SeedVerdict::reference);
  CHECK(a->level.mean == Approx(2));
  CHECK(in_words(*a, "a").empty());

  // Differences -.12 -.11 -.10 -.09 -.08: mean -.1, SD sqrt(.001/4). Two groups are compared: t at 97.5 %.
  const SeedRow* b = find(*claims, "baseline", "perplexity", "b");
  REQUIRE(b);
  CHECK(b->verdict == SeedVerdict::lower);
  REQUIRE(b->difference);
  CHECK(b->difference->mean == Approx(-0.1));
  const double half = student_t_quantile(0.9875, 4) * std::sqrt(0.001 / 4 / 5);
  CHECK(b->difference->interval->high == Approx(-0.1 + half));
  CHECK(in_words(*b, "a").starts_with("lower than a: \xC3\x97 0.9048 ("));

  const SeedRow* c = find(*claims, "baseline", "perplexity", "c");
  CHECK(c->verdict == SeedVerdict::no_difference);
  CHECK(in_words(*c, "a").starts_with("not told apart from a: "));
  CHECK(find(*claims, "int8", "perplexity.ratio", "b")->verdict == SeedVerdict::higher);
  CHECK(find(*claims, "int8", "perplexity.ratio", "c")->verdict == SeedVerdict::no_difference);  // equal on every seed
  CHECK(find(*claims, "int8", "perplexity", "a") == nullptr);                                    // it is the ratio there
}

TEST_CASE("a reader names another reference: the same differences the other way round", "[seeds]") {
  ExperimentRecord other = record(5);
  other.reference_group = "b";
  const auto claims = seed_claims(other), first = seed_claims(record(5));
  REQUIRE(claims);
  CHECK(claims->reference == "b");
  CHECK(claims->groups == std::vector<std::string>{"b", "a", "c"});
  const SeedRow *a = find(*claims, "baseline", "perplexity", "a"), *b = find(*first, "baseline", "perplexity", "b");
  REQUIRE((a && b));
  CHECK(a->verdict == SeedVerdict::higher);
  CHECK(a->difference->mean == Approx(-b->difference->mean));
  CHECK(find(*claims, "baseline", "perplexity", "b")->verdict == SeedVerdict::reference);
}

TEST_CASE("what the reference lacks or isn't defined can't be compared, and is said", "[seeds]") {
  const auto claims = seed_claims(record(5));
  CHECK(find(*claims, "baseline", "drain.v", "a") == nullptr);
  const SeedRow* b = find(*claims, "baseline", "drain.v", "b");
  REQUIRE(b);
  CHECK(b->level.mean == 2.5);
  CHECK(b->verdict == SeedVerdict::inconclusive);
  CHECK(in_words(*b, "a") == "inconclusive: needs 5 seeds or more in common with a, has 0");
}

TEST_CASE("fewer than five seeds, failed runs and seeds that don't match make no claim", "[seeds]") {
  const auto four = seed_claims(record(4));
  const SeedRow* b = find(*four, "baseline", "perplexity", "b");
  CHECK(b->verdict == SeedVerdict::inconclusive);
  CHECK_FALSE(b->level.interval);
  CHECK(in_words(*b, "a") == "inconclusive: needs 5 seeds or more in common with a, has 4");

  ExperimentRecord failed = record(5);
  for (RunRecord& run : failed.runs)
    if (run.model == "b3") run.status = RunStatus::failed;
  CHECK(find(*seed_claims(failed), "baseline", "perplexity", "b")->level.seeds == 4);
  CHECK(find(*seed_claims(failed), "baseline", "perplexity", "b")->verdict == SeedVerdict::inconclusive);

  ExperimentRecord others = record(5);
  for (ModelRecord& model : others.models)
    if (model.group == "b") *model.seed += 100;
  CHECK_FALSE(find(*seed_claims(others), "baseline", "perplexity", "b")->difference);

  ExperimentRecord plain = record(5);
  for (ModelRecord& model : plain.models) model.seed.reset();
  CHECK_FALSE(seed_claims(plain));
}
