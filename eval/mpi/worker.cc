#include "eval/mpi/worker.h"

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "eval/cli/run_parts.h"
#include "eval/cli/surroundings.h"
#include "eval/experiment/hand_out.h"
#include "eval/mpi/devices.h"
#include "eval/mpi/identity_text.h"
#include "eval/mpi/letters.h"

namespace qfid::eval {

/// Between the two threads: what goes out, and what comes back. Outlives the job's end for the thread that computes.
class Worker::Desk : public UnitDesk {
 public:
  void plan(const std::vector<std::string>&) override {}
  bool begin(RunIdentity& identity) override { return answer_to(written_identity(identity)).has_value(); }
  std::optional<std::int64_t> next(std::int64_t first) override { return found(answer_to(written(Word::ask, first))); }
  bool keep(std::int64_t unit, std::string_view content, bool whole) override {
    quant::ByteWriter to;
    to.number(Word::result);
    to.number(unit);
    to.number<std::uint8_t>(whole ? 1 : 0);
    to.text(content);
    const std::lock_guard lock(mutex_);
    outgoing_.push_back(to.take());
    return !ended_;
  }
  /// At the end of a walk: whether another is needed. Waits until that is known.
  bool again() { return found(answer_to(written(Word::walked))).has_value(); }
  void leave(const std::string& why) {
    quant::ByteWriter to;
    to.number(Word::left);
    to.text(why);
    const std::lock_guard lock(mutex_);
    outgoing_.push_back(to.take());
  }

  std::optional<std::string> outgoing() {
    const std::lock_guard lock(mutex_);
    if (outgoing_.empty()) return std::nullopt;
    std::string text = std::move(outgoing_.front());
    outgoing_.pop_front();
    return text;
  }
  void answer(std::int64_t unit) {
    const std::lock_guard lock(mutex_);
    answer_ = unit;
    changed_.notify_all();
  }
  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  bool ended() {
    const std::lock_guard lock(mutex_);
    return ended_;
  }

 private:
  static constexpr std::int64_t nothing = -1;
  static std::optional<std::int64_t> found(std::optional<std::int64_t> unit) {
    return unit && *unit != nothing ? unit : std::nullopt;
  }
  /// Nothing when the job ended instead.
  std::optional<std::int64_t> answer_to(std::string question) {
    std::unique_lock lock(mutex_);
    outgoing_.push_back(std::move(question));
    changed_.wait(lock, [&] { return ended_ || answer_; });
    return ended_ ? std::nullopt : std::exchange(answer_, std::nullopt);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> outgoing_;
  std::optional<std::int64_t> answer_;
  bool ended_ = false;
};

namespace {

/// Walks through the run until nothing is left. Its records are of no interest: rank 0 has the units.
template <class Desk>
void compute(Desk& desk, const RunOptions& options, int local_rank, int local_size) {
  try {
    Spec spec = spec_of(options);
    choose_devices(spec, local_rank, local_size);
    const std::atomic<bool>& stop = stop_on_signals();
    for (bool first = true;; first = false) {
      HandedUnits units(desk, first);
      const bool interrupted = run_experiment(spec, {}, stop, units).interrupted;
      if (desk.ended()) return;
      if (interrupted) return desk.leave("");
      if (!desk.again()) return;
    }
  } catch (const std::bad_alloc&) { desk.leave("out of memory"); } catch (const std::exception& error) {
    desk.leave(error.what());
  }
}

}  // namespace

int Worker::run(const RunOptions& options) {
  const auto desk = std::make_shared<Desk>();
  std::thread([desk, options, local_rank = post_.local_rank(), local_size = post_.local_size()] {
    compute(*desk, options, local_rank, local_size);
  }).detach();  // at the job's end what it is about is of no use to anybody, and the process ends
  talk(*desk);
  return 0;
}

void Worker::give_up(const std::string& why) {
  Desk desk;
  desk.leave(why);
  talk(desk);
}

void Worker::talk(Desk& desk) {
  const double between_beats = lost_after_ / beats_until_lost;
  AwakeClock clock;
  double heard = 0, next_beat = 0;
  for (;; post_.rest()) {
    clock.tick(between_beats);
    while (const auto text = desk.outgoing()) post_.send(0, *text);
    while (const auto letter = post_.receive()) {
      heard = clock.now();
      if (!hear(desk, *letter)) return;
    }
    if (clock.now() >= next_beat) {
      next_beat = clock.now() + between_beats;
      post_.send(0, written(Word::beat));
    }
    if (clock.now() - heard > lost_after_) {
      std::fputs(std::format("qfid: {}: nothing heard from {} for {:.0f} s: this rank ends\n", post_.name_of(post_.rank()),
                             post_.name_of(0), lost_after_)
                     .c_str(),
                 stderr);
      std::_Exit(5);
    }
  }
}

/// False at the job's end.
bool Worker::hear(Desk& desk, const Letter& letter) {
  quant::ByteReader from(letter.text);
  switch (from.number<Word>()) {
    case Word::unit:
      desk.answer(from.number<std::int64_t>());
      return true;
    case Word::welcome:
      desk.answer(0);
      return true;
    case Word::none:
      desk.answer(-1);
      return true;
    case Word::end:
      some_are_lost_ = from.number<std::int64_t>() != 0;
      desk.end();
      return false;
    default:
      return true;
  }
}

}  // namespace qfid::eval
