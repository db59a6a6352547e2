// What ranks say to each other: a byte that says what, then its parts (quant/core/byte_stream.h; all ranks are one program).
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "eval/experiment/unit_store.h"
#include "quant/core/byte_stream.h"

namespace qfid::eval {

enum class Word : std::uint8_t {
  beat,     ///< both ways: I am alive
  joined,   ///< to rank 0: what this rank's run is made of (RunIdentity)
  ask,      ///< to rank 0: a unit from number N on
  walked,   ///< to rank 0: at the end of the units; tell me when there is more
  result,   ///< to rank 0: number N, its content
  left,     ///< to rank 0: this rank computes no more, and why; "" = it was asked to stop
  welcome,  ///< from rank 0: all ranks' runs agree
  unit,     ///< from rank 0: number N is yours
  none,     ///< from rank 0: no unit is free from there on
  end,      ///< from rank 0: the job ends; whether ranks were lost
};

inline std::string written(Word word) {
  quant::ByteWriter to;
  to.number(word);
  return to.take();
}
inline std::string written(Word word, std::int64_t number) {
  quant::ByteWriter to;
  to.number(word);
  to.number(number);
  return to.take();
}

/// Beats are sent this often in the time after which a silent rank counts as lost.
inline constexpr double beats_until_lost = 10;

/// Seconds that this process was awake, about: a tick counts for `most` at most. One that was stopped, or waited long for a
/// disk, hasn't listened meanwhile, and mustn't take the others for silent.
class AwakeClock {
 public:
  void tick(double most) {
    const auto now = std::chrono::steady_clock::now();
    seconds_ += std::min(most, std::chrono::duration<double>(now - last_).count());
    last_ = now;
  }
  double now() const { return seconds_; }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  double seconds_ = 0;
};

}  // namespace qfid::eval
