#include "kernels/gpu/tallies.h"

#include <utility>
#include <vector>

#include "kernels/gpu/quantize.h"

namespace qfid::kernels::gpu {

class TallyPage {
 public:
  static constexpr std::int64_t slots = 128;

  explicit TallyPage(Context& context)
      : context_(context.shared_from_this()), device_(context.zeros<std::uint64_t>(3 * slots)) {}

  bool full() const { return used_ == slots; }
  std::int64_t take() { return used_++; }
  std::uint64_t* counters(std::int64_t slot) const { return device_.get() + 3 * slot; }
  /// Waits for the device unless a copy made since that slot was taken is here.
  const std::uint64_t* read(std::int64_t slot) {
    if (slot >= read_) {
      host_ = context_->fetched(device_.get(), 3 * used_);
      read_ = used_;
    }
    return host_.data() + 3 * slot;
  }

 private:
  std::shared_ptr<Context> context_;
  std::shared_ptr<std::uint64_t> device_;
  std::vector<std::uint64_t> host_;
  std::int64_t used_ = 0, read_ = 0;  ///< slots taken; of them copied
};

namespace {

class TallySource final : public PendingCounts::Source {
 public:
  TallySource(std::shared_ptr<TallyPage> page, std::int64_t index, std::int64_t elements)
      : page_(std::move(page)), index_(index), elements_(elements) {}
  quant::CodeCounts read() override { return counts_of(elements_, page_->read(index_)); }

 private:
  std::shared_ptr<TallyPage> page_;
  std::int64_t index_, elements_;
};

}  // namespace

std::shared_ptr<std::uint64_t> TallySlot::counters() const { return {page_, page_->counters(index_)}; }

PendingCounts TallySlot::pending(std::int64_t elements) const {
  return PendingCounts(std::make_shared<TallySource>(page_, index_, elements));
}

TallySlot Tallies::take() {
  if (!page_ || page_->full()) page_ = std::make_shared<TallyPage>(context_);
  return {page_, page_->take()};
}

}  // namespace qfid::kernels::gpu
