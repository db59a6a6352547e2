// A backend that isn't here: available() and supports() say why, everything else is Error{unavailable} with that reason.
#pragma once

#include <string>

#include "kernels/backend.h"

namespace qfid::kernels {

class AbsentBackend : public Backend {
 public:
  AbsentBackend(std::string name, std::string reason) : name_(std::move(name)), reason_(std::move(reason)) {}
  BackendInfo info() const override { return {name_, "", "", {}, 0}; }
  Support available() const override { return {false, reason_}; }
  Support supports(const LinearProblem&) const override { return {false, reason_}; }
  Support supports(const AttentionProblem&) const override { return {false, reason_}; }
  DeviceTensor upload(const quant::Tensor&) override { fail(); }
  quant::Tensor download(const DeviceTensor&) override { fail(); }
  std::unique_ptr<PreparedLinear> prepare(const LinearProblem&, const LinearWeights&) override { fail(); }
  DeviceTensor linear(PreparedLinear&, const DeviceTensor&, quant::CodeCounts*) override { fail(); }
  std::unique_ptr<PreparedAttention> prepare(const AttentionProblem&, const AttentionRanges&) override { fail(); }
  AttentionResult attention(PreparedAttention&, const AttentionInputs&, TapSink*) override { fail(); }
  DeviceTensor embedding(const DeviceTensor&, const DeviceTensor&) override { fail(); }
  DeviceTensor add(const DeviceTensor&, const DeviceTensor&) override { fail(); }
  DeviceTensor layer_norm(const DeviceTensor&, const DeviceTensor&, const DeviceTensor&, float) override { fail(); }
  DeviceTensor rms_norm(const DeviceTensor&, const DeviceTensor&, float) override { fail(); }
  DeviceTensor activation(const DeviceTensor&, Activation) override { fail(); }
  DeviceTensor rotary(const DeviceTensor&, std::int64_t, double) override { fail(); }
  DeviceTensor slice(const DeviceTensor&, std::int64_t, std::int64_t) override { fail(); }
  Reductions& reductions() override { fail(); }

 private:
  [[noreturn]] void fail() const {
    throw quant::Error(quant::ErrorKind::unavailable, "backend " + name_ + " is not available: " + reason_);
  }
  std::string name_, reason_;
};

}  // namespace qfid::kernels
