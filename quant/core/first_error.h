// The first exception of a parallel region. One that leaves such a region ends the process (std::terminate), and memory can
// be short anywhere: what may allocate there runs guarded, and the error is thrown again behind the region.
#pragma once

#include <atomic>
#include <exception>
#include <mutex>

namespace qfid::quant {

class FirstError {
 public:
  /// Runs `work`, or nothing once something went wrong. Any number of threads at once.
  template <class Work>
  void guard(Work&& work) noexcept {
    if (failed_.load(std::memory_order_relaxed)) return;
    try {
      work();
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      if (!error_) error_ = std::current_exception();
      failed_ = true;
    }
  }
  bool failed() const { return failed_; }
  /// Behind the region. Throws what was caught first, if anything was.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace qfid::quant
