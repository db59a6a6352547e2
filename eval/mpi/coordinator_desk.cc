#include "eval/mpi/coordinator_desk.h"

#include <format>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

constexpr auto look_again = std::chrono::milliseconds(50);  ///< at what no condition variable tells: a signal

}  // namespace

bool Coordinator::Desk::begin(RunIdentity& identity) {
  finished_before_ = !journal_.begin(identity);
  if (finished_before_) return false;
  std::unique_lock lock(mutex_);
  units_ = HandOut(ids_);
  for (std::int64_t unit = 0; unit < units_.size(); ++unit)
    if (journal_.has(units_.id(unit))) units_.finish(unit);
  identity_ = identity;
  while (!gate_ && !stop_.load()) changed_.wait_for(lock, look_again);
  if (gate_ && !gate_->empty()) throw quant::Error(quant::ErrorKind::usage, *gate_);
  return true;
}

const RunIdentity* Coordinator::Desk::identity() {
  const std::lock_guard lock(mutex_);
  return identity_ ? &*identity_ : nullptr;
}

void Coordinator::Desk::open(const std::string& refusal) {
  const std::lock_guard lock(mutex_);
  gate_ = refusal;
  changed_.notify_all();
}

std::optional<std::int64_t> Coordinator::Desk::next(int rank, std::int64_t first) {
  const std::lock_guard lock(mutex_);
  return stopping() ? std::nullopt : units_.next(rank, first);
}

bool Coordinator::Desk::keep_of(std::int64_t unit, std::string_view content, bool whole) {
  const std::lock_guard lock(mutex_);
  if (failed_ || gathering_) return false;
  if (units_.is_finished(unit)) return true;  // of a rank that was lost and came back
  failed_ = !journal_.keep(units_.id(unit), content, whole);
  if (!failed_) units_.finish(unit);
  changed_.notify_all();
  return !failed_;
}

void Coordinator::Desk::pass(int rank) {
  const std::lock_guard lock(mutex_);
  units_.pass(rank);
  changed_.notify_all();
}

std::string Coordinator::Desk::release(int rank, bool lost) {
  const std::lock_guard lock(mutex_);
  const std::optional<std::int64_t> unit = units_.release(rank, lost);
  changed_.notify_all();
  if (!unit) return "";
  return std::format("its unit {} {}", units_.id(*unit),
                     units_.is_free(*unit) ? "goes to another rank" : "was lost twice and is left for rank 0, at the end");
}

bool Coordinator::Desk::again(bool interrupted) {
  std::unique_lock lock(mutex_);
  if (interrupted)
    units_.release(0, false);
  else
    units_.pass(0);
  for (;; changed_.wait_for(lock, look_again)) {
    if (stopping() ? !units_.any_held() : units_.done()) return false;
    if (!stopping() && units_.any_free()) return true;
  }
}

ExperimentRecord Coordinator::Desk::gather(const Spec& spec) {
  bool complete = false;
  {
    const std::lock_guard lock(mutex_);
    gathering_ = true;
    complete = !stopping();
    journal_.reread();
  }
  GatheredUnits units(journal_, *identity_, ids_, complete);
  ExperimentRecord record = run_experiment(spec, {}, complete ? stop_ : units.stop(), units);
  if (!complete) record.interrupted = true;
  return record;
}

void Coordinator::Desk::done(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  error_ = error;
  done_ = true;
}

bool Coordinator::Desk::is_done() {
  const std::lock_guard lock(mutex_);
  return done_;
}

void Coordinator::Desk::rethrow() const {
  if (error_) std::rethrow_exception(error_);
}

std::pair<std::int64_t, std::int64_t> Coordinator::Desk::progress() {
  const std::lock_guard lock(mutex_);
  return {units_.finished(), units_.size()};
}

}  // namespace qfid::eval
