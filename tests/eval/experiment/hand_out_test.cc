// Units handed out: each to one worker, a lost worker's to another, and none that two workers were lost with.
#include "eval/experiment/hand_out.h"

#include <catch2/catch_test_macros.hpp>

using namespace qfid::eval;

namespace {

const std::vector<std::string> ids{"m/windows/0-1", "m/windows/2-3", "m/noise", "n/windows/0-1"};

/// Remembers what it was asked, and gives units of `units` to worker 1.
struct Desk : UnitDesk {
  void plan(const std::vector<std::string>& all) override { units = HandOut(all); }
  bool begin(RunIdentity&) override { return true; }
  std::optional<std::int64_t> next(std::int64_t first) override {
    asked.push_back(first);
    return units.next(1, first);
  }
  bool keep(std::int64_t unit, std::string_view, bool) override { return units.finish(unit); }

  HandOut units;
  std::vector<std::int64_t> asked;
};

}  // namespace

TEST_CASE("every unit goes to one worker, in order") {
  HandOut units(ids);
  CHECK(units.next(1, 0) == 0);
  CHECK(units.next(2, 0) == 1);
  CHECK(units.next(1, 0) == 0);  // it has it still
  CHECK(units.next(3, 3) == 3);
  CHECK(units.finish(0));
  CHECK(units.next(1, 1) == 2);
  CHECK_FALSE(units.next(4, 0));
  CHECK_FALSE(units.done());
  for (const int unit : {1, 2, 3}) CHECK(units.finish(unit));
  CHECK(units.done());
  CHECK(units.finished() == 4);
  CHECK_FALSE(units.finish(3));
}

TEST_CASE("what a worker passes is nobody's, what a lost one had is free again, but not for ever") {
  HandOut units(ids);
  CHECK(units.next(1, 0) == 0);
  CHECK(units.next(1, 1) == 1);  // it came by 0
  CHECK_FALSE(units.is_free(0));
  CHECK(units.release(1, true) == 1);
  CHECK(units.is_free(1));
  CHECK(units.next(2, 0) == 1);
  CHECK(units.release(2, false) == 1);  // it was asked to stop: no fault of the unit's
  CHECK(units.next(3, 0) == 1);
  CHECK(units.release(3, true) == 1);
  CHECK_FALSE(units.is_free(1));
  CHECK_FALSE(units.is_finished(1));
  CHECK_FALSE(units.release(3, true));
}

TEST_CASE("a lost worker that comes back: the first result counts, and the unit is nobody's") {
  HandOut units(ids);
  CHECK(units.next(1, 0) == 0);
  units.release(1, true);
  CHECK(units.next(2, 0) == 0);
  CHECK(units.finish(0));
  CHECK_FALSE(units.held_by(2));
  CHECK_FALSE(units.finish(0));
  CHECK(units.next(2, 1) == 1);
}

TEST_CASE("a walk takes what the desk gives it, and asks once for each") {
  Desk desk;
  HandedUnits walk(desk, true);
  walk.plan(ids);
  CHECK(desk.units.finish(1));
  CHECK(walk.takes(0));
  CHECK(walk.takes(0));
  CHECK(walk.keep(ids[0], "", true));
  CHECK_FALSE(walk.takes(1));  // gives it 2
  CHECK(walk.takes(2));
  CHECK(walk.takes(3));  // it came by 2
  CHECK(walk.keep(ids[3], "", true));
  CHECK(desk.asked == std::vector<std::int64_t>{0, 1, 3});
  CHECK_FALSE(desk.units.is_free(2));
}
