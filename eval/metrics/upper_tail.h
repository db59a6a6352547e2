// A percentile near the top over more values than are worth keeping: only the largest are kept, as many as the percentile of
// all that may come needs. Exact; blind to what lies below.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace qfid::eval {

class UpperTail {
 public:
  /// `most`: values that may come in all, the same at each call; more are an error once the percentile is asked for.
  void add(float value, std::int64_t most);
  /// Linear between order statistics at q (n - 1), q = 0.99; null without values, NaN where one of them was.
  std::optional<double> percentile() const;

  static constexpr double q = 0.99;

 private:
  std::vector<float> largest_;
  std::int64_t n_ = 0;
  bool nan_ = false;  ///< NaN has no place in an order
};

}  // namespace qfid::eval
