// libgomp's entry points, as few as our sources and oneDNN use, on plain threads: for the thread sanitizer alone (the tsan
// preset links it into the tests). libgomp's own barriers are futexes that the sanitizer can't see, so with libgomp every
// parallel region looks like a race between its end and what follows; suppressing that would suppress the real races too.
// Here regions begin and end with thread creation and join, which the sanitizer knows, and iterations are handed out by
// relaxed atomics, which order nothing: whatever our loops share without order is reported. Left out: everything of OpenMP
// that isn't used; nested regions have one thread, as libgomp's default has it.
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace {

struct Loop {
  Loop(long first, long last, long by, long grain) : next(first), end(last), step(by), chunk(grain) {}
  std::atomic<long> next;
  long end, step, chunk;
};

/// The threads of one parallel region; each counts the loops it has met, so that loops without a barrier don't mix.
struct Team {
  explicit Team(unsigned n) : size(n) { pthread_barrier_init(&barrier, nullptr, n); }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() { pthread_barrier_destroy(&barrier); }
  unsigned size;
  pthread_barrier_t barrier{};
  std::mutex mutex;
  std::map<int, Loop> loops;
};

struct Place {
  Team* team = nullptr;
  int number = 0, loops_met = 0;
  Loop* loop = nullptr;
};
thread_local Place place;
std::mutex critical;  ///< of every critical section without a name

int threads_at_start() {
  const char* given = std::getenv("OMP_NUM_THREADS");
  const int n = given == nullptr ? static_cast<int>(std::thread::hardware_concurrency()) : std::atoi(given);
  return std::max(n, 1);
}
thread_local int max_threads = threads_at_start();

void take_part(Team& team, int number, void (*work)(void*), void* data) {
  const Place before = place;
  place = {&team, number, 0, nullptr};
  work(data);
  place = before;
}

}  // namespace

extern "C" {

int omp_get_thread_num() { return place.number; }
int omp_get_num_threads() { return place.team == nullptr ? 1 : static_cast<int>(place.team->size); }
int omp_get_max_threads() { return max_threads; }
void omp_set_num_threads(int n) { max_threads = n; }
int omp_in_parallel() { return place.team != nullptr && place.team->size > 1; }

void GOMP_critical_start() { critical.lock(); }
void GOMP_critical_end() { critical.unlock(); }

void GOMP_barrier() {
  if (place.team != nullptr) pthread_barrier_wait(&place.team->barrier);
}

void GOMP_parallel(void (*work)(void*), void* data, unsigned threads, unsigned /*flags*/) {
  if (threads == 0) threads = static_cast<unsigned>(max_threads);
  if (omp_in_parallel() != 0) threads = 1;
  Team team(threads);
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back([&, i] { take_part(team, static_cast<int>(i), work, data); });
  take_part(team, 0, work, data);
  for (std::thread& other : others) other.join();
}

bool GOMP_loop_nonmonotonic_dynamic_next(long* begin, long* end) {
  const Loop& loop = *place.loop;
  *begin = place.loop->next.fetch_add(loop.chunk * loop.step, std::memory_order_relaxed);
  if (loop.step > 0 ? *begin >= loop.end : *begin <= loop.end) return false;
  const long last = *begin + loop.chunk * loop.step;
  *end = loop.step > 0 ? std::min(last, loop.end) : std::max(last, loop.end);
  return true;
}

bool GOMP_loop_nonmonotonic_dynamic_start(long first, long last, long step, long chunk, long* begin, long* end) {
  if (place.team == nullptr) std::abort();  // an orphaned loop: nobody here writes one
  {
    const std::scoped_lock lock(place.team->mutex);
    place.loop = &place.team->loops.try_emplace(place.loops_met++, first, last, step, chunk).first->second;
  }
  return GOMP_loop_nonmonotonic_dynamic_next(begin, end);
}

void GOMP_loop_end() { GOMP_barrier(); }
void GOMP_loop_end_nowait() {}

}  // extern "C"
