#include "eval/experiment/backcopy_windows.h"

#include <cmath>

namespace qfid::eval {

std::vector<BackcopyWindow> backcopy_windows(const BackcopyTask& task, const std::vector<Window>& windows) {
  std::vector<BackcopyWindow> all;
  for (const Window& window : windows) {
    BackcopyWindow& described = all.emplace_back();
    for (std::size_t t = 0; t < window.input.size(); ++t) {
      described.trigger.push_back(task.is_trigger(window.input[t]));
      const std::int32_t before = t > 0 ? window.input[t - 1] : task.bos();
      described.oracle_nll.push_back(-std::log(task.probability(before, window.input[t], window.target[t])));
    }
  }
  return all;
}

}  // namespace qfid::eval
