// What several backends answer alike when they are asked whether they support a problem.
#pragma once

#include "kernels/backend.h"

namespace qfid::kernels {

/// Whether the problem makes sense at all: validate()'s error as an answer.
template <class Problem>
Support valid(const Problem& problem) {
  try {
    validate(problem);
  } catch (const quant::Error& error) { return {false, error.what()}; }
  return {};
}

/// As valid(), for backends that run real products only.
template <class Problem>
Support valid_and_not_emulated(const Problem& problem) {
  if (Support s = valid(problem); !s) return s;
  if (problem.mode == ExecutionMode::emulated) return {false, "mode emulated runs on the reference backend"};
  return {};
}

/// One product of the whole K needs scales that don't change along it.
inline Support scales_constant_along_k(const LinearProblem& p) {
  const auto constant = [](const quant::QuantScheme& s) {
    const quant::GranularityKind kind = s.granularity.kind;
    return !quant::is_scaled(s.format) || (kind != quant::GranularityKind::group && kind != quant::GranularityKind::block);
  };
  if (constant(p.weights) && constant(p.activations)) return {};
  return {false,
          "granularity group and block run on the reference backend: scales that change along K need a product for each "
          "granule"};
}

}  // namespace qfid::kernels
