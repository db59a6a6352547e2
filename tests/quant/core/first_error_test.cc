// The first exception among threads: one is kept, nothing begins behind it, and it is thrown where the threads are gone.
#include "quant/core/first_error.h"

#include <array>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "quant/core/error.h"

using namespace qfid::quant;

namespace {

constexpr int threads = 4;

/// `work` with the thread's number, on several at once.
void on_threads(const std::function<void(int)>& work) {
  std::vector<std::thread> all;
  for (int i = 0; i < threads; ++i) all.emplace_back(work, i);
  for (std::thread& thread : all) thread.join();
}

}  // namespace

TEST_CASE("without an error everything runs and nothing is thrown", "[threads]") {
  FirstError first;
  std::array<int, threads> done{};
  on_threads([&](int number) {
    for (int i = 0; i < 100; ++i) first.guard([&] { ++done[static_cast<std::size_t>(number)]; });
  });
  CHECK(done == std::array<int, threads>{100, 100, 100, 100});
  CHECK_FALSE(first.failed());
  CHECK_NOTHROW(first.rethrow());
}

TEST_CASE("of many errors at once one is kept, whole, and what comes behind it isn't begun", "[threads]") {
  for (int repeat = 0; repeat < 50; ++repeat) {
    FirstError first;
    std::array<int, threads> begun{};
    std::atomic<int> ready = 0;
    on_threads([&](int number) {
      ++ready;
      while (ready < threads) std::this_thread::yield();
      for (int i = 0; i < 100; ++i)
        first.guard([&] {
          ++begun[static_cast<std::size_t>(number)];
          throw Error(ErrorKind::input, "from thread " + std::to_string(number));
        });
    });
    for (const int n : begun) CHECK(n <= 1);  // a thread's own error is there before its next turn
    CHECK(first.failed());
    bool ran = false;
    first.guard([&] { ran = true; });
    CHECK_FALSE(ran);
    std::string message;
    try {
      first.rethrow();
    } catch (const Error& error) { message = error.what(); }
    REQUIRE(message.starts_with("from thread "));
    CHECK(begun.at(static_cast<std::size_t>(message.back() - '0')) == 1);
  }
}

TEST_CASE("a second error doesn't replace the first, and the type stays", "[threads]") {
  FirstError first;
  std::thread([&] { first.guard([] { throw std::bad_alloc(); }); }).join();
  first.guard([] { throw Error(ErrorKind::internal, "later"); });
  CHECK_THROWS_AS(first.rethrow(), std::bad_alloc);
  CHECK_THROWS_AS(first.rethrow(), std::bad_alloc);
}
