// A target's meaning for one model: the schemes of every module, overrides applied.
#pragma once

#include <string>

#include "eval/experiment/spec.h"
#include "eval/model/decoder_weights.h"
#include "eval/model/precision.h"

namespace qfid::eval {

DecoderPrecision precision_of(const TargetSpec& target, const ModelConfig& config);

/// Whether every module runs in f32: nothing to emulate.
bool is_full_precision(const DecoderPrecision& precision);

/// "real", "emulated", "library" or "simulated".
std::string mode_of(const TargetSpec& target);

/// One line: mode, linear and attention schemes in canonical spelling, number of overrides.
std::string describe(const TargetSpec& target);

/// "softmax", "gate value->output", "gate hidden->value", "learnable sink", ...
std::string variant_name(const ModelConfig& config);

}  // namespace qfid::eval
