// Bigram-backcopy against its definition: every sequence of a small task enumerated, and what the generator draws counted.
#include "eval/data/backcopy.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <functional>
#include <map>

#include "tests/support/malformed.h"

using namespace qfid::eval;
using namespace qfid::tests;
using Ids = std::vector<std::int32_t>;

namespace {

const std::filesystem::path tables = std::filesystem::path(QFID_SOURCE_DIR) / "configs/data/bigram-backcopy";

/// Tokens 0 to 3, 2 a trigger; its row is never used and sums to nothing.
BackcopyTables small() {
  return {{0.5, 0.2, 0.2, 0.1,  //
           0.1, 0.0, 0.6, 0.3,  //
           7.0, 7.0, 7.0, 7.0,  //
           0.25, 0.25, 0.25, 0.25},
          {0.3, 0.2, 0.4, 0.1},
          {2},
          4};
}

/// Of other tables: 0 is the trigger, and every sequence begins with 3.
BackcopyTables first_is_trigger() {
  return {{7.0, 7.0, 7.0, 7.0,  //
           0.6, 0.0, 0.1, 0.3,  //
           0.2, 0.2, 0.5, 0.1,  //
           0.25, 0.25, 0.25, 0.25},
          {0.4, 0.0, 0.0, 0.6},
          {0},
          4};
}

/// The definition, spelled out for tables of four tokens with one trigger: p(next | before, last).
double defined(const BackcopyTables& t, std::int32_t before, std::int32_t last, std::int32_t next) {
  const std::int32_t trigger = t.triggers[0];
  double all = 0;
  for (std::int32_t id = 0; id < 4; ++id) all += id == trigger ? 0 : t.unigram[static_cast<std::size_t>(id)];
  if (last == 4) return next == trigger ? 0 : t.unigram[static_cast<std::size_t>(next)] / all;
  if (last == trigger) return next == before ? 1 : 0;
  return t.bigram[static_cast<std::size_t>(4 * last + next)];
}

/// Every sequence of `length` tokens with its probability.
void enumerate(const BackcopyTables& t, std::int64_t length, const std::function<void(const Ids&, double)>& take) {
  std::function<void(Ids&, double)> extend = [&](Ids& ids, double p) {
    if (static_cast<std::int64_t>(ids.size()) == length + 1) return take(ids, p);
    for (std::int32_t next = 0; next < 4; ++next) {
      const double q = p * defined(t, ids.size() > 1 ? ids[ids.size() - 2] : 4, ids.back(), next);
      if (q == 0) continue;
      ids.push_back(next);
      extend(ids, q);
      ids.pop_back();
    }
  };
  Ids ids{4};
  extend(ids, 1);
}

}  // namespace

TEST_CASE("the oracle's risk is the enumerated one") {
  for (const BackcopyTables& tables : {small(), first_is_trigger()}) {
    const BackcopyTask task(tables, "small");
    const std::int32_t trigger = tables.triggers[0];
    for (const std::int64_t length : {1, 2, 3, 7}) {
      CAPTURE(trigger, length);
      double loss = 0, queries = 0, copies = 0, all = 0;
      enumerate(tables, length, [&](const Ids& ids, double p) {
        all += p;
        for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
          const std::int32_t before = t > 0 ? ids[t - 1] : 4;
          CHECK(task.probability(before, ids[t], ids[t + 1]) == defined(tables, before, ids[t], ids[t + 1]));
          if (ids[t] == trigger) {
            copies += p;
            continue;
          }
          loss -= p * std::log(defined(tables, before, ids[t], ids[t + 1]));
          queries += p;
        }
      });
      CHECK(std::abs(all - 1) < 1e-12);
      CHECK(std::abs(task.oracle_risk(length).bigram - loss / queries) < 1e-12);
      CHECK(task.oracle_risk(length).copy == 0);
      if (length > 2) CHECK(copies > 0);
    }
  }
  const BackcopyTask task(small(), "small");
  // Behind a trigger there is what was before it, and nothing outside the tables.
  CHECK(task.probability(1, 2, 1) == 1);
  CHECK(task.probability(1, 2, 3) == 0);
  CHECK(task.probability(1, 0, -1) == 0);
  CHECK(task.probability(1, 0, 4) == 0);
  CHECK(BackcopyTask(first_is_trigger(), "t").is_trigger(0));
  CHECK_FALSE(task.is_trigger(-1));
  CHECK_FALSE(task.is_trigger(4));
  // Of a first token alone: the entropy of (1/2, 1/3, 1/6).
  CHECK(std::abs(task.oracle_risk(1).bigram - (std::log(2) / 2 + std::log(3) / 3 + std::log(6) / 6)) < 1e-12);
}

