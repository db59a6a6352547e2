// Messages of any length between the ranks of a job. The only file that calls MPI (version 3, from the thread that made
// this: MPI_THREAD_FUNNELED). Nothing here waits for another rank, starting and ending apart: a rank that died leaves
// messages that never arrive, and is otherwise not noticed. Waiting ranks sleep instead of spinning as MPI's own waits do.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qfid::eval {

struct Letter {
  int from = 0;
  std::string text;
};

class Post {
 public:
  /// Starts MPI, with every other rank.
  Post(int& argc, char**& argv);
  Post(const Post&) = delete;
  Post& operator=(const Post&) = delete;
  ~Post();

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(hosts_.size()); }
  int local_rank() const { return local_rank_; }  ///< among those of its node
  int local_size() const { return local_size_; }
  /// "rank 3 (node7)".
  std::string name_of(int rank) const;

  void send(int to, std::string_view text);
  /// A message that has wholly arrived; those of one rank come in its order.
  std::optional<Letter> receive();
  /// Sleeps a moment, a shorter one while messages are on their way.
  void rest() const;
  /// Waits until all that was sent to `ranks` has left, `seconds` at most.
  void flush(const std::vector<int>& ranks, double seconds);
  /// Ends MPI with every other rank; `some_are_lost`: it may never end, so the process ends after a while in any case, with
  /// `code`.
  void finish(bool some_are_lost, int code);

 private:
  struct Transfer;  // one MPI request and its bytes
  void collect();

  int rank_ = 0, local_rank_ = 0, local_size_ = 1;
  std::vector<std::string> hosts_;
  std::map<int, std::deque<std::unique_ptr<Transfer>>> outgoing_, incoming_;
  std::map<int, std::string> parts_;  ///< of messages of which more is to come
  std::deque<Letter> arrived_;
  std::size_t incoming_bytes_ = 0;
};

}  // namespace qfid::eval
