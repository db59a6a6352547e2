// Makes the hashes of tensor_hashes.h while a run goes by.
#pragma once

#include <utility>

#include "eval/experiment/tensor_hashes.h"
#include "eval/model/decoder.h"

namespace qfid::eval {

/// Collects the hashes of one arm. Only what is hashed leaves the device.
class TensorHasher {
 public:
  /// taps: every tensor of every layer, and the logits; otherwise the logits alone.
  explicit TensorHasher(bool taps) : taps_(taps) {}

  /// The first `windows` windows of a chunk, layer by layer.
  void add_layer(int l, const LayerTrace& trace, kernels::Backend& on, std::int64_t windows, std::int64_t heads);
  /// What comes last: "logits", or under protocol hidden "last_hidden".
  void add_last(const char* name, const kernels::DeviceTensor& tensor, kernels::Backend& on, std::int64_t windows);
  /// `key` is the caller's to complete.
  TensorHashes hashes() const { return hashes_; }
  /// Takes the place of another that has seen what came before.
  void go_on_from(TensorHashes seen) { hashes_ = std::move(seen); }

 private:
  void add(const std::string& name, const kernels::DeviceTensor& tensor, kernels::Backend& on, std::int64_t windows,
           std::int64_t heads);

  bool taps_;
  TensorHashes hashes_;
};

/// Backend, instruction set, threads, schemes and implementations of a run.
std::map<std::string, std::string> hash_key(const kernels::BackendInfo& info, const std::string& schemes,
                                            const std::map<std::string, std::string>& implementations);

}  // namespace qfid::eval
