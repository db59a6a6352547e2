// What a precision costs in memory, from its schemes: computed, not measured, so the same on every backend.
#pragma once

#include <vector>

#include "eval/metrics/metric.h"
#include "eval/model/decoder_weights.h"
#include "eval/model/precision.h"

namespace qfid::eval {

/// Bytes of all weights as the precision stores them: codes, f32 scales, and everything that isn't quantized in f32. A head
/// tied to the embedding costs its own copy once it has another format.
double weight_bytes(const ModelConfig& config, const DecoderPrecision& precision);
/// Bytes that one token adds to the key/value cache of all layers in the formats of k and v, scales included. Scales that
/// many tokens share are spread over the model's context.
double kv_bytes_per_token(const ModelConfig& config, const DecoderPrecision& precision);

/// `weights.bytes`, `kv_cache.bytes_per_token`.
std::vector<Metric> footprint_metrics(const ModelConfig& config, const DecoderPrecision& precision);

}  // namespace qfid::eval