TEST_CASE("sequences come as often as they are likely") {
  const BackcopyTask task(small(), "small");
  const std::int64_t count = 40000, length = 4;
  std::map<Ids, double> expected, found;
  enumerate(small(), length, [&](const Ids& ids, double p) { expected[Ids(ids.begin() + 1, ids.end())] = p; });
  const Ids all = task.sequences(5, count, length);
  for (std::int64_t s = 0; s < count; ++s) found[Ids(all.begin() + s * length, all.begin() + (s + 1) * length)] += 1;
  for (const auto& [ids, n] : found) CHECK(expected.contains(ids));
  double chi = 0;
  for (const auto& [ids, p] : expected) {
    const double n = p * static_cast<double>(count);
    chi += (found[ids] - n) * (found[ids] - n) / n;
  }
  // Chi squared with k - 1 degrees has mean k - 1 and variance 2 (k - 1): six deviations.
  const double degrees = static_cast<double>(expected.size()) - 1;
  CHECK(chi < degrees + 6 * std::sqrt(2 * degrees));
  CHECK(chi > degrees - 6 * std::sqrt(2 * degrees));
}

TEST_CASE("one sequence doesn't depend on the others, and every machine makes the same ones") {
  const BackcopyTask task = BackcopyTask::read(tables);
  CHECK(task.tokens() == 65);
  CHECK(task.bos() == 65);
  const Ids four = task.sequences(1, 4, 16), two = task.sequences(1, 2, 16), other = task.sequences(2, 2, 16);
  CHECK(Ids(four.begin(), four.begin() + 32) == two);
  CHECK(two != other);
  const Ids longer = task.sequences(1, 1, 32);
  CHECK(Ids(longer.begin(), longer.begin() + 16) == Ids(four.begin(), four.begin() + 16));
  // Written again in Python (tests/train/backcopy.py).
  CHECK(Ids(four.begin(), four.begin() + 16) == Ids{42, 57, 1, 57, 1, 57, 46, 39, 47, 50, 50, 58, 50, 50, 50, 42});
  CHECK(Ids(four.begin() + 16, four.begin() + 32) == Ids{46, 1, 46, 43, 46, 47, 52, 1, 52, 10, 0, 0, 32, 46, 58, 46});
}

TEST_CASE("what is drawn from the built-in tables loses what the oracle says") {
  const BackcopyTask task = BackcopyTask::read(tables);
  const std::int64_t count = 4000, length = 64;
  const Ids all = task.sequences(3, count, length);
  double sum = 0, squares = 0, queries = 0;
  for (std::int64_t s = 0; s < count; ++s) {
    std::int32_t before = task.bos(), last = task.bos();
    for (std::int64_t t = 0; t < length; ++t) {
      const std::int32_t next = all[static_cast<std::size_t>(s * length + t)];
      const double p = task.probability(before, last, next);
      CHECK(p > 0);
      if (task.is_trigger(last)) {
        CHECK(next == before);
        CHECK(!task.is_trigger(next));
      } else {
        sum -= std::log(p);
        squares += std::log(p) * std::log(p);
        queries += 1;
      }
      before = last;
      last = next;
    }
  }
  const double mean = sum / queries, deviation = std::sqrt(squares / queries - mean * mean);
  CHECK(std::abs(mean - task.oracle_risk(length).bigram) < 6 * deviation / std::sqrt(queries));
  CHECK(deviation / std::sqrt(queries) < 0.01);
}

