// Hashes of a run's tensors: what an exact gate compares, for kernels that must not change at all. XXH3 of the bytes of the
// first windows, of each tensor in the order in which a forward pass makes them, so the first that differs from a saved one
// was made from inputs that don't: the operation that makes it is what changed. Hashes go by the window, whatever the chunk.
//
// Two machines may rightly differ, so hashes have a key: what must be equal before they say anything.
//
// Left out: probabilities and codes of P, which attention doesn't keep unless asked (its output shows their change).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qfid::eval {

struct TensorHashes {
  std::int64_t windows = 0;
  /// "backend", "instruction set", "number of threads", "precision", "implementation of q_proj", ... -> what ran.
  std::map<std::string, std::string> key;
  /// In the order of the data flow: "embedding", "layer0.attn_in", "layer0.q", ..., "logits" -> one hash a head, or one.
  std::vector<std::pair<std::string, std::vector<std::string>>> tensors;
  friend bool operator==(const TensorHashes&, const TensorHashes&) = default;
};

struct HashComparison {
  std::string not_comparable;  ///< why; the rest says nothing then
  int tensors = 0, differing = 0;
  std::string first;  ///< the first that differs, in words: "layer 2, head 1, q"
};
/// `logits_only`: the rest is left aside. What one side lacks isn't comparable.
HashComparison compare_hashes(const TensorHashes& now, const TensorHashes& saved, bool logits_only);

}  // namespace qfid::eval
