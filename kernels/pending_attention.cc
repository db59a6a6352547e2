#include "kernels/pending_attention.h"

#include <optional>
#include <utility>

namespace qfid::kernels {

class PendingAttention::Counts {
 public:
  explicit Counts(std::function<AttentionResult()> ask) : ask_(std::move(ask)) {}
  const AttentionResult& get() {
    if (!known_) {
      known_ = ask_();
      ask_ = nullptr;  // and what it holds
    }
    return *known_;
  }

 private:
  std::function<AttentionResult()> ask_;
  std::optional<AttentionResult> known_;
};

PendingAttention::PendingAttention(AttentionResult known) {
  output_ = std::exchange(known.output, {});
  counts_ = std::make_shared<Counts>([counts = std::move(known)] { return counts; });
}

PendingAttention::PendingAttention(DeviceTensor output, std::function<AttentionResult()> ask)
    : output_(std::move(output)), counts_(std::make_shared<Counts>(std::move(ask))) {}

const std::vector<ProbCounts>& PendingAttention::probs() const {
  static const std::vector<ProbCounts> none;
  return counts_ ? counts_->get().probs : none;
}

PendingCounts PendingAttention::counts(quant::CodeCounts AttentionResult::* operand) const {
  class Source final : public PendingCounts::Source {
   public:
    Source(std::shared_ptr<Counts> counts, quant::CodeCounts AttentionResult::* operand)
        : counts_(std::move(counts)), operand_(operand) {}
    quant::CodeCounts read() override { return counts_->get().*operand_; }

   private:
    std::shared_ptr<Counts> counts_;
    quant::CodeCounts AttentionResult::* operand_;
  };
  return counts_ ? PendingCounts(std::make_shared<Source>(counts_, operand)) : PendingCounts();
}

AttentionResult PendingAttention::result() const {
  AttentionResult all = counts_ ? counts_->get() : AttentionResult{};
  all.output = output_;
  return all;
}

}  // namespace qfid::kernels
