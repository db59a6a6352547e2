// Which numbers say how good a run is as a whole: of scored tokens, or under protocol hidden of hidden states.
#pragma once

#include "eval/experiment/record.h"

namespace qfid::eval {

struct QualityColumn {
  const char *metric, *name, *short_name;  ///< key; as headers of tables say it; the console's, at most 10 characters
};

struct Quality {
  QualityColumn level;                         ///< of the run itself
  QualityColumn headline;                      ///< against full precision, with an interval
  QualityColumn distance;                      ///< against full precision, never below 0: what runs are ordered by
  QualityColumn agreement;                     ///< against full precision, beside it
  bool ratio;                                  ///< the headline is a ratio, 1 where nothing changed; otherwise never below 0
  const char *in_words, *difference_in_words;  ///< what headline and target-against-target tables show
};

inline const Quality& quality_of(const ExperimentRecord& record) {
  static const Quality tokens{
      {"perplexity", "Perplexity", "perplexity"},
      {"perplexity.ratio", "Ratio", "ratio"},
      {"kl.mean", "KL, nats", "KL (nats)"},
      {"top1.agreement", "Top-1", "top-1"},
      true,
      "Ratios and intervals are of perplexity against the full-precision baseline on the same tokens",
      "Mean NLL of B minus that of A, in nats: above zero, A is better."};
  static const Quality hidden{
      {"hidden.sqnr", "SQNR, dB", "SQNR, dB"},
      {"hidden.nmse.mean", "NMSE", "NMSE"},
      {"hidden.cosine_distance.mean", "Cosine distance", "1 - cos"},
      {"hidden.pooled.cosine_distance.mean", "Cosine distance, pooled", "pooled"},
      false,
      "NMSE, its interval and cosine distances are of the last hidden states against the full-precision baseline's on the "
      "same tokens, pooled: of their mean over a window's tokens",
      "Mean NMSE of B's hidden states minus that of A's: above zero, A is better."};
  return record.provenance.protocol.starts_with("hidden") ? hidden : tokens;
}

}  // namespace qfid::eval
