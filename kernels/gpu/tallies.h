// Counts of casts on the device, three a cast, in pages that are read back whole: whoever asks for the counts of one of a
// layer's casts has those of the others, and nobody waits for them before.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/gpu/context.h"
#include "kernels/pending_counts.h"

namespace qfid::kernels::gpu {

class TallyPage;

/// Three zeros on the device for one cast to add to: saturated, flushed, nan.
class TallySlot {
 public:
  TallySlot() = default;
  TallySlot(std::shared_ptr<TallyPage> page, std::int64_t index) : page_(std::move(page)), index_(index) {}
  std::shared_ptr<std::uint64_t> counters() const;
  /// Of a cast of so many numbers, which has been asked of the device already.
  PendingCounts pending(std::int64_t elements) const;

 private:
  std::shared_ptr<TallyPage> page_;
  std::int64_t index_ = 0;
};

class Tallies {
 public:
  explicit Tallies(Context& context) : context_(context) {}
  /// The cast must be asked of the device before anyone reads counts taken from here.
  TallySlot take();

 private:
  Context& context_;
  std::shared_ptr<TallyPage> page_;
};

}  // namespace qfid::kernels::gpu
