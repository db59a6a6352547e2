// Time that a backend needs.
#pragma once

#include <chrono>

#include "kernels/backend.h"
#include "quant/core/error.h"

namespace qfid::eval {

/// Adds the time until its end, when the backend has finished what was asked of it, to a counter.
class Stopwatch {
 public:
  Stopwatch(double& total, kernels::Backend& backend) : total_(total), backend_(backend) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    try {
      backend_.synchronize();
    } catch (const quant::Error&) {  // what went wrong on the device is said by the next call to it
    }
    total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  double& total_;
  kernels::Backend& backend_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace qfid::eval
