#include "eval/experiment/unit_content.h"

#include <algorithm>
#include <cmath>

#include "quant/core/error.h"

namespace qfid::eval {

using quant::ByteReader;
using quant::ByteWriter;

namespace {

void write_map(ByteWriter& to, const std::map<std::string, std::string>& map) {
  to.number<std::uint64_t>(map.size());
  for (const auto& [key, value] : map) {
    to.text(key);
    to.text(value);
  }
}

std::map<std::string, std::string> read_map(ByteReader& from) {
  std::map<std::string, std::string> map;
  for (auto left = from.number<std::uint64_t>(); left > 0; --left) {
    const std::string key = from.text();
    map[key] = from.text();
  }
  return map;
}

void write_sketches(ByteWriter& to, const AttentionSketches& sketches) {
  to.number<std::uint64_t>(sketches.size());
  for (const auto& [place, sketch] : sketches) {
    to.number(place.first);
    to.number(place.second);
    to.number(sketch.block);
    to.number<std::uint64_t>(sketch.rows.size());
    for (const std::vector<int>& row : sketch.rows) to.list(row);
  }
}

void read_sketches(ByteReader& from, AttentionSketches& sketches) {
  for (auto left = from.number<std::uint64_t>(); left > 0; --left) {
    const int layer = from.number<int>(), head = from.number<int>();
    AttentionSketch& sketch = sketches[{layer, head}];
    sketch.block = from.number<std::int64_t>();
    for (auto rows = from.number<std::uint64_t>(); rows > 0; --rows) sketch.rows.push_back(from.list<int>());
  }
}

void write_hashes(ByteWriter& to, const TensorHashes& hashes) {
  to.number(hashes.windows);
  to.number<std::uint64_t>(hashes.tensors.size());
  for (const auto& [name, heads] : hashes.tensors) {
    to.text(name);
    to.number<std::uint64_t>(heads.size());
    for (const std::string& hash : heads) to.text(hash);
  }
}

TensorHashes read_hashes(ByteReader& from) {
  TensorHashes hashes;
  hashes.windows = from.number<std::int64_t>();
  for (auto tensors = from.number<std::uint64_t>(); tensors > 0; --tensors) {
    hashes.tensors.emplace_back(from.text(), std::vector<std::string>{});
    for (auto heads = from.number<std::uint64_t>(); heads > 0; --heads) hashes.tensors.back().second.push_back(from.text());
  }
  return hashes;
}

/// As the run leaves them: each window scored, and with numbers.
void replay_windows(ByteReader& from, std::size_t windows, Arm& arm) {
  const auto scored = from.number<std::uint64_t>();
  ByteReader::check(scored == 0 || scored == windows);
  for (std::size_t w = 0; w < scored; ++w) {
    arm.tokens.windows.push_back(from.list<kernels::TokenComparison>());
    ByteReader::check(!arm.tokens.windows.back().empty());
    for (const kernels::TokenComparison& token : arm.tokens.windows.back())
      ByteReader::check(std::isfinite(token.nll_base) && std::isfinite(token.nll_test) && std::isfinite(token.kl) &&
                        !std::isnan(token.p_base) && !std::isnan(token.p_test));
  }
  const auto hidden = from.number<std::uint64_t>();
  ByteReader::check(hidden == windows - scored);
  for (std::size_t w = 0; w < hidden; ++w) {
    arm.hidden_states.windows.push_back(from.list<HiddenToken>());
    arm.hidden_states.pooled.push_back(from.number<double>());
    ByteReader::check(!arm.hidden_states.windows.back().empty() && !std::isnan(arm.hidden_states.pooled.back()));
    for (const HiddenToken& token : arm.hidden_states.windows.back())
      ByteReader::check(!std::isnan(token.nmse) && !std::isnan(token.cosine_distance));
  }
}

/// What an arm that is alive got. The mirror of ChunkLog::part_of.
void replay_arm(ByteReader from, std::size_t windows, Arm& arm) {
  arm.implementations = read_map(from);
  arm.forward_seconds += from.number<double>();
  arm.metric_seconds += from.number<double>();
  arm.local_seconds += from.number<double>();
  ByteReader tables(from.view());
  arm.tables.replay(tables);
  ByteReader sinks(from.view());
  arm.sinks.replay(sinks);
  replay_windows(from, windows, arm);
  arm.backcopy.replay(from);
  read_sketches(from, arm.sketches);
  const auto hashed = from.number<std::uint8_t>();
  ByteReader::check((hashed == 1) == arm.hasher.has_value());
  if (arm.hasher) arm.hasher->go_on_from(read_hashes(from));
  ByteReader::check(from.done());
}

}  // namespace

ChunkLog::ChunkLog(Arm& baseline, std::vector<Arm>& arms) {
  entries_.reserve(arms.size() + 1);
  const auto add = [&](Arm& arm) {
    Entry& entry = entries_.emplace_back(Entry{&arm,
                                               arm.tokens.windows.size(),
                                               arm.hidden_states.windows.size(),
                                               arm.backcopy.windows(),
                                               arm.sketches.size(),
                                               arm.forward_seconds,
                                               arm.metric_seconds,
                                               arm.local_seconds,
                                               {},
                                               {},
                                               {}});
    arm.tables.log_to(&entry.tables);
    arm.sinks.log_to(&entry.sinks);
  };
  add(baseline);
  for (Arm& arm : arms) add(arm);
}

ChunkLog::~ChunkLog() {
  for (const Entry& entry : entries_) {
    entry.arm->tables.log_to(nullptr);
    entry.arm->sinks.log_to(nullptr);
  }
}

void ChunkLog::take(Arm& arm, std::string part, std::size_t windows) {
  arm.tables.log_to(nullptr);
  arm.sinks.log_to(nullptr);
  replay_arm(ByteReader(part), windows, arm);
  for (Entry& entry : entries_)
    if (entry.arm == &arm) entry.taken = std::move(part);
}

std::string ChunkLog::part_of(const Arm& arm) const {
  for (const Entry& entry : entries_)
    if (entry.arm == &arm) return part_of(entry);
  throw quant::Error(quant::ErrorKind::internal, "an arm that isn't logged");
}

std::string ChunkLog::part_of(const Entry& entry) {
  if (!entry.taken.empty()) return entry.taken;
  const Arm& arm = *entry.arm;
  ByteWriter to;
  write_map(to, arm.implementations);
  to.number(arm.forward_seconds - entry.forward_seconds);
  to.number(arm.metric_seconds - entry.metric_seconds);
  to.number(arm.local_seconds - entry.local_seconds);
  to.text(entry.tables.bytes());
  to.text(entry.sinks.bytes());
  to.number<std::uint64_t>(arm.tokens.windows.size() - entry.windows);
  for (std::size_t w = entry.windows; w < arm.tokens.windows.size(); ++w) to.list(arm.tokens.windows[w]);
  to.number<std::uint64_t>(arm.hidden_states.windows.size() - entry.hidden);
  for (std::size_t w = entry.hidden; w < arm.hidden_states.windows.size(); ++w) {
    to.list(arm.hidden_states.windows[w]);
    to.number(arm.hidden_states.pooled[w]);
  }
  arm.backcopy.log(to, entry.backcopy);
  write_sketches(to, arm.sketches.size() > entry.sketches ? arm.sketches : AttentionSketches{});
  to.number<std::uint8_t>(arm.hasher ? 1 : 0);
  if (arm.hasher) write_hashes(to, arm.hasher->hashes());
  return to.take();
}

std::string ChunkLog::content(double seconds) {
  ByteWriter to;
  to.number(seconds);
  for (const Entry& entry : entries_) {
    to.number(entry.arm->status);
    to.number<std::uint8_t>(entry.arm->passing ? 1 : 0);
    to.text(entry.arm->message);
    to.text(entry.arm->alive() ? part_of(entry) : std::string());
  }
  return to.take();
}

bool ChunkLog::whole() const {
  return std::none_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.arm->passing; });
}

