#include "eval/mpi/coordinator.h"

#include <algorithm>
#include <format>
#include <iostream>
#include <thread>

#include "eval/mpi/coordinator_desk.h"
#include "eval/mpi/devices.h"
#include "eval/mpi/identity_text.h"
#include "quant/core/error.h"

namespace qfid::eval {

namespace {

constexpr int most_letters = 64;  ///< between two looks at the time
constexpr double flush_seconds = 10;

}  // namespace

Coordinator::Coordinator(Post& post, const double& lost_after)
    : post_(post), lost_after_(lost_after), ranks_(static_cast<std::size_t>(post.size())) {}

int Coordinator::run(RunOptions options) {
  if (!options.shard.empty())
    throw quant::Error(quant::ErrorKind::usage, "--shard: the ranks of a job share out one whole run, expected none");
  if (!options.dump.empty())
    throw quant::Error(quant::ErrorKind::usage, "--dump writes files of whole tensors, which qfid-mpi can't split");
  options.no_timings = true;  // of several processes: they don't add up
  return command_run(options, [this](const Spec& spec, const ProgressCallback& progress, const std::atomic<bool>& stop,
                                     Journal& journal) { return execute(spec, progress, stop, journal); });
}

ExperimentRecord Coordinator::execute(const Spec& asked, const ProgressCallback& progress, const std::atomic<bool>& stop,
                                      Journal& journal) {
  require_can_be_split(asked, "qfid-mpi");
  Spec spec = asked;
  choose_devices(spec, post_.local_rank(), post_.local_size());
  Desk desk(journal, stop);
  ExperimentRecord record;
  std::thread computing([&] {
    std::exception_ptr failure;
    try {
      for (bool first = true, more = true; more; first = false) {
        HandedUnits units(desk, first);
        const bool interrupted = run_experiment(spec, {}, stop, units).interrupted;
        more = !desk.finished_before() && desk.again(interrupted);
      }
      if (!desk.finished_before()) record = desk.gather(spec);
    } catch (...) { failure = std::current_exception(); }
    desk.done(failure);
  });
  serve(desk, progress != nullptr);
  computing.join();
  desk.rethrow();
  end();  // what is left is this rank's alone
  return record;
}

void Coordinator::serve(Desk& desk, bool shows_progress) {
  for (Rank& rank : ranks_) rank.heard = clock_.now();
  for (; !desk.is_done(); post_.rest()) {
    clock_.tick(lost_after_ / beats_until_lost);
    for (int n = 0; n < most_letters; ++n) {
      const auto letter = post_.receive();
      if (!letter) break;
      hear(desk, *letter);
    }
    if (clock_.now() >= next_beat_) beat();
    find_lost(desk);
    if (!opened_) open(desk);
    serve_waiting(desk);
    if (shows_progress) show_progress(desk);
  }
  if (!line_.empty()) std::cerr << "\r\033[K" << std::flush;
}

void Coordinator::beat() {
  next_beat_ = clock_.now() + lost_after_ / beats_until_lost;
  for (int rank = 1; rank < post_.size(); ++rank)
    if (ranks_[static_cast<std::size_t>(rank)].state != State::lost) post_.send(rank, written(Word::beat));
}

void Coordinator::hear(Desk& desk, const Letter& letter) {
  Rank& rank = ranks_.at(static_cast<std::size_t>(letter.from));
  rank.heard = clock_.now();
  if (rank.state == State::lost) {
    rank.state = rank.before_lost;
    note(post_.name_of(letter.from) + " is heard again");
  }
  quant::ByteReader from(letter.text);
  switch (from.number<Word>()) {
    case Word::joined:
      rank.identity = read_identity(from);
      rank.state = State::joined;
      break;
    case Word::ask:
      hear_ask(desk, letter.from, from.number<std::int64_t>());
      break;
    case Word::walked:
      desk.pass(letter.from);
      rank.waits = true;
      break;
    case Word::result: {
      const auto unit = from.number<std::int64_t>();
      const bool whole = from.number<std::uint8_t>() != 0;
      desk.keep_of(unit, from.view(), whole);
      break;
    }
    case Word::left:
      drop(desk, letter.from, State::left, from.text());
      break;
    default:
      break;
  }
}

void Coordinator::hear_ask(Desk& desk, int rank, std::int64_t first) {
  const std::optional<std::int64_t> unit = desk.next(rank, first);
  post_.send(rank, unit ? written(Word::unit, *unit) : written(Word::none));
}

void Coordinator::serve_waiting(Desk& desk) {
  for (int rank = 1; rank < post_.size(); ++rank) {
    Rank& waiting = ranks_[static_cast<std::size_t>(rank)];
    if (!waiting.waits || waiting.state != State::joined) continue;
    if (const auto unit = desk.next(rank, 0)) {
      waiting.waits = false;
      post_.send(rank, written(Word::unit, *unit));
    }
  }
}

/// A rank that computes no more. `why`: "" when it was asked to stop.
void Coordinator::drop(Desk& desk, int rank, State state, const std::string& why) {
  Rank& dropped = ranks_.at(static_cast<std::size_t>(rank));
  dropped.before_lost = dropped.state;
  dropped.state = state;
  const std::string unit = desk.release(rank, !why.empty());
  if (why.empty() && desk.stops()) {
    dropped.state = State::stopped;
    return;
  }
  failures_[(why.empty() ? "was asked to stop" : why) + (unit.empty() ? "" : ": " + unit)].push_back(rank);
  if (opened_) tell_failures(true);
}

void Coordinator::find_lost(Desk& desk) {
  for (int rank = 1; rank < post_.size(); ++rank) {
    const Rank& looked_at = ranks_[static_cast<std::size_t>(rank)];
    if (looked_at.state != State::lost && clock_.now() - looked_at.heard > lost_after_)
      drop(desk, rank, State::lost, std::format("nothing heard for {:.0f} s", lost_after_));
  }
}

/// Once every rank has said what its run is made of, or dropped out: all begin, or none.
void Coordinator::open(Desk& desk) {
  const RunIdentity* const mine = desk.identity();
  if (mine == nullptr) return;
  std::map<std::string, std::vector<int>> others;
  for (int rank = 1; rank < post_.size(); ++rank) {
    const Rank& other = ranks_[static_cast<std::size_t>(rank)];
    if (other.state == State::starting) return;
    if (other.state != State::joined) continue;
    if (const std::string differs = difference(*mine, other.identity); !differs.empty()) others[differs].push_back(rank);
  }
  opened_ = true;
  tell_failures(true);
  std::string refusal;
  for (const auto& [differs, ranks] : others)
    refusal += std::format("{}{}: runs something else than {}: {}", refusal.empty() ? "" : "\n", names_of(ranks),
                           post_.name_of(0), differs);
  if (refusal.empty())
    for (int rank = 1; rank < post_.size(); ++rank)
      if (ranks_[static_cast<std::size_t>(rank)].state == State::joined) post_.send(rank, written(Word::welcome));
  desk.open(refusal);
}

void Coordinator::show_progress(Desk& desk) {
  const auto [finished, all] = desk.progress();
  std::string line;
  if (all > 0 && opened_)
    line = std::format(
        "\r\033[K{}/{} units, {} ranks", finished, all,
        1 + std::count_if(ranks_.begin() + 1, ranks_.end(), [](const Rank& r) { return r.state == State::joined; }));
  if (line != line_) std::cerr << line << std::flush;
  line_ = line;
}

std::string Coordinator::names_of(const std::vector<int>& ranks) const {
  constexpr std::size_t most_named = 20;
  std::string names;
  for (std::size_t i = 0; i < std::min(ranks.size(), most_named); ++i)
    names += (i == 0 ? "" : ", ") + post_.name_of(ranks[i]);
  if (ranks.size() > most_named) names += std::format(" and {} more", ranks.size() - most_named);
  return names;
}

void Coordinator::tell_failures(bool all) {
  for (const auto& [why, ranks] : failures_)
    if (all || why != own_error_) note(names_of(ranks) + " dropped out: " + why);
  failures_.clear();
}

void Coordinator::note(const std::string& text) {
  std::cerr << (line_.empty() ? "" : "\r\033[K") << "qfid: " << printable(text) << "\n";
  line_.clear();
}

void Coordinator::complain(const std::string& message) {
  own_error_ = message;
  std::cerr << "qfid: " << printable(message) << "\n";
}

bool Coordinator::some_are_lost() const {
  return std::any_of(ranks_.begin() + 1, ranks_.end(), [](const Rank& rank) { return rank.state == State::lost; });
}

void Coordinator::end() {
  if (ended_) return;
  ended_ = true;
  tell_failures(false);
  std::vector<int> living, out;
  for (int rank = 1; rank < post_.size(); ++rank) {
    const State state = ranks_[static_cast<std::size_t>(rank)].state;
    (state == State::lost ? out : living).push_back(rank);
    post_.send(rank, written(Word::end, some_are_lost() ? 1 : 0));
    if (state == State::left) out.push_back(rank);
  }
  if (opened_ && !out.empty()) note(std::format("{} of {} ranks dropped out: {}", out.size(), post_.size(), names_of(out)));
  post_.flush(living, flush_seconds);
}

}  // namespace qfid::eval
