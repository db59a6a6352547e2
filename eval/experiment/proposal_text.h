// The text of a run, measured in the windows that its protocol cuts it into: where a proposal may begin, and how many
// windows it finds there.
#pragma once

#include "eval/data/corpus.h"
#include "eval/experiment/spec.h"
#include "eval/model/decoder_weights.h"

namespace qfid::eval {

class ProposalText {
 public:
  /// Reads the tokens, or the text and its tokenizer. Error{input} as load_corpus.
  ProposalText(DataSpec data, const ModelConfig& config);

  std::int64_t tokens() const { return static_cast<std::int64_t>(corpus_.tokens.size()); }
  std::int64_t first_calibration() const;  ///< tokens() without one
  std::int64_t end_calibration() const;    ///< 0 without one

  /// The token behind the first `windows` of the run; under lmeval behind the documents that they are of.
  std::int64_t behind(std::int64_t windows) const;
  /// Windows of tokens [first, end), at most `most`: whole batches, whole documents.
  std::int64_t fit(std::int64_t first, std::int64_t end, std::int64_t most) const;

 private:
  DataSpec data_;
  Corpus corpus_;
  std::int64_t context_;
};

}  // namespace qfid::eval