namespace {

/// What a chunk says of one arm, and what the arm got.
struct Part {
  RunStatus status;
  bool passing;
  std::string message;
  std::string_view content;
};

Part read_part(ByteReader& from) {
  const auto status = from.number<RunStatus>();
  ByteReader::check(status <= RunStatus::failed);
  const bool passing = from.number<std::uint8_t>() != 0;
  const std::string message = from.text();
  return {status, passing, message, from.view()};
}

}  // namespace

bool serves(std::string_view content, const std::vector<Arm>& arms) {
  ByteReader from(content);
  from.number<double>();
  read_part(from);  // the baseline's
  return std::all_of(arms.begin(), arms.end(), [&](const Arm& arm) { return !read_part(from).passing || !arm.alive(); });
}

double replay_chunk(const std::string& unit, std::string_view content, std::size_t windows, Arm& baseline,
                    std::vector<Arm>& arms) {
  try {
    ByteReader from(content);
    const auto seconds = from.number<double>();
    const auto apply = [&](Arm& arm) {
      const Part part = read_part(from);
      if (!arm.alive()) return;  // it dropped out in an earlier chunk, which another process didn't know
      if (part.status == RunStatus::ok)
        replay_arm(ByteReader(part.content), windows, arm);
      else
        arm.fail(part.status, part.message);
    };
    apply(baseline);
    for (Arm& arm : arms) apply(arm);
    ByteReader::check(from.done());
    return seconds;
  } catch (const quant::Error& error) {
    throw quant::Error(quant::ErrorKind::input, "journal, unit " + unit + ": " + error.what());
  }
}

}  // namespace qfid::eval
