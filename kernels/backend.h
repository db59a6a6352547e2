// Backend: one device's kernels behind one contract. Same inputs give the same bits twice.
// supports() is an answer with a reason, never a throw; anything else reports by quant::Error{unavailable|internal}.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "kernels/attention.h"
#include "kernels/linear.h"
#include "kernels/pending_attention.h"
#include "kernels/pending_counts.h"
#include "kernels/reductions.h"
#include "kernels/taps.h"

namespace qfid::kernels {

struct Support {
  bool ok = true;
  std::string reason;  ///< why not; names the field
  explicit operator bool() const { return ok; }
};

struct BackendInfo {
  std::string name;                              ///< "cpu", "reference", "gpu"
  std::string device;                            ///< CPU or GPU model
  std::string isa;                               ///< effective ISA as the library reports it
  std::map<std::string, std::string> libraries;  ///< name -> version
  int threads = 1;
};

enum class Activation : std::uint8_t { relu, gelu_erf, gelu_tanh, silu };

/// What follows a linear at once: y = activation(linear(src)), then sum = residual + y.
struct LinearTail {
  std::optional<Activation> activation{};
  DeviceTensor residual{};  ///< f32, of y's shape; undefined: no sum
};
struct LinearResult {
  DeviceTensor y;
  DeviceTensor sum;      ///< undefined without a residual
  PendingCounts counts;  ///< of the activation cast
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual BackendInfo info() const = 0;
  /// Whether the device is here at all.
  virtual Support available() const = 0;
  virtual Support supports(const LinearProblem& problem) const = 0;
  virtual Support supports(const AttentionProblem& problem) const = 0;

  virtual DeviceTensor upload(const quant::Tensor& host) = 0;
  virtual quant::Tensor download(const DeviceTensor& tensor) = 0;
  /// Waits until everything asked for so far is done: for clocks. Host backends always are.
  virtual void synchronize() {}
  /// Bytes of the device's own memory that are free for this process; absent where there is none but the host's.
  virtual std::optional<std::int64_t> free_memory() const { return std::nullopt; }
  /// Bytes of logits worth making at once (at least a window is): a device wants much to do between two waits, a host has no
  /// use for more than one.
  virtual std::int64_t logits_at_once() const { return 0; }

  virtual std::unique_ptr<PreparedLinear> prepare(const LinearProblem& problem, const LinearWeights& weights) = 0;
  /// src f32 [B, T, in] -> f32 [B, T, out]. counts (may be null) += the activation cast's counts.
  virtual DeviceTensor linear(PreparedLinear& prepared, const DeviceTensor& src, quant::CodeCounts* counts) = 0;
  /// linear(), activation() and add() in one: the bits of the three one after the other. Counts are waited for when they are
  /// asked for, not here.
  virtual LinearResult linear_then(PreparedLinear& prepared, const DeviceTensor& src, const LinearTail& tail);

  virtual std::unique_ptr<PreparedAttention> prepare(const AttentionProblem& problem, const AttentionRanges& ranges) = 0;
  virtual AttentionResult attention(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* taps) = 0;
  /// attention() whose counts are waited for when they are asked for, not here.
  virtual PendingAttention attention_later(PreparedAttention& prepared, const AttentionInputs& inputs, TapSink* taps);

  // The full-precision (f32) operations of a transformer.
  /// ids i32 [B, T], table f32 [rows, H] -> [B, T, H]. Ids are checked by the caller.
  virtual DeviceTensor embedding(const DeviceTensor& ids, const DeviceTensor& table) = 0;
  virtual DeviceTensor add(const DeviceTensor& a, const DeviceTensor& b) = 0;
  virtual DeviceTensor layer_norm(const DeviceTensor& x, const DeviceTensor& gamma, const DeviceTensor& beta, float eps) = 0;
  virtual DeviceTensor rms_norm(const DeviceTensor& x, const DeviceTensor& gamma, float eps) = 0;
  virtual DeviceTensor activation(const DeviceTensor& x, Activation kind) = 0;
  /// Rotary embedding of x [B, T, heads, d] (Su et al. 2021; the half-split form of GPT-NeoX/Llama), positions start at
  /// `first`, base theta.
  virtual DeviceTensor rotary(const DeviceTensor& x, std::int64_t first, double theta) = 0;
  /// Rows [begin, end) of the first axis, sharing storage where the backend can.
  virtual DeviceTensor slice(const DeviceTensor& x, std::int64_t begin, std::int64_t end) = 0;

  virtual Reductions& reductions() = 0;
};

}  // namespace qfid::kernels
