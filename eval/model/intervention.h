// What an experiment changes on purpose in a forward pass (Decoder::layer): what modules put out, or what attention is fed
// with. Changes copy through host memory with the backend's upload and download, so every backend has them; they are meant
// for samples of windows.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/backend.h"

namespace qfid::eval {

class Intervention {
 public:
  virtual ~Intervention() = default;
  /// What `module` of layer l put out, or what stands in its place: f32 [B, T, ...] of "q_proj", "k_proj", "v_proj",
  /// "gate_proj", "attention", "out_proj", "fc1" (before its activation), "fc2".
  virtual kernels::DeviceTensor output(int l, std::string_view module, const kernels::DeviceTensor& y) {
    static_cast<void>(l), static_cast<void>(module);
    return y;
  }
  /// Attention's operands, before anything is quantized.
  virtual void attention(int l, kernels::AttentionInputs& inputs) { static_cast<void>(l), static_cast<void>(inputs); }
};

/// Rounding noise of other arithmetic: every number y of every module's output becomes y (1 + r u), r = 2^-9 (half the
/// distance of bf16's numbers around 1), u uniform in [-1, 1) from (seed, window, layer, module, element) alone, so it is
/// the same on any backend, thread count and chunk.
class ModuleNoise final : public Intervention {
 public:
  ModuleNoise(kernels::Backend& on, std::uint64_t seed) : on_(on), seed_(seed) {}
  /// The window that comes next: forward passes of one window, B = 1.
  void set_window(std::int64_t window) { window_ = window; }
  kernels::DeviceTensor output(int l, std::string_view module, const kernels::DeviceTensor& y) override;

 private:
  kernels::Backend& on_;
  std::uint64_t seed_;
  std::int64_t window_ = 0;
};
inline constexpr float module_noise = 0x1p-9F;

/// No query but the first sees key 0, which sees nothing else (without causal mask: no query at all).
class MaskKey0 final : public Intervention {
 public:
  MaskKey0(kernels::Backend& on, bool causal) : on_(on), causal_(causal) {}
  void attention(int l, kernels::AttentionInputs& inputs) override;

 private:
  kernels::Backend& on_;
  bool causal_;
  kernels::DeviceTensor bias_;
};

/// The value of position 0 is 0. Gates come from what the projection put out, untouched.
class ZeroV0 final : public Intervention {
 public:
  explicit ZeroV0(kernels::Backend& on) : on_(on) {}
  void attention(int l, kernels::AttentionInputs& inputs) override;

 private:
  kernels::Backend& on_;
};

/// Every gate is a constant.
class ConstantGates final : public Intervention {
 public:
  /// means[layer][gate] within [0, 1]; none: every gate is 1.
  ConstantGates(kernels::Backend& on, std::vector<std::vector<double>> means) : on_(on), means_(std::move(means)) {}
  void attention(int l, kernels::AttentionInputs& inputs) override;

 private:
  kernels::Backend& on_;
  std::vector<std::vector<double>> means_;
};

}  // namespace qfid::eval
