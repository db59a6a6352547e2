#include "eval/mpi/post.h"

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <format>
#include <thread>
#include <utility>

#include "quant/core/error.h"

namespace qfid::eval {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int tag = 1;
/// MPI counts in int; and a rank that reads slowly isn't to be drowned.
constexpr std::size_t piece_bytes = std::size_t{4} << 20;
constexpr std::size_t most_incoming_bytes = std::size_t{256} << 20;
/// The last byte of a piece.
constexpr char more = 'm', last = 'l';
constexpr auto end_wait = std::chrono::seconds(10);

void check(int result, const char* what) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(result, text, &length);
  throw quant::Error(quant::ErrorKind::internal,
                     std::format("{}: {}", what, std::string_view(text, static_cast<std::size_t>(length))));
}

}  // namespace

struct Post::Transfer {
  std::string bytes;
  MPI_Request request = MPI_REQUEST_NULL;

  bool done() {
    int flag = 0;
    MPI_Status status;
    return MPI_Test(&request, &flag, &status) != MPI_SUCCESS || flag != 0;
  }
};

Post::Post(int& argc, char**& argv) {
  int provided = 0;
  check(MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_FUNNELED)
    throw quant::Error(quant::ErrorKind::unavailable, "this MPI has no threads, expected MPI_THREAD_FUNNELED");
  int size = 1, length = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  std::string name(MPI_MAX_PROCESSOR_NAME, '\0'), all(name.size() * static_cast<std::size_t>(size), '\0');
  MPI_Get_processor_name(name.data(), &length);
  check(MPI_Allgather(name.data(), MPI_MAX_PROCESSOR_NAME, MPI_CHAR, all.data(), MPI_MAX_PROCESSOR_NAME, MPI_CHAR,
                      MPI_COMM_WORLD),
        "MPI_Allgather");
  for (std::size_t r = 0; r < static_cast<std::size_t>(size); ++r) hosts_.emplace_back(all.c_str() + r * name.size());
  MPI_Comm node;
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node), "MPI_Comm_split_type");
  MPI_Comm_rank(node, &local_rank_);
  MPI_Comm_size(node, &local_size_);
  MPI_Comm_free(&node);
  // From here on a call that fails says so to its caller instead of ending the job.
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

Post::~Post() = default;

std::string Post::name_of(int rank) const {
  return std::format("rank {} ({})", rank, hosts_.at(static_cast<std::size_t>(rank)));
}

void Post::send(int to, std::string_view text) {
  std::deque<std::unique_ptr<Transfer>>& queue = outgoing_[to];
  while (!queue.empty() && queue.front()->done()) queue.pop_front();
  do {
    auto piece = std::make_unique<Transfer>();
    piece->bytes = text.substr(0, piece_bytes);
    text.remove_prefix(piece->bytes.size());
    piece->bytes += text.empty() ? last : more;
    // What can't be sent is a rank's that is gone: its silence is noticed.
    if (MPI_Isend(piece->bytes.data(), static_cast<int>(piece->bytes.size()), MPI_CHAR, to, tag, MPI_COMM_WORLD,
                  &piece->request) == MPI_SUCCESS)
      queue.push_back(std::move(piece));
  } while (!text.empty());
}

/// Takes in what has been announced, and puts together what has come.
void Post::collect() {
  int there = 1;
  while (there != 0 && incoming_bytes_ < most_incoming_bytes) {
    MPI_Status status;
    int bytes = 0;
    if (MPI_Iprobe(MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, &there, &status) != MPI_SUCCESS || there == 0) break;
    MPI_Get_count(&status, MPI_CHAR, &bytes);
    auto piece = std::make_unique<Transfer>();
    piece->bytes.resize(static_cast<std::size_t>(bytes));
    if (MPI_Irecv(piece->bytes.data(), bytes, MPI_CHAR, status.MPI_SOURCE, tag, MPI_COMM_WORLD, &piece->request) !=
        MPI_SUCCESS)
      break;
    incoming_bytes_ += piece->bytes.size();
    incoming_[status.MPI_SOURCE].push_back(std::move(piece));
  }
  for (auto& [from, queue] : incoming_)
    while (!queue.empty() && queue.front()->done()) {
      std::string& bytes = queue.front()->bytes;
      incoming_bytes_ -= bytes.size();
      const bool whole = !bytes.empty() && bytes.back() == last;
      if (!bytes.empty()) parts_[from].append(bytes, 0, bytes.size() - 1);
      queue.pop_front();
      if (whole) arrived_.push_back({from, std::exchange(parts_[from], {})});
    }
}

std::optional<Letter> Post::receive() {
  collect();
  if (arrived_.empty()) return std::nullopt;
  Letter letter = std::move(arrived_.front());
  arrived_.pop_front();
  return letter;
}

void Post::rest() const {
  const auto any = [](const auto& queues) {
    return std::any_of(queues.begin(), queues.end(), [](const auto& entry) { return !entry.second.empty(); });
  };
  std::this_thread::sleep_for(any(incoming_) ? std::chrono::microseconds(50) : std::chrono::microseconds(2000));
}

void Post::flush(const std::vector<int>& ranks, double seconds) {
  const Clock::time_point start = Clock::now();
  for (const int rank : ranks) {
    std::deque<std::unique_ptr<Transfer>>& queue = outgoing_[rank];
    while (!queue.empty() && std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
      while (!queue.empty() && queue.front()->done()) queue.pop_front();
      if (!queue.empty()) rest();
    }
  }
}

void Post::finish(bool some_are_lost, int code) {
  if (some_are_lost)
    std::thread([code] {
      std::this_thread::sleep_for(end_wait);
      std::_Exit(code);
    }).detach();
  MPI_Finalize();
}

}  // namespace qfid::eval
