// Hidden states against full precision's: protocol hidden. They are compared on the host, in double and in one order, so
// that every backend's comparison is the same; they are small beside the logits that other protocols keep on the device.
#include <algorithm>
#include <format>

#include "eval/experiment/lockstep.h"
#include "eval/experiment/stopwatch.h"

namespace qfid::eval {

using kernels::DeviceTensor;

void Lockstep::compare_hidden_states(const Chunk& chunk) {
  if (baseline_.dump) baseline_.dump("inputs", chunk.inputs);
  const auto last_of = [](Arm& arm) {
    const Stopwatch watch(arm.forward_seconds, *arm.backend);
    return arm.decoder->last_hidden(arm.hidden);
  };
  const auto measure = [&](Arm& arm, const quant::Tensor& base, const DeviceTensor& last, const quant::Tensor& test) {
    add_rows(arm, chunk.first_window, {{-1, "last_hidden", last}});
    if (arm.dump) arm.dump("last_hidden", test);
    if (arm.hasher)
      arm.hasher->add_last("last_hidden", last, *arm.backend,
                           std::clamp<std::int64_t>(metrics_.local_windows - chunk.first_window, 0, last.shape[0]));
    add_hidden_windows(arm, chunk, base, test);
  };
  const DeviceTensor last = last_of(baseline_);
  quant::Tensor base;
  {
    const Stopwatch watch(baseline_.metric_seconds, *baseline_.backend);
    base = baseline_.backend->download(last);
    measure(baseline_, base, last, base);
  }
  if (!baseline_.alive()) return;
  for (Arm& arm : running_)
    attempt(arm, [&] {
      const DeviceTensor own = last_of(arm);
      const Stopwatch watch(arm.metric_seconds, *arm.backend);
      measure(arm, base, own, arm.backend->download(own));
    });
}

void Lockstep::add_hidden_windows(Arm& arm, const Chunk& chunk, const quant::Tensor& base, const quant::Tensor& test) {
  for (std::int64_t w = 0; w < base.shape()[0]; ++w) {
    try {
      add_hidden_window(arm.hidden_states, base, test, w, chunk.scored[static_cast<std::size_t>(w)]);
    } catch (const quant::Error& error) {
      return arm.fail(RunStatus::failed, std::format("window {}: {}{}", chunk.first_window + w, error.what(),
                                                     arm.origin_of(chunk.first_window + w)));
    }
  }
}

}  // namespace qfid::eval
