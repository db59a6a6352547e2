// A backend whose quantized operations go wrong on purpose, each in a way kernels really do: what an experiment is expected
// to find. Full-precision operations are the inner backend's, untouched.
#pragma once

#include <cmath>
#include <memory>
#include <optional>
#include <string>

#include "kernels/backend.h"

namespace qfid::tests {

enum class Fault : std::uint8_t {
  none,
  v_scale,       ///< one head's scale of V is 1 % too large
  k_transposed,  ///< one head's K is read as [d, T] instead of [T, d], in one layer
  p_scale,       ///< P is coded at scale 1, whatever was asked for
  fast_accum,    ///< linears keep 14 bits of a sum, cut after every 32 products
  not_finite,    ///< one value of one linear's output is infinite, in each chunk's first window
  gone,          ///< the device is lost: from some linear on, every one of them fails
  no_memory,     ///< one linear's result doesn't fit into memory
  stale_scale,   ///< one output channel of one linear is multiplied by the scale of other weights, 5 % off
};

/// Where: the place among quantized operations in the order in which a decoder prepares them, six linears and then attention
/// a layer.
struct FaultPlace {
  int layer = 0, head = 0;
  std::string linear = "q_proj";  ///< stale_scale: which, and which output channel
  int channel = 0;
  int calls = 0;  ///< gone, no_memory: so many quantized linears run before
};

class FaultyBackend final : public kernels::Backend {
 public:
  FaultyBackend(std::unique_ptr<kernels::Backend> inner, Fault fault, FaultPlace place)
      : inner_(std::move(inner)), fault_(fault), place_(std::move(place)) {}

  kernels::BackendInfo info() const override { return inner_->info(); }
  kernels::Support available() const override { return inner_->available(); }
  kernels::Support supports(const kernels::LinearProblem& p) const override { return inner_->supports(p); }
  kernels::Support supports(const kernels::AttentionProblem& p) const override { return inner_->supports(p); }
  kernels::DeviceTensor upload(const quant::Tensor& host) override { return inner_->upload(host); }
  quant::Tensor download(const kernels::DeviceTensor& tensor) override { return inner_->download(tensor); }
  std::unique_ptr<kernels::PreparedLinear> prepare(const kernels::LinearProblem&, const kernels::LinearWeights&) override;
  kernels::DeviceTensor linear(kernels::PreparedLinear&, const kernels::DeviceTensor&, quant::CodeCounts*) override;
  std::unique_ptr<kernels::PreparedAttention> prepare(const kernels::AttentionProblem&,
                                                      const kernels::AttentionRanges&) override;
  kernels::AttentionResult attention(kernels::PreparedAttention&, const kernels::AttentionInputs&,
                                     kernels::TapSink*) override;
  kernels::DeviceTensor embedding(const kernels::DeviceTensor& ids, const kernels::DeviceTensor& table) override {
    return inner_->embedding(ids, table);
  }
  kernels::DeviceTensor add(const kernels::DeviceTensor& a, const kernels::DeviceTensor& b) override {
    return inner_->add(a, b);
  }
  kernels::DeviceTensor layer_norm(const kernels::DeviceTensor& x, const kernels::DeviceTensor& gamma,
                                   const kernels::DeviceTensor& beta, float eps) override {
    return inner_->layer_norm(x, gamma, beta, eps);
  }
  kernels::DeviceTensor rms_norm(const kernels::DeviceTensor& x, const kernels::DeviceTensor& gamma, float eps) override {
    return inner_->rms_norm(x, gamma, eps);
  }
  kernels::DeviceTensor activation(const kernels::DeviceTensor& x, kernels::Activation kind) override {
    return inner_->activation(x, kind);
  }
  kernels::DeviceTensor rotary(const kernels::DeviceTensor& x, std::int64_t first, double theta) override {
    return inner_->rotary(x, first, theta);
  }
  kernels::DeviceTensor slice(const kernels::DeviceTensor& x, std::int64_t begin, std::int64_t end) override {
    return inner_->slice(x, begin, end);
  }
  /// What the device says is free, where a test says so.
  void set_free_memory(std::int64_t bytes) { free_memory_ = bytes; }
  std::optional<std::int64_t> free_memory() const override { return free_memory_; }
  kernels::Reductions& reductions() override { return inner_->reductions(); }

 private:
  std::unique_ptr<kernels::Backend> inner_;
  Fault fault_;
  FaultPlace place_;
  std::optional<std::int64_t> free_memory_;
  int linears_ = 0, attentions_ = 0;  ///< quantized ones prepared so far
  int runs_ = 0;                      ///< quantized linears
};

}  // namespace qfid::tests
