#include "eval/experiment/proposal_text.h"

#include <algorithm>

#include "eval/data/windows.h"
#include "eval/experiment/session.h"

namespace qfid::eval {

ProposalText::ProposalText(DataSpec data, const ModelConfig& config)
    : data_(std::move(data)),
      corpus_(load_corpus(data_)),
      context_(context_of(data_, config, corpus_)) {}

std::int64_t ProposalText::first_calibration() const {
  return data_.calibration ? std::min(data_.calibration->first_token, tokens()) : tokens();
}

std::int64_t ProposalText::end_calibration() const {
  return data_.calibration ? data_.calibration->first_token + data_.calibration->windows * context_ : 0;
}

std::int64_t ProposalText::behind(std::int64_t windows) const {
  if (data_.protocol != Protocol::lmeval) return data_.first_token + windows * context_;
  std::int64_t end = data_.first_token;
  for (const DocumentSpan& d : corpus_.documents) {
    if (d.first_token < data_.first_token) continue;
    if (windows <= 0) break;
    windows -= document_window_count(d.tokens, context_);
    end = d.first_token + d.tokens;
  }
  return end;
}

std::int64_t ProposalText::fit(std::int64_t first, std::int64_t end, std::int64_t most) const {
  if (first >= end) return 0;
  if (data_.protocol != Protocol::lmeval) {
    const std::int64_t batch = data_.protocol == Protocol::outlier_free ? data_.batch_windows : 1;
    return std::min(most, windows_available(end, first, context_)) / batch * batch;
  }
  std::int64_t windows = 0;
  for (const DocumentSpan& d : corpus_.documents) {
    if (d.first_token < first) continue;
    const std::int64_t more = document_window_count(d.tokens, context_);
    if (d.first_token + d.tokens > end || windows + more > most) break;
    windows += more;
  }
  return windows;
}

}  // namespace qfid::eval
