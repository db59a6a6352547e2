#include "eval/experiment/chunk_work.h"

#include <functional>
#include <optional>

#include "eval/experiment/elapsed.h"
#include "eval/experiment/unit_content.h"

namespace qfid::eval {

namespace {

/// Adds to an arm what is known of it. False when nothing is.
bool take_known(std::optional<ChunkLog>& log, KnownParts& parts, std::size_t index, const WindowRange& chunk, Arm& arm) {
  if (!log) return false;
  std::optional<std::string> part = parts.find(index, chunk);
  if (part) log->take(arm, std::move(*part), chunk.end - chunk.begin);
  return part.has_value();
}

}  // namespace

bool compute_chunk(const std::vector<Window>& windows, const WindowRange& chunk, Lockstep& lockstep, const ChunkPlace& place,
                   Arm& baseline, std::vector<Arm>& arms) {
  const Clock::time_point start = Clock::now();
  std::optional<ChunkLog> log;
  if (place.units.keeps()) log.emplace(baseline, arms);
  std::vector<std::reference_wrapper<Arm>> running;
  for (std::size_t i = 0; i < arms.size(); ++i)
    if (arms[i].alive() && !take_known(log, place.parts, i + 1, chunk, arms[i])) running.emplace_back(arms[i]);
  // Those that run are compared with what the baseline computes, known or not.
  if (!running.empty() || !take_known(log, place.parts, 0, chunk, baseline)) {
    attempt(baseline, [&] { lockstep.run(chunk_of(windows, chunk.begin, chunk.end), running); });
    const auto finished = [&](std::size_t index, Arm& arm) {
      if (arm.decoder) arm.implementations = arm.decoder->implementations();
      if (log && baseline.alive() && arm.alive()) place.parts.keep(index, chunk, log->part_of(arm));
    };
    finished(0, baseline);
    for (Arm& arm : running) finished(static_cast<std::size_t>(&arm - arms.data()) + 1, arm);
  }
  if (!log || baseline.passing) return true;
  return place.units.keep(place.unit, log->content(seconds_since(start)), log->whole());
}

}  // namespace qfid::eval