TEST_CASE("tables that contradict each other are refused by name") {
  const auto said = [](const std::function<void(BackcopyTables&)>& change) {
    BackcopyTables t = small();
    change(t);
    const Failure failure = failure_of([&] { BackcopyTask(std::move(t), "DIR"); });
    CHECK(failure.code == 3);
    return failure.message;
  };
  CHECK(said([](auto& t) { t.bigram[0] = 0.4; }) == "DIR/bigram.npy: row 0 sums to 0.9, expected 1");
  CHECK(said([](auto& t) { t.bigram[5] = -1; }) == "DIR/bigram.npy: entry 5 is -1, expected a probability");
  CHECK(said([](auto& t) { t.unigram[1] = std::nan(""); }) == "DIR/unigram.npy: entry 1 is nan, expected a probability");
  CHECK(said([](auto& t) { t.unigram = {0, 0, 1, 0}; }) ==
        "DIR: unigram.npy gives no token but triggers, which no sequence begins with");
  CHECK(said([](auto& t) { t.triggers = {}; }) == "DIR/triggers.npy: no trigger, expected one token or more");
  CHECK(said([](auto& t) { t.bigram[0] = -1; }) == "DIR/bigram.npy: entry 0 is -1, expected a probability");
  CHECK(said([](auto& t) { t.unigram = {}; }) == "DIR: tables of no tokens, or of different numbers of them");
  CHECK(said([](auto& t) { t.bigram = t.unigram = {}; }) == "DIR: tables of no tokens, or of different numbers of them");
  CHECK(said([](auto& t) { t.bigram.pop_back(); }) == "DIR: tables of no tokens, or of different numbers of them");
  CHECK(said([](auto& t) { t.triggers = {-1}; }) == "DIR/triggers.npy: trigger -1, expected a token below 4");
  CHECK(said([](auto& t) { t.triggers = {4}; }) == "DIR/triggers.npy: trigger 4, expected a token below 4");
  CHECK(said([](auto& t) { t.bos = 3; }) ==
        "DIR/bos.npy: <s> is 3, expected a number from 4 on, which the tables have no row of");
}

TEST_CASE("tables are read from files, each held to its shape and type") {
  const qfid::tests::TemporaryDirectory directory;
  for (const char* name : {"bigram.npy", "unigram.npy", "triggers.npy", "bos.npy"})
    std::filesystem::copy_file(tables / name, directory.path() / name);
  const auto said = [&](const char* to, const char* from) {
    std::filesystem::copy_file(tables / from, directory.path() / to, std::filesystem::copy_options::overwrite_existing);
    const std::string text = qfid::tests::replaced(failure_of([&] { BackcopyTask::read(directory.path()); }).message,
                                                   directory.path().string(), "DIR");
    std::filesystem::copy_file(tables / to, directory.path() / to, std::filesystem::copy_options::overwrite_existing);
    return text;
  };
  CHECK(said("bigram.npy", "unigram.npy") == "DIR/bigram.npy: expected 2 dimensions, found 1");
  CHECK(said("unigram.npy", "bigram.npy") == "DIR/unigram.npy: expected 1 dimension, found 2");
  CHECK(said("unigram.npy", "triggers.npy") == "DIR/unigram.npy: dtype '<i8', expected '<f8'");
  // As many numbers as tokens squared, in another shape.
  const std::string row = "DIR/bigram.npy: shape (65, 64), expected (65, 65) as unigram.npy has 65 tokens";
  const auto shaped = [&](const std::string& shape, std::size_t numbers) {
    directory.write("bigram.npy", npy(npy_dict("<f8", shape), std::string(8 * numbers, '\0')));
    const std::string text =
        replaced(failure_of([&] { BackcopyTask::read(directory.path()); }).message, directory.path().string(), "DIR");
    std::filesystem::copy_file(tables / "bigram.npy", directory.path() / "bigram.npy",
                               std::filesystem::copy_options::overwrite_existing);
    return text;
  };
  CHECK(shaped("(65, 64)", 65 * 64) == row);
  CHECK(shaped("(64, 65)", 64 * 65) == "DIR/bigram.npy: shape (64, 65), expected (65, 65) as unigram.npy has 65 tokens");
  CHECK(said("bos.npy", "triggers.npy") == "DIR/bos.npy: expected a single number (no dimensions), found 1");
  CHECK(said("triggers.npy", "unigram.npy") == "DIR/triggers.npy: dtype '<f8', expected '<u2', '<i4' or '<i8'");
}
