// What a measure leaves behind: named numbers, rows of per-layer tables, sums of windows and the per-token series.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qfid::eval {

struct Interval {
  double low = 0, high = 0;
};

/// One named number. Null value: not defined on this data (the note says why).
struct Metric {
  std::string name;  ///< as in docs/metrics.md: "perplexity", "nll.mean", "perplexity.ratio", "kl.mean", ...
  std::optional<double> value;
  std::optional<Interval> ci;  ///< window-clustered t interval at the spec's confidence
  std::string unit;            ///< "nats", "dB", "ratio", "share", ""
  std::string note;
};

/// One row of the per-layer tables. `error`: "cumulative" or "local" (comparisons with the baseline), "format" and "kernel"
/// (on the baseline's inputs: emulated against full precision, real against emulated), "none" (numbers about one tensor of
/// this run alone). head -1: all heads together; layer -1: the embedding or the head of the model.
struct LayerRow {
  int layer = 0;
  std::string tap;
  int head = -1;
  std::string error;
  std::vector<std::pair<std::string, std::optional<double>>> values;  ///< column -> number, in a fixed order per tap kind
};

/// How often each code of P occurs in one layer, all heads and sampled windows together, where the query sees the key.
struct CodeHistogram {
  int layer = 0;
  std::string format;                ///< "uint8", "int8", "e4m3", "e5m2"
  double p_scale = 1;                ///< a code's number over this is e^(score - row maximum)
  std::vector<std::int64_t> counts;  ///< [256], by the code's bits
};

/// Sums of one window, formed alone. Windows are in order; vectors have equal length, but those that the protocol doesn't
/// have are empty: `hidden` compares hidden states, all others score tokens.
struct WindowSums {
  std::vector<std::int64_t> tokens;
  std::vector<double> nll, kl, kl_reverse;
  std::vector<std::int64_t> top1_agree;
  std::vector<double> nmse{}, cosine_distance{};  ///< over tokens
  std::vector<double> pooled_cosine_distance{};   ///< of the window
};

/// A document scored as a whole (protocol lmeval); words and bytes are those of its text before detokenizing.
struct ScoredDocument {
  std::int64_t windows = 0, words = 0, bytes = 0;
  bool operator==(const ScoredDocument&) const = default;
};

/// Per scored token, in order (tokens.npy): the first three, or under protocol hidden the last two.
struct TokenSeries {
  std::vector<float> nll, kl;
  std::vector<std::int32_t> top1;
  std::vector<float> nmse{}, cosine_distance{};
};

}  // namespace qfid::eval
